//! Vectors: made up ones of any size, and real ones from Parquet.
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, RecordBatch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::Trouble;

/// Groups that made-up vectors lie in.
const CENTRES: usize = 256;
/// How far they lie from the middle of their group, beside its own length of about 1.
const SPREAD: f32 = 0.4;

/// Seeded vectors in groups, since evenly spread ones are harder than any real data.
#[derive(Debug)]
pub struct Synthetic {
    dim: usize,
    random: Random,
    centres: Vec<f32>,
}

impl Synthetic {
    /// The same vectors for the same `dim`.
    pub fn new(dim: usize) -> Self {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let scale = 1.0 / (dim as f32).sqrt();
        let centres = (0..CENTRES * dim).map(|_| random.normal() * scale).collect();
        Self { dim, random, centres }
    }

    /// The next one.
    pub fn next_vector(&mut self) -> Vec<f32> {
        let start = (self.random.next() as usize % CENTRES) * self.dim;
        let scale = SPREAD / (self.dim as f32).sqrt();
        let centre = &self.centres[start..start + self.dim];
        centre.iter().map(|component| component + self.random.normal() * scale).collect()
    }
}

/// xorshift64*: good enough to place vectors, and the same everywhere.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// Nearly normal: the sum of four even ones, of variance 1.
    fn normal(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| (self.next() & 0xffff) as f32 / 65536.0 - 0.5).sum();
        sum * 1.732
    }
}

/// A point of a data set.
#[derive(Debug, Clone)]
pub struct Row {
    pub id: String,
    pub vector: Vec<f32>,
}

/// A question with its true answers, best first.
#[derive(Debug, Clone)]
pub struct Question {
    pub vector: Vec<f32>,
    pub truth: Vec<String>,
}

/// Reads `passages.parquet` of a directory.
pub fn rows(dir: &Path, max: usize) -> Result<Vec<Row>, Trouble> {
    let mut rows = Vec::new();
    for batch in open(&dir.join("passages.parquet"))? {
        let batch = batch?;
        let ids = column(&batch, "id")?;
        let ids = ids.as_string_opt::<i32>().ok_or("id is not a string column")?;
        let vectors = vectors(&batch)?;
        rows.extend(
            vectors
                .into_iter()
                .enumerate()
                .map(|(row, vector)| Row { id: ids.value(row).to_owned(), vector }),
        );
        if rows.len() >= max {
            rows.truncate(max);
            break;
        }
    }
    Ok(rows)
}

/// Reads `passages-queries.parquet` of a directory.
pub fn questions(dir: &Path) -> Result<Vec<Question>, Trouble> {
    let mut questions = Vec::new();
    for batch in open(&dir.join("passages-queries.parquet"))? {
        let batch = batch?;
        let truths = column(&batch, "truth").or_else(|_| column(&batch, "truth_all"))?;
        let truths = truths.as_list_opt::<i32>().ok_or("the truth is not a list")?;
        for (row, vector) in vectors(&batch)?.into_iter().enumerate() {
            let truth = truths.value(row);
            let truth = truth.as_string_opt::<i32>().ok_or("the truth is not a list of ids")?;
            let truth = (0..truth.len()).map(|at| truth.value(at).to_owned()).collect();
            questions.push(Question { vector, truth });
        }
    }
    Ok(questions)
}

fn open(path: &Path) -> Result<impl Iterator<Item = Result<RecordBatch, Trouble>>, Trouble> {
    let file =
        std::fs::File::open(path).map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    Ok(ParquetRecordBatchReaderBuilder::try_new(file)?.build()?.map(|batch| batch.map_err(Trouble::from)))
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a dyn Array, Trouble> {
    Ok(&**batch.column_by_name(name).ok_or_else(|| format!("there is no column {name:?}"))?)
}

fn vectors(batch: &RecordBatch) -> Result<Vec<Vec<f32>>, Trouble> {
    let lists = column(batch, "embedding")?;
    let lists = lists.as_fixed_size_list_opt().ok_or("embedding is not a fixed-size list")?;
    (0..batch.num_rows())
        .map(|row| {
            let list = lists.value(row);
            Ok(list.as_primitive_opt::<Float32Type>().ok_or("embedding is not f32")?.values().to_vec())
        })
        .collect()
}
