//! A pipeline's `map`, compiled: for each field of a record, what becomes of it.
use std::collections::{HashMap, HashSet};

use super::row::Scalar;
use super::{BuildError, Target};
use crate::config::pipeline::{
    DeleteWhen, EventTimeSpec, FieldPath, IdSpec, PayloadSpec, PipelineSpec, TimeUnit, TransformSpec,
};
use crate::types::Distance;

/// The compiled mapping. Formats walk a record beside [`Mapping::roles`] and fill a row.
#[derive(Debug)]
pub(super) struct Mapping {
    pub pipeline: String,
    pub dim: usize,
    pub distance: Distance,
    pub id: IdSpec,
    pub vector: FieldPath,
    pub event_time: Option<EventTimeSpec>,
    pub delete: DeleteRule,
    pub payload: PayloadRule,
    /// What the fields of a record are for, from its top level.
    pub roles: Roles,
}

/// Which records delete.
#[derive(Debug)]
pub(super) enum DeleteRule {
    Never,
    NullValue,
    /// Null values, and records whose captured field equals this.
    NullValueOrEquals(Scalar),
}

/// What one field of a record is for. A field with children is walked into; others are read as a whole.
#[derive(Debug, Default)]
pub(super) struct Roles {
    pub is_id: bool,
    pub is_vector: bool,
    pub is_time: bool,
    pub is_delete: bool,
    pub below: HashMap<String, Roles>,
}

impl Roles {
    fn at(&mut self, path: &FieldPath) -> &mut Self {
        path.segments().iter().fold(self, |roles, segment| roles.below.entry(segment.clone()).or_default())
    }
}

/// Which top-level fields go into the payload, under which names.
#[derive(Debug)]
pub(super) struct PayloadRule {
    /// `Some`: only these.
    include: Option<HashSet<String>>,
    /// Never these, whatever their source: excluded, the id, the vector, and names that a rename or a
    /// constant takes.
    drop: HashSet<String>,
    /// Old name → `"new name":`.
    rename: HashMap<String, Vec<u8>>,
    /// `"field":value` of each constant, with commas between.
    pub constants: Vec<u8>,
}

/// What becomes of a top-level field in the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selection<'a> {
    Drop,
    Keep,
    /// Under another name, given as `"name":`.
    Rename(&'a [u8]),
}

impl Mapping {
    pub fn compile(spec: &PipelineSpec, target: Target) -> Result<Self, BuildError> {
        let map = &spec.map;
        if map.vector.dim != target.dim {
            return Err(BuildError::Dimension {
                collection: spec.sink.collection.clone(),
                given: map.vector.dim,
                expected: target.dim,
            });
        }
        let mut roles = Roles::default();
        roles.at(&map.vector.field).is_vector = true;
        if let IdSpec::Field(path) = &map.id {
            roles.at(path).is_id = true;
        }
        if let Some(time) = &map.event_time {
            roles.at(&time.field).is_time = true;
        }
        let delete = match &map.delete_when {
            None => DeleteRule::Never,
            Some(DeleteWhen::Tombstone) => DeleteRule::NullValue,
            Some(DeleteWhen::Equals { field, value }) => {
                roles.at(field).is_delete = true;
                DeleteRule::NullValueOrEquals(Scalar::of_json(value))
            }
        };
        Ok(Self {
            pipeline: spec.pipeline.clone(),
            dim: target.dim as usize,
            distance: target.distance,
            id: map.id.clone(),
            vector: map.vector.field.clone(),
            event_time: map.event_time.clone(),
            delete,
            payload: PayloadRule::compile(&map.payload, &map.id, &map.vector.field, &spec.transform),
            roles,
        })
    }

    /// What a plain integer time counts.
    pub fn time_unit(&self) -> TimeUnit {
        self.event_time.as_ref().map_or(TimeUnit::Ms, |time| time.unit)
    }
}

