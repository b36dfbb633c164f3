#![allow(clippy::unwrap_used)]
use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::FileSource;
use crate::config::pipeline::{BatchSpec, ByteSize, FileSpec, PipelineSpec, SourceSpec};
use crate::decode::{NoSchemas, Target, build};
use crate::ingest::{DryRun, dry_run};
use crate::source::{Polled, PositionLookup, Source};
use crate::types::{Distance, PartitionPosition, Position, RawBatch, RawRows};

/// What the log holds, as the tests say.
#[derive(Default)]
struct Log(Mutex<HashMap<String, u64>>);

impl PositionLookup for Log {
    fn position(&self, partition: &str) -> Option<PartitionPosition> {
        let position = *self.0.lock().get(partition)?;
        Some(PartitionPosition { epoch: 3, position: Some(position.into()) })
    }
}

fn source(spec: Value, records: u32, log: &Arc<Log>) -> FileSource {
    let spec: FileSpec = serde_json::from_value(spec).unwrap();
    let batch = BatchSpec { max_records: records, max_bytes: ByteSize(1 << 20), ..BatchSpec::default() };
    FileSource::open(&spec, &batch, log.clone()).unwrap()
}

fn next(source: &mut FileSource) -> Polled {
    source.next_batch(Duration::from_millis(5)).unwrap()
}

fn batch(source: &mut FileSource) -> RawBatch {
    match next(source) {
        Polled::Batch(batch) => batch,
        other => unreachable!("{other:?}"),
    }
}

/// `(from, to, [(position, text)])`
fn shown(batch: &RawBatch) -> Value {
    let RawRows::Records(records) = &batch.rows else { unreachable!() };
    let records: Vec<_> = records
        .iter()
        .map(|record| json!([record.position, String::from_utf8_lossy(record.value.as_ref().unwrap())]))
        .collect();
    json!([batch.from, batch.to, records])
}

fn error(result: Result<Polled, crate::source::SourceError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn lines_have_the_bytes_consumed_as_positions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl").to_str().unwrap().to_string();
    std::fs::write(&path, "\u{feff}{1}\r\n\n  {2}\n{33}\n\n{4}").unwrap();
    let log = Arc::new(Log::default());
    let mut lines = source(json!({"path": path}), 2, &log);
    let first = batch(&mut lines);
    assert_eq!(&*first.partition, path);
    assert_eq!(shown(&first), json!([null, 15, [[8, "{1}"], [15, "{2}"]]]));
    assert_eq!(shown(&batch(&mut lines)), json!([15, 24, [[20, "{33}"], [24, "{4}"]]]));
    assert!(matches!(next(&mut lines), Polled::Finished));
    assert_eq!(lines.lag()[0].behind, Some(0));

    log.0.lock().insert(path.clone(), 15);
    lines.rewind(&path).unwrap();
    let again = batch(&mut lines);
    assert_eq!((shown(&again), again.epoch), (json!([15, 24, [[20, "{33}"], [24, "{4}"]]]), 3));
    for (position, expected) in
        [(16, "has no line's end at byte 16"), (25, "has 24 bytes, the log holds position 25")]
    {
        log.0.lock().insert(path.clone(), position);
        lines.rewind(&path).unwrap();
        let found = error(lines.next_batch(Duration::ZERO));
        assert!(found.contains(expected) && found.contains("under a new name"), "{found}");
    }
    log.0.lock().insert(path.clone(), 24);
    lines.rewind(&path).unwrap();
    assert!(matches!(next(&mut lines), Polled::Finished));
}

#[test]
fn several_files_are_partitions_in_order() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b.jsonl", "a.jsonl", "empty.jsonl"] {
        std::fs::write(folder.path().join(name), if name == "empty.jsonl" { "" } else { name }).unwrap();
    }
    let pattern = format!("{}/*.jsonl", folder.path().display());
    let mut files = source(json!({"path": pattern}), 10, &Arc::default());
    let names: Vec<_> =
        (0..2).map(|_| batch(&mut files).partition.rsplit_once('/').unwrap().1.to_string()).collect();
    assert_eq!(names, ["a.jsonl", "b.jsonl"]);
    assert!(matches!(next(&mut files), Polled::Finished));
    let spec: FileSpec = serde_json::from_value(json!({"path": "nowhere.jsonl"})).unwrap();
    let mut missing = FileSource::open(&spec, &BatchSpec::default(), Arc::new(Log::default())).unwrap();
    assert!(error(missing.next_batch(Duration::ZERO)).contains("nowhere.jsonl failed"));
}

