//! What is written is what is read.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use roaring::RoaringBitmap;

use super::fixture::{OwnedRow, plain, read_everything, small_rows, small_tombstones, write, write_as};
use crate::store::{
    Deletes, PickedRows, RowRef, Segment, SegmentId, SegmentInput, SegmentMeta, SegmentWriter, StoreError,
    VectorForm,
};
use crate::types::{Column, Distance, ErrorKind, Lsn, PointId, columns_of};

fn assert_same(rows: &[OwnedRow], dir: &std::path::Path, meta: &crate::store::SegmentMeta) {
    let read = read_everything(dir, meta).unwrap();
    assert_eq!(read.rows, rows);
    for (row, owned) in rows.iter().enumerate() {
        assert_eq!(read.rows[row].id.is_integer(), owned.id.is_integer());
        assert_eq!(read.found[row], Some(row as u32));
    }
    assert_eq!(read.found[rows.len()..], [None, None]);
    let payloads: Vec<_> = rows.iter().map(OwnedRow::parsed).collect();
    let expected = columns_of(&payloads);
    let names: Vec<_> = read.fields.iter().map(|(field, _)| field).collect();
    assert_eq!(names, expected.keys().collect::<Vec<_>>());
    for ((field, column), read) in expected.iter().zip(&read.columns) {
        assert_eq!(read.as_ref(), Some(&plain(column)), "field {field}");
    }
    assert_eq!(read.columns.last(), Some(&None), "no row has the field `absent`");
}

#[test]
fn rows_ids_payloads_and_columns_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let rows = small_rows();
    let meta = write(dir.path(), 3, &rows, &small_tombstones()).unwrap();
    assert_eq!((meta.rows, meta.tombstones), (5, 2));
    assert_eq!((meta.min_lsn, meta.max_lsn), (Lsn(10), Lsn(91)));
    assert_eq!(meta.min_event_time_ms, Some(1_700_000_000_000));
    assert_eq!(meta.max_event_time_ms, Some(1_700_000_001_000));
    for file in meta.files() {
        let bytes = std::fs::metadata(dir.path().join(&file.name)).unwrap().len();
        assert_eq!(bytes, file.bytes, "{}", file.name);
    }
    assert_same(&rows, dir.path(), &meta);
}

#[test]
fn a_segment_may_hold_nothing_but_tombstones_or_nothing_at_all() {
    let dir = tempfile::tempdir().unwrap();
    for tombstones in [small_tombstones(), Vec::new()] {
        let meta = write(dir.path(), 3, &[], &tombstones).unwrap();
        assert_eq!((meta.rows, meta.min_event_time_ms), (0, None));
        assert_same(&[], dir.path(), &meta);
    }
}

#[test]
fn row_groups_hold_whole_clusters() {
    let dir = tempfile::tempdir().unwrap();
    let rows: Vec<OwnedRow> = (0..10_000).map(|row| OwnedRow::new(row, 2, "{\"n\": 1}")).collect();
    let borrowed: Vec<RowRef<'_>> = rows.iter().map(OwnedRow::borrowed).collect();
    let input = SegmentInput {
        id: SegmentId::new(),
        dim: 2,
        distance: Distance::L2,
        rows: &borrowed,
        clusters: &[0, 3_000, 5_000, 9_000],
        tombstones: &small_tombstones(),
        vectors: VectorForm::Packed,
    };
    let meta = SegmentWriter::write(dir.path(), &input).unwrap();
    let file = std::fs::File::open(dir.path().join(&meta.parquet.name)).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let groups: Vec<i64> = reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(groups, [5_000, 5_000, 2], "deletes have their own");
    let segment = Segment::open(dir.path(), &meta).unwrap();
    assert_eq!(segment.row(8_999).unwrap(), borrowed[8_999]);
    assert_eq!(
        (segment.column("n").unwrap().unwrap().len(), segment.tombstones().unwrap().len()),
        (10_000, 2)
    );
    segment.verify().unwrap();
}

