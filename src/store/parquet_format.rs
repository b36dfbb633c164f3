//! VIPER: what our Parquet files look like, so that any Parquet reader makes sense of them.
//!
//! | column | type | |
//! |---|---|---|
//! | `id` | string | |
//! | `id_is_integer` | bool | the id came as an integer |
//! | `lsn` | u64 | the log entry that wrote the row; the highest one wins, of equal ones the live row |
//! | `event_time` | timestamp, ms, UTC | |
//! | `deleted` | bool | a tombstone: everything but the columns above is null |
//! | `vector` | list of `dim` f32 | |
//! | one per payload field | bool, i64, f64 or string | the field's name, see [`column_name`] |
//! | `payload_json` | string | an object with all fields that have no column of their own; null if none |
//!
//! Live rows come first, in row order; tombstones follow. A field gets a column if all its values have one
//! type ([`FieldType`]); of more than [`COLUMNS_MAX`] such fields the most frequent do. The key-value
//! metadata `proximadb.viper` holds [`ViperMeta`] as JSON.
use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{SegmentId, StoreError};
use crate::types::{Distance, FieldType, FieldTypes};

/// The version that this program writes, and the only one it reads.
pub(crate) const VIPER_VERSION: u32 = 1;
/// The metadata key.
pub(crate) const META_KEY: &str = "proximadb.viper";
/// Column of the fields without one.
pub(crate) const JSON_COLUMN: &str = "payload_json";
const RESERVED: [&str; 7] = ["id", "id_is_integer", "lsn", "event_time", "deleted", "vector", JSON_COLUMN];
const PREFIX: &str = "payload.";
/// Payloads whose keys are data (a user's id as a field name) would make files of a million columns.
const COLUMNS_MAX: usize = 256;
/// Names listed of fields that are in `payload_json`; with more, a search for an unknown field reads payloads.
const JSON_FIELDS_MAX: usize = 1024;

/// The column of a payload field: its own name, or `payload.<name>` where that name is taken, empty, or
/// begins with `payload.` itself. So `payload.` in front of a column can always be cut off.
///
/// "Taken" ignores case, as SQL engines do.
pub(crate) fn column_name(field: &str) -> String {
    let taken = RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(field));
    let prefixed = field.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
    match taken || prefixed || field.is_empty() {
        true => format!("{PREFIX}{field}"),
        false => field.to_string(),
    }
}

/// A payload field with a column of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FieldColumn {
    pub field: String,
    pub column: String,
    #[serde(rename = "type")]
    pub kind: FieldType,
}

/// What the file says of itself. Unknown keys are ignored: they don't change what the known ones mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ViperMeta {
    pub version: u32,
    pub segment: SegmentId,
    pub dim: u32,
    pub distance: Distance,
    pub rows: u32,
    pub tombstones: u32,
    pub fields: Vec<FieldColumn>,
    /// Fields in `payload_json` and their types; all of them only if `json_fields_complete`.
    pub json_fields: BTreeMap<String, FieldType>,
    pub json_fields_complete: bool,
}

impl ViperMeta {
    /// Decides which fields get columns. Their place in the file is their place in `fields`.
    pub(crate) fn choose(types: &FieldTypes) -> (Vec<FieldColumn>, BTreeMap<String, FieldType>, bool) {
        let (json, mut typed): (Vec<_>, Vec<_>) =
            types.iter().partition(|(_, kind, _)| *kind == FieldType::Json);
        // Stable: fields that are equally frequent stay in order of names.
        typed.sort_by_key(|(_, _, rows)| std::cmp::Reverse(*rows));
        let rest = typed.split_off(typed.len().min(COLUMNS_MAX));
        typed.sort_by_key(|(field, ..)| *field);
        let mut fields: Vec<FieldColumn> = Vec::with_capacity(typed.len());
        let mut others: Vec<_> = json.into_iter().chain(rest).collect();
        // Names that differ in case only would be one column to SQL engines: the first one gets it.
        let mut names = std::collections::BTreeSet::new();
        for (field, kind, rows) in typed {
            let column = column_name(field);
            match names.insert(column.to_lowercase()) {
                true => fields.push(FieldColumn { field: field.to_string(), column, kind }),
                false => others.push((field, kind, rows)),
            }
        }
        let complete = others.len() <= JSON_FIELDS_MAX;
        others.sort_by_key(|(field, ..)| *field);
        let listed = others.into_iter().take(JSON_FIELDS_MAX);
        (fields, listed.map(|(field, kind, _)| (field.to_string(), kind)).collect(), complete)
    }

    /// Reads the metadata and its version, in that order.
    pub(crate) fn decode(path: &Path, text: Option<&str>) -> Result<Self, StoreError> {
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        let text =
            text.ok_or_else(|| StoreError::corrupt(path, format!("it has no {META_KEY:?} metadata")))?;
        let unreadable = |error| StoreError::corrupt(path, format!("its {META_KEY:?} metadata: {error}"));
        let found = serde_json::from_str::<Version>(text).map_err(unreadable)?.version;
        if found != u64::from(VIPER_VERSION) {
            let known = VIPER_VERSION.into();
            return Err(StoreError::VersionUnknown { path: path.to_path_buf(), found, known });
        }
        serde_json::from_str(text).map_err(unreadable)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn taken_names_are_prefixed_and_no_two_fields_share_a_column() {
        for (field, column) in [
            ("lang", "lang"),
            ("id", "payload.id"),
            ("ID", "payload.ID"),
            ("payload.id", "payload.payload.id"),
            ("", "payload."),
            ("payload", "payload"),
            ("päyload.", "päyload."),
        ] {
            assert_eq!(column_name(field), column);
        }
    }

    #[test]
    fn rare_mixed_and_case_twin_fields_go_to_json() {
        let mut types = FieldTypes::default();
        for row in 0..400 {
            let own = format!("user-{row}");
            types.observe(json!({own: 1, "price": 1.5, "Price": 2, "tags": []}).as_object().unwrap());
        }
        let (fields, json, complete) = ViperMeta::choose(&types);
        assert!(complete);
        assert!(fields.iter().any(|field| field.field == "Price" && field.kind == FieldType::Int));
        assert!(!fields.iter().any(|field| field.field == "price"), "its twin has the column");
        assert_eq!(fields.len(), COLUMNS_MAX - 1);
        assert_eq!(json["price"], FieldType::Float);
        assert_eq!(json["tags"], FieldType::Json);
        assert_eq!(fields.len() + json.len(), 403);
    }
}
