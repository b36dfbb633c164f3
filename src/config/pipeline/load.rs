//! From YAML text to a specification, with the place of every mistake.
//!
//! The text is read twice: once into a tree of places, once into the typed form. The typed pass finds the
//! first mistake of shape; relations between keys are checked on the result, and the tree gives their places.
use std::path::Path;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Error, Location, Spanned};

use super::check::{Finding, check};
use super::{PipelineSpec, SpecError, SpecErrors};

/// Reads and checks a pipeline's file.
///
/// **Errors**: everything found wrong, with file, line and column. Secrets are not looked up, so a pipeline
/// can be checked anywhere.
pub fn load(path: &Path) -> Result<PipelineSpec, SpecErrors> {
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => PipelineSpec::from_yaml(&text, &file),
        Err(source) => Err(SpecErrors(vec![SpecError {
            problem: format!("the pipeline cannot be read ({source})"),
            expected: "give the path of a YAML file in UTF-8".to_string(),
            file,
            line: 0,
            column: 0,
            key: String::new(),
        }])),
    }
}

impl PipelineSpec {
    /// Reads and checks a pipeline given as text; `file` is its name in messages.
    pub fn from_yaml(text: &str, file: &str) -> Result<Self, SpecErrors> {
        let shape = |error: &Error, tree: Option<&Node>| SpecErrors(vec![shape_error(error, tree, file)]);
        let tree: Node = serde_saphyr::from_str(text).map_err(|error| shape(&error, None))?;
        let spec: Self = serde_saphyr::from_str(text).map_err(|error| shape(&error, Some(&tree)))?;
        let mut errors: Vec<_> =
            check(&spec).into_iter().map(|finding| place(finding, &tree, file)).collect();
        errors.sort_by_key(|error| (error.line, error.column));
        if errors.is_empty() { Ok(spec) } else { Err(SpecErrors(errors)) }
    }
}

/// A YAML node's place and what is below it.
struct Node {
    at: Location,
    children: Children,
}

enum Children {
    None,
    Entries(Vec<(Spanned<String>, Node)>),
    Items(Vec<Node>),
}

impl Node {
    /// The place of `path` (keys, or indices as text), or of the deepest node on the way that exists.
    ///
    /// For an entry of a map that is the place of its key.
    fn locate(&self, path: &[&str]) -> Location {
        let mut at = self.at;
        let mut node = self;
        for segment in path {
            let below = match &node.children {
                Children::Entries(entries) => entries
                    .iter()
                    .find(|(key, _)| key.value == *segment)
                    .map(|(key, child)| (key.referenced, child)),
                Children::Items(items) => segment
                    .parse()
                    .ok()
                    .and_then(|index: usize| items.get(index))
                    .map(|child| (child.at, child)),
                Children::None => None,
            };
            let Some((place, child)) = below else { break };
            (at, node) = (place, child);
        }
        at
    }

    /// The path of the key or value that stands exactly at `place`.
    fn path_at(&self, place: (u64, u64)) -> Option<String> {
        let is_there = |at: &Location| (at.line(), at.column()) == place;
        let join = |head: &str, tail: String| {
            if tail.is_empty() { head.to_string() } else { format!("{head}.{tail}") }
        };
        let below = match &self.children {
            Children::None => None,
            Children::Entries(entries) => entries.iter().find_map(|(key, child)| {
                if is_there(&key.referenced) {
                    return Some(key.value.clone());
                }
                child.path_at(place).map(|tail| join(&key.value, tail))
            }),
            Children::Items(items) => items
                .iter()
                .enumerate()
                .find_map(|(index, child)| child.path_at(place).map(|tail| join(&index.to_string(), tail))),
        };
        below.or_else(|| is_there(&self.at).then(String::new))
    }
}