#[test]
fn picked_rows_of_several_segments_make_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let rows = small_rows();
    let first = write(dir.path(), 3, &rows[..2], &[]).unwrap();
    let second = write(dir.path(), 3, &rows[2..], &[]).unwrap();
    let open = |meta| Arc::new(Segment::open(dir.path(), meta).unwrap());
    let stop = AtomicBool::new(false);
    let picked = PickedRows::new(vec![open(&first), open(&second)], vec![(1, 2), (0, 0), (1, 0)], &stop);
    let input = SegmentInput {
        id: SegmentId::new(),
        dim: 3,
        distance: Distance::Cosine,
        rows: &picked,
        clusters: &[],
        tombstones: &[],
        vectors: VectorForm::Packed,
    };
    let meta = SegmentWriter::write(dir.path(), &input).unwrap();
    assert_same(&[rows[4].clone(), rows[0].clone(), rows[2].clone()], dir.path(), &meta);

    stop.store(true, Ordering::Relaxed);
    let files = || std::fs::read_dir(dir.path()).unwrap().count();
    let before = files();
    let stopped = SegmentWriter::write(dir.path(), &SegmentInput { id: SegmentId::new(), ..input });
    assert!(matches!(stopped, Err(StoreError::Stopped)), "{stopped:?}");
    assert_eq!(files(), before, "what was given up is gone");
}

/// The vector column as other readers see it.
fn parquet_vectors(dir: &std::path::Path, meta: &SegmentMeta) -> Vec<Option<Vec<f32>>> {
    let file = std::fs::File::open(dir.join(&meta.parquet.name)).unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["vector"]);
    let reader = builder.with_projection(mask).build().unwrap();
    let mut vectors = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        let lists = batch.column(0).as_fixed_size_list();
        vectors.extend(
            lists.iter().map(|list| list.map(|list| list.as_primitive::<Float32Type>().values().to_vec())),
        );
    }
    vectors
}

#[test]
fn both_forms_of_vectors_are_the_same_lists_of_floats_to_a_parquet_reader() {
    let dir = tempfile::tempdir().unwrap();
    // Several pages, the last one shorter; one page; lists of one float; more than one row group.
    for (rows, dim) in [(3000, 200), (5, 3), (9, 1), (66_000, 2)] {
        let rows: Vec<OwnedRow> = (0..rows).map(|row| OwnedRow::new(row, dim, "")).collect();
        let dead = small_tombstones();
        let expected: Vec<_> =
            rows.iter().map(|row| Some(row.vector.clone())).chain(dead.iter().map(|_| None)).collect();
        for form in [VectorForm::Plain, VectorForm::Packed] {
            let meta = write_as(dir.path(), dim as u32, &rows, &dead, form).unwrap();
            assert_eq!(parquet_vectors(dir.path(), &meta), expected, "{form:?} {dim}");
            Segment::open(dir.path(), &meta).unwrap().verify().unwrap();
        }
    }
}

#[test]
fn columns_are_kept_counted_and_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let meta = write(dir.path(), 3, &small_rows(), &[]).unwrap();
    let segment = Segment::open(dir.path(), &meta).unwrap();
    assert_eq!(segment.cached_bytes(), 0);
    assert!(matches!(segment.column("price").unwrap(), Some(Column::Float(_))));
    let one = segment.cached_bytes();
    assert!(one > 0);
    segment.column("price").unwrap();
    segment.column("absent").unwrap();
    assert_eq!(segment.cached_bytes(), one, "kept once, and nothing for a field that is not there");
    segment.column("mixed").unwrap();
    assert!(segment.cached_bytes() > one);
    assert!(segment.drop_columns() > one);
    assert_eq!(segment.cached_bytes(), 0);
}

#[test]
fn an_open_segment_outlives_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let rows = small_rows();
    let meta = write(dir.path(), 3, &rows, &[]).unwrap();
    let segment = Segment::open(dir.path(), &meta).unwrap();
    for file in [&meta.vec, &meta.ids, &meta.payload] {
        std::fs::remove_file(dir.path().join(&file.name)).unwrap();
    }
    assert_eq!(segment.row(4).unwrap(), rows[4].borrowed());
}