impl PayloadRule {
    fn compile(spec: &PayloadSpec, id: &IdSpec, vector: &FieldPath, transform: &[TransformSpec]) -> Self {
        let include: Option<HashSet<String>> =
            spec.include.as_ref().map(|names| names.iter().cloned().collect());
        let mut drop: HashSet<String> = spec.exclude.iter().flatten().cloned().collect();
        // The id is the point's id already: it is repeated only for those who ask for it by name.
        if let IdSpec::Field(path) = id
            && path.is_top_level()
            && !include.as_ref().is_some_and(|names| names.contains(path.root()))
        {
            drop.insert(path.root().to_string());
        }
        if vector.is_top_level() {
            drop.insert(vector.root().to_string());
        }
        drop.extend(spec.rename.values().cloned());
        let mut constants = Vec::new();
        for TransformSpec::Constant { field, value } in transform {
            drop.insert(field.clone());
            if !constants.is_empty() {
                constants.push(b',');
            }
            constants.extend_from_slice(&name_prefix(field));
            constants.extend_from_slice(value.to_string().as_bytes());
        }
        let mut rename = HashMap::new();
        for (from, to) in &spec.rename {
            let is_taken = transform.iter().any(|TransformSpec::Constant { field, .. }| field == to);
            match is_taken {
                true => drop.insert(from.clone()),
                false => rename.insert(from.clone(), name_prefix(to)).is_none(),
            };
        }
        Self { include, drop, rename, constants }
    }

    /// What becomes of the top-level field `name`.
    pub fn select(&self, name: &str) -> Selection<'_> {
        if let Some(prefix) = self.rename.get(name) {
            return Selection::Rename(prefix);
        }
        let is_included = self.include.as_ref().is_none_or(|names| names.contains(name));
        if is_included && !self.drop.contains(name) { Selection::Keep } else { Selection::Drop }
    }
}

/// `"name":` as JSON text.
pub(super) fn name_prefix(name: &str) -> Vec<u8> {
    let mut text = serde_json::Value::from(name).to_string().into_bytes();
    text.push(b':');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(spec: serde_json::Value, transform: &[TransformSpec]) -> PayloadRule {
        let spec: PayloadSpec = serde_json::from_value(spec).unwrap_or_default();
        let (id, vector) = (IdSpec::Field(FieldPath::field("id")), FieldPath::field("v"));
        PayloadRule::compile(&spec, &id, &vector, transform)
    }

    #[test]
    fn payload_fields_are_chosen_by_name() {
        let all = rule(serde_json::json!({}), &[]);
        assert_eq!(all.select("lang"), Selection::Keep);
        assert_eq!(all.select("id"), Selection::Drop);
        assert_eq!(all.select("v"), Selection::Drop);
        let some = rule(serde_json::json!({"include": ["lang", "id"], "rename": {"ts": "updated"}}), &[]);
        assert_eq!(some.select("lang"), Selection::Keep);
        assert_eq!(some.select("id"), Selection::Keep);
        assert_eq!(some.select("ts"), Selection::Rename(b"\"updated\":"), "a renamed field is included");
        assert_eq!(some.select("other"), Selection::Drop);
        let rest = rule(serde_json::json!({"exclude": ["html"], "rename": {"a": "b"}}), &[]);
        assert_eq!(rest.select("html"), Selection::Drop);
        assert_eq!(rest.select("b"), Selection::Drop, "the renamed field takes its place");
    }

    #[test]
    fn constants_take_the_place_of_fields() {
        let constant = TransformSpec::Constant { field: "lang".to_string(), value: "en".into() };
        let rule = rule(serde_json::json!({"rename": {"l": "lang"}}), &[constant]);
        assert_eq!(rule.select("lang"), Selection::Drop);
        assert_eq!(rule.select("l"), Selection::Drop, "its name is taken");
        assert_eq!(rule.constants, b"\"lang\":\"en\"");
    }
}