#[test]
fn followed_files_wait_for_newlines_and_notice_being_cut_or_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    let mut file = std::fs::File::create(&path).unwrap();
    let mut lines = source(json!({"path": path, "follow": true}), 10, &Arc::default());
    assert!(matches!(next(&mut lines), Polled::Idle));
    file.write_all(b"{1}\n{2").unwrap();
    assert_eq!(shown(&batch(&mut lines)), json!([null, 4, [[4, "{1}"]]]));
    assert!(matches!(next(&mut lines), Polled::Idle));
    file.write_all(b"2}\n").unwrap();
    assert_eq!(shown(&batch(&mut lines)), json!([4, 9, [[9, "{22}"]]]));
    file.write_all(b"\n").unwrap();
    assert_eq!(shown(&batch(&mut lines)), json!([9, 10, []]));
    file.set_len(3).unwrap();
    assert!(
        error(lines.next_batch(Duration::ZERO))
            .contains("has 3 bytes, 10 were read: it was cut or replaced since")
    );

    std::fs::write(&path, "{1}\n").unwrap();
    let mut lines = source(json!({"path": path, "follow": true}), 10, &Arc::default());
    batch(&mut lines);
    std::fs::write(folder.path().join("new"), "{1}\n{2}\n").unwrap();
    std::fs::rename(folder.path().join("new"), &path).unwrap();
    assert!(error(lines.next_batch(Duration::ZERO)).contains("is not the file that was opened"));
}

#[test]
fn batches_are_bounded_by_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    std::fs::write(&path, "{123456}\n".repeat(100)).unwrap();
    let spec: FileSpec = serde_json::from_value(json!({"path": path})).unwrap();
    let bounds = BatchSpec { max_bytes: ByteSize(20), ..BatchSpec::default() };
    let mut lines = FileSource::open(&spec, &bounds, Arc::new(Log::default())).unwrap();
    let (mut count, mut batches) = (0, 0);
    while let Polled::Batch(batch) = next(&mut lines) {
        count += batch.len();
        batches += 1;
        assert!(batch.len() <= 3);
    }
    assert_eq!((count, batches), (100, 34));
}

fn avro_file(path: &std::path::Path, codec: apache_avro::Codec, records: i64) {
    let schema = apache_avro::Schema::parse_str(
        r#"{"type":"record","name":"R","fields":[{"name":"id","type":"long"},{"name":"v","type":{"type":"array","items":"float"}}]}"#,
    )
    .unwrap();
    let mut writer = apache_avro::Writer::builder()
        .schema(&schema)
        .writer(Vec::new())
        .codec(codec)
        .block_size(100)
        .build()
        .unwrap();
    for id in 0..records {
        use apache_avro::types::Value as Avro;
        let vector = Avro::Array(vec![Avro::Float(id as f32), Avro::Float(0.5)]);
        writer.append_value(Avro::Record(vec![("id".into(), Avro::Long(id)), ("v".into(), vector)])).unwrap();
    }
    std::fs::write(path, writer.into_inner().unwrap()).unwrap();
}

fn dry(path: &std::path::Path, count: usize) -> DryRun {
    let text = format!(
        "version: 1\npipeline: p\nsource: {{file: {{path: \"{}\"}}}}\nmap: {{id: $.id, vector: {{field: $.v, dim: 2}}}}\nsink: {{collection: c, create: {{distance: l2}}}}\nbatch: {{max_records: 7}}\n",
        path.display()
    );
    let spec = PipelineSpec::from_yaml(&text, "x").unwrap();
    let SourceSpec::File(file) = &spec.source else { unreachable!("the text names files") };
    let positions: Arc<dyn PositionLookup> = Arc::new(Log::default());
    let mut source = FileSource::open(file, &spec.batch, positions).unwrap();
    let distance = spec.sink.create.as_ref().map_or(Distance::Dot, |create| create.distance);
    let target = Target { dim: spec.map.vector.dim, distance };
    let mut decoder = build(&spec, target, Arc::new(NoSchemas)).unwrap();
    dry_run(&mut source, decoder.as_mut(), count, Duration::from_secs(5)).unwrap()
}