impl<'de> Deserialize<'de> for Children {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        macro_rules! leaf {
            ($($visit:ident: $type:ty),*) => {$(
                fn $visit<E>(self, _: $type) -> Result<Children, E> { Ok(Children::None) }
            )*};
        }
        impl<'de> Visitor<'de> for Any {
            type Value = Children;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("any YAML")
            }
            leaf!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128, visit_f64: f64,
                visit_str: &str);
            fn visit_unit<E>(self) -> Result<Children, E> {
                Ok(Children::None)
            }
            fn visit_none<E>(self) -> Result<Children, E> {
                Ok(Children::None)
            }
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Children, D::Error> {
                Children::deserialize(deserializer)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Children, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = access.next_element()? {
                    items.push(item);
                }
                Ok(Children::Items(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Children, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = access.next_entry()? {
                    entries.push(entry);
                }
                Ok(Children::Entries(entries))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Children>::deserialize(deserializer)?;
        Ok(Self { at: spanned.referenced, children: spanned.value })
    }
}

fn place(finding: Finding, tree: &Node, file: &str) -> SpecError {
    let path: Vec<&str> = finding.path.iter().map(String::as_str).collect();
    let at = tree.locate(&path);
    SpecError {
        file: file.to_string(),
        line: at.line(),
        column: at.column(),
        key: path.join("."),
        problem: finding.problem,
        expected: finding.expected,
    }
}

/// A mistake of shape in our words: the parser knows what serde saw, people want to know what to write.
fn shape_error(error: &Error, tree: Option<&Node>, file: &str) -> SpecError {
    let at = error.location();
    let (line, column) = at.map_or((0, 0), |at| (at.line(), at.column()));
    let key = tree.and_then(|tree| tree.path_at((line, column))).unwrap_or_default();
    if let (Error::SerdeMissingField { field, .. }, Some(tree)) = (error.without_snippet(), tree) {
        return missing(field, &key, (line, column), tree, file);
    }
    let quoted_key = if key.is_empty() { "the file".to_string() } else { format!("`{key}`") };
    let (problem, expected) = match error.without_snippet() {
        Error::SerdeUnknownField { field, expected, .. } => {
            (format!("unknown key `{field}`"), nearest(field, expected))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            (format!("unknown value `{variant}`"), nearest(variant, expected))
        }
        Error::SerdeInvalidType { unexpected, expected, .. }
        | Error::SerdeInvalidValue { unexpected, expected, .. } => {
            (format!("{quoted_key} is {unexpected}"), format!("expected {expected}"))
        }
        Error::DuplicateMappingKey { key, .. } => {
            let name = key.as_deref().unwrap_or_default();
            (format!("key `{name}` is given twice"), "keep one".to_string())
        }
        Error::InvalidScalar { ty, .. } => {
            (format!("the value of {quoted_key} cannot be read"), format!("expected {ty}"))
        }
        Error::Unexpected { expected, .. } => {
            (format!("{quoted_key} has the wrong shape"), format!("expected {expected}"))
        }
        Error::ExternallyTaggedEnumExpectedScalarOrMapping { .. }
        | Error::ExpectedMappingEndAfterEnumVariantValue { .. } => {
            // The parser stands at the second kind; what has several is the key around it.
            let around = key.rsplit_once('.').map_or(key.as_str(), |(parent, _)| parent);
            (format!("`{around}` names several kinds"), "give exactly one".to_string())
        }
        Error::Message { msg, .. } if key.is_empty() => (msg.clone(), String::new()),
        Error::Message { msg, .. } => (format!("{quoted_key}: {msg}"), String::new()),
        other => (first_line(&other.to_string()), String::new()),
    };
    SpecError { file: file.to_string(), line, column, key, problem, expected }
}

/// A missing key, at its map: the parser stands at the last key of that map, or at the map where it is empty.
fn missing(field: &str, key: &str, place: (u64, u64), tree: &Node, file: &str) -> SpecError {
    let path: Vec<&str> = key.split('.').filter(|segment| !segment.is_empty()).collect();
    let stands_at_key = {
        let at = tree.locate(&path);
        (at.line(), at.column()) == place
    };
    let parent = if stands_at_key { &path[..path.len().saturating_sub(1)] } else { &path[..] };
    let at = tree.locate(parent);
    let within = if parent.is_empty() { "the file".to_string() } else { format!("`{}`", parent.join(".")) };
    SpecError {
        file: file.to_string(),
        line: at.line(),
        column: at.column(),
        key: path.join("."),
        problem: format!("key `{field}` is missing in {within}"),
        expected: "it is required".to_string(),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().to_string()
}

/// "did you mean …" where a known word is near, else the list of known words.
fn nearest(given: &str, known: &[&'static str]) -> String {
    let near = known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(&given.to_lowercase(), word), word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 4)
        .min_by_key(|(distance, _)| *distance);
    match near {
        Some((_, word)) => format!("did you mean `{word}`?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