#[test]
fn bad_rows_are_refused_with_their_place_and_leave_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let good = small_rows();
    let mut twice = good.clone();
    twice[4].id = twice[1].id.clone();
    let mut short = good.clone();
    short[2].vector.pop();
    let mut broken = good.clone();
    broken[3].payload = "{\"a\": ".into();
    for (rows, part) in [
        (twice, "rows 1 and 4 both have the id \"point-0001\""),
        (short, "row 2 has 2 components, expected 3"),
        (broken, "the payload of row 3 (id \"point-0003\")"),
    ] {
        let error = write(dir.path(), 3, &rows, &[]).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
    assert!(write(dir.path(), 0, &[], &[]).is_err());
}

#[test]
fn dead_rows_come_back_and_must_exist() {
    let dir = tempfile::tempdir().unwrap();
    let meta = write(dir.path(), 3, &small_rows(), &[]).unwrap();
    let deletes = Deletes { rows: RoaringBitmap::from([0, 4]), as_of: Lsn(33) };
    let file = deletes.write(dir.path(), &meta, 12).unwrap();
    assert_eq!(file.file.name, format!("{}.12.del", meta.id));
    assert_eq!((file.count, file.as_of), (2, Lsn(33)));
    assert_eq!(Deletes::read(dir.path(), &meta, &file).unwrap(), deletes);
    let beyond = Deletes { rows: RoaringBitmap::from([5]), as_of: Lsn(33) };
    assert!(matches!(beyond.write(dir.path(), &meta, 13), Err(StoreError::Invalid { .. })));
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (-5i64..5).prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        (-1e9..1e9f64).prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Into::into),
            prop::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|map: BTreeMap<_, _>| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

fn payload() -> impl Strategy<Value = String> {
    // Few names, so that fields meet values of several types; some that clash with our own columns.
    let name =
        prop_oneof!["[a-e]", "[A-B]", Just("lsn".to_string()), Just("payload.lsn".to_string()), ".{0,2}"];
    prop_oneof![
        Just(String::new()),
        prop::collection::btree_map(name, json_value(), 0..5)
            .prop_map(|map| serde_json::to_string(&map).unwrap()),
    ]
}

fn row(dim: usize) -> impl Strategy<Value = OwnedRow> {
    let vector = prop::collection::vec(any::<f32>().prop_filter("finite", |x| x.is_finite()), dim);
    (any::<bool>(), any::<u64>(), any::<i32>(), vector, payload()).prop_map(
        |(integer, number, event_time, vector, payload)| {
            let id = match integer {
                true => PointId::integer(number),
                false => PointId::text(format!("é{number:x}")).unwrap(),
            };
            OwnedRow { id, lsn: number / 3, event_time_ms: event_time.into(), vector, payload }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_rows_come_back(rows in (1usize..6).prop_flat_map(|dim| prop::collection::vec(row(dim), 0..40))) {
        let mut rows = rows;
        let mut seen = std::collections::HashSet::new();
        rows.retain(|row| seen.insert(row.id.clone()));
        let dim = rows.first().map_or(1, |row| row.vector.len());
        let dir = tempfile::tempdir().unwrap();
        let meta = write(dir.path(), dim as u32, &rows, &small_tombstones()).unwrap();
        assert_same(&rows, dir.path(), &meta);
    }
}

/// Writes segments for `tests/readers/check_viper.py` into the directory that `PROXIMADB_VIPER_DIR` names.
#[test]
fn files_for_other_readers() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = std::env::var_os("PROXIMADB_VIPER_DIR").map_or_else(|| temporary.path().to_owned(), Into::into);
    std::fs::create_dir_all(&dir).unwrap();
    for tombstones in [small_tombstones(), Vec::new()] {
        write(&dir, 3, &small_rows(), &tombstones).unwrap();
    }
    write(&dir, 3, &[], &small_tombstones()).unwrap();
    let payload = |row: u64| format!(r#"{{"n": {row}, "lang": "l{}", "tags": [{row}]}}"#, row % 5);
    let rows: Vec<_> = (0..70_000).map(|row| OwnedRow::new(row, 8, &payload(row))).collect();
    for form in [VectorForm::Plain, VectorForm::Packed] {
        write_as(&dir, 8, &rows, &small_tombstones(), form).unwrap();
    }
}
