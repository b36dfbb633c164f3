//! Clusters of real text: the passages in the repository.
#![allow(clippy::unwrap_used)]
use std::fs;
use std::path::Path;

use super::tests::{build, scattered};
use crate::index::test_data::Data;
use crate::types::Distance;

/// Real text, at the default of `ef_search`; the share of rows looked at is what clusters are for.
#[test]
fn finds_passages() {
    let (rows, queries) = (passages("passages.parquet", 8_000), passages("passages-queries.parquet", 60));
    let data = Data { dim: 384, rows: rows.concat(), distance: Distance::Cosine };
    let built = build(data);
    let recall = built.recall(&queries, &|_| true);
    assert!(recall >= 0.95, "{recall}");
    let recall = built.recall(&queries, &|row| scattered(row, 10));
    assert!(recall >= 0.95, "of a tenth: {recall}");
    let visited = built.search(&queries[0], 10, &|_| true).visited;
    assert!(visited < 2_400, "{visited} of 8,000");
}

/// The first vectors of a file in the repository.
fn passages(name: &str, count: usize) -> Vec<Vec<f32>> {
    use arrow_array::cast::AsArray;
    use arrow_array::types::Float32Type;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name);
    let file = fs::File::open(path).unwrap();
    let batches = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let mut vectors = Vec::new();
    for rows in batches.build().unwrap() {
        let rows = rows.unwrap();
        let column = rows.column_by_name("embedding").unwrap().as_fixed_size_list();
        for row in 0..rows.num_rows() {
            let mut vector = column.value(row).as_primitive::<Float32Type>().values().to_vec();
            proximadb_kernels::distance::normalize(&mut vector);
            vectors.push(vector);
        }
    }
    vectors.truncate(count);
    vectors
}