#[test]
fn avro_files_of_every_codec_are_read_from_any_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.avro");
    for codec in [
        apache_avro::Codec::Null,
        apache_avro::Codec::Deflate(apache_avro::DeflateSettings::default()),
        apache_avro::Codec::Snappy,
        apache_avro::Codec::Zstandard(apache_avro::ZstandardSettings::default()),
    ] {
        avro_file(&path, codec, 50);
        let run = dry(&path, 40);
        assert_eq!(run.rows.len(), 40);
        assert!(
            (0..).zip(&run.rows).all(|(index, row)| row.vector == [index as f32, 0.5]
                && row.position == Some((index as u64).into()))
        );
    }
    let log = Arc::new(Log::default());
    for at in 0..50_u64 {
        log.0.lock().insert(path.to_str().unwrap().into(), at);
        let mut records = source(json!({"path": path}), 1, &log);
        match next(&mut records) {
            Polled::Batch(batch) => {
                assert_eq!((batch.from, batch.to), (Some(at.into()), Position::from(at + 1)))
            }
            _ => assert_eq!(at, 49),
        }
    }
    log.0.lock().insert(path.to_str().unwrap().into(), 50);
    assert!(
        error(source(json!({"path": path}), 1, &log).next_batch(Duration::ZERO)).contains("has 50 records")
    );
}

#[test]
fn damaged_avro_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.avro");
    avro_file(&path, apache_avro::Codec::Null, 50);
    let bytes = std::fs::read(&path).unwrap();
    let read_all = || -> Result<usize, crate::source::SourceError> {
        let mut records = source(json!({"path": path}), 100, &Arc::default());
        let mut count = 0;
        while let Polled::Batch(batch) = records.next_batch(Duration::ZERO)? {
            count += batch.len();
        }
        Ok(count)
    };
    assert_eq!(read_all().unwrap(), 50);
    let mut refused = 0;
    for end in 0..bytes.len() {
        std::fs::write(&path, &bytes[..end]).unwrap();
        match read_all() {
            // Cut between two blocks it is a shorter file.
            Ok(count) => assert!(count < 50),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > bytes.len() - 20, "{refused} of {}", bytes.len());
    for index in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[index] ^= 0x55;
        std::fs::write(&path, &flipped).unwrap();
        let _ = read_all();
    }
}

fn parquet_file(path: &std::path::Path) {
    use arrow_array::builder::{FixedSizeListBuilder, Float32Builder};
    use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    let mut vectors = FixedSizeListBuilder::new(Float32Builder::new(), 2);
    for row in 0..100 {
        vectors.values().append_slice(&[row as f32, 0.5]);
        vectors.append(true);
    }
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from_iter_values(0..100))),
        ("v", Arc::new(vectors.finish())),
        ("text", Arc::new(StringArray::from_iter_values((0..100).map(|row| format!("row {row}"))))),
    ];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let properties =
        parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(30)).build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, rows.schema(), Some(properties)).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
}

#[test]
fn parquet_files_are_read_from_any_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    parquet_file(&path);
    let run = dry(&path, 95);
    assert_eq!(run.rows.len(), 95);
    assert!((0..).zip(&run.rows).all(|(index, row)| row.vector == [index as f32, 0.5]
        && row.payload == json!({"text": format!("row {index}")})));
    let log = Arc::new(Log::default());
    for at in [0, 5, 28, 29, 30, 59, 60, 98, 99_u64] {
        log.0.lock().insert(path.to_str().unwrap().into(), at);
        let mut rows = source(json!({"path": path}), 40, &log);
        let mut expected = at + 1;
        while let Polled::Batch(batch) = next(&mut rows) {
            let RawRows::Columns { rows, first } = &batch.rows else { unreachable!() };
            let ids =
                arrow_array::cast::AsArray::as_primitive::<arrow_array::types::Int64Type>(rows.column(0));
            assert_eq!(first.as_u64(), expected);
            assert!(ids.values().iter().zip(expected..).all(|(id, row)| *id as u64 == row));
            expected += rows.num_rows() as u64;
            assert_eq!(batch.to.as_u64(), expected - 1);
        }
        assert_eq!(expected, 100, "from {at}");
        assert_eq!(rows.lag()[0].behind, Some(0));
    }
    log.0.lock().insert(path.to_str().unwrap().into(), 100);
    assert!(
        error(source(json!({"path": path}), 1, &log).next_batch(Duration::ZERO)).contains("has 100 rows")
    );
    std::fs::write(&path, "not parquet").unwrap();
    assert!(
        error(source(json!({"path": path}), 1, &Arc::default()).next_batch(Duration::ZERO))
            .contains("cannot be read as Parquet")
    );
}
