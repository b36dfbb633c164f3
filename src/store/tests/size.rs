//! A segment of several row groups: one type per field throughout, and quick to open.
use std::time::Instant;

use super::fixture::{OwnedRow, write_as};
use crate::store::{Segment, VectorForm};
use crate::types::Column;

#[test]
fn a_hundred_thousand_rows_open_in_milliseconds() {
    let rows: Vec<OwnedRow> = (0..100_000u64)
        .map(|row| {
            // An integer in the first row groups and a fraction in the last: the field is a float in all.
            let price = if row == 99_999 { "0.5".to_string() } else { row.to_string() };
            let payload = format!(r#"{{"lang": "l{}", "price": {price}, "mixed": [{row}]}}"#, row % 7);
            OwnedRow::new(row, 32, &payload)
        })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let meta = write_as(dir.path(), 32, &rows, &[], VectorForm::Plain).unwrap();
    let (wrote, start) = (start.elapsed(), Instant::now());
    let segment = Segment::open(dir.path(), &meta).unwrap();
    let (opened, start) = (start.elapsed(), Instant::now());
    let ids = segment.ids().unwrap();
    let (ids_checked, start) = (start.elapsed(), Instant::now());
    let found = rows.iter().all(|row| ids.find(row.id.as_str()).is_some());
    let (looked_up, start) = (start.elapsed(), Instant::now());
    let absent = (0..100_000).all(|row| ids.find(&format!("absent-{row}")).is_none());
    let (missed, start) = (start.elapsed(), Instant::now());
    segment.vectors().unwrap();
    let (vectors_checked, start) = (start.elapsed(), Instant::now());
    let column = segment.column("price").unwrap().unwrap();
    let column_read = start.elapsed();
    println!(
        "100,000 x 32: write {wrote:?}, open {opened:?}, check ids {ids_checked:?}, find all {looked_up:?}, \
         find none {missed:?}, check vectors {vectors_checked:?}, read a column {column_read:?}; \
         parquet {} vec {} ids {} payload {} bytes",
        meta.parquet.bytes, meta.vec.bytes, meta.ids.bytes, meta.payload.bytes
    );
    assert!(found && absent);
    assert!(opened.as_millis() < 500, "generous: the machine may be busy");
    match column {
        Column::Float(prices) => assert_eq!((prices.value(3), prices.value(99_999)), (3.0, 0.5)),
        other => panic!("{other:?}"),
    }
    assert!(
        matches!(segment.column("mixed").unwrap(), Some(Column::Json(a)) if a.value(70_000) == "[70000]")
    );
    assert!(matches!(segment.column("lang").unwrap(), Some(Column::Text(a)) if a.value(70_000) == "l0"));
    assert_eq!(segment.row(70_000).unwrap(), rows[70_000].borrowed());
}
