//! Key paths: `a`, `a.b`, `a[]`, `a[].b`, `a[0]`, `"a.b".c`.
use serde_json::Value;

/// Where in a payload the values of a condition are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// The top-level field: the column.
    pub field: String,
    /// What follows it.
    pub tail: Vec<Step>,
}

/// One step into a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a field of an object.
    Field(String),
    /// To every element of an array.
    Each,
    /// To one element of an array.
    Element(usize),
}

impl Key {
    /// Parses a key path; the error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text;
        let field = name(&mut rest)?;
        let mut tail = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('[') {
                let (inside, after) = after.split_once(']').ok_or("the bracket is not closed")?;
                tail.push(match inside {
                    "" => Step::Each,
                    digits => Step::Element(digits.parse().map_err(|_| {
                        format!("[{digits}] is neither [] for every element nor an index such as [0]")
                    })?),
                });
                rest = after;
            } else if let Some(after) = rest.strip_prefix('.') {
                rest = after;
                tail.push(Step::Field(name(&mut rest)?));
            } else {
                return Err(format!("{rest:?} must begin with '.' or '['"));
            }
        }
        Ok(Self { field, tail })
    }

    /// Calls `visit` with each value that the steps after the field lead to.
    pub(super) fn each<'a>(&self, value: &'a Value, visit: &mut dyn FnMut(&'a Value)) {
        walk(&self.tail, value, visit);
    }
}

fn walk<'a>(steps: &[Step], value: &'a Value, visit: &mut dyn FnMut(&'a Value)) {
    let Some((step, rest)) = steps.split_first() else { return visit(value) };
    match (step, value) {
        (Step::Field(name), Value::Object(fields)) => {
            if let Some(inner) = fields.get(name) {
                walk(rest, inner, visit);
            }
        }
        (Step::Element(index), Value::Array(elements)) => {
            if let Some(inner) = elements.get(*index) {
                walk(rest, inner, visit);
            }
        }
        (Step::Each, Value::Array(elements)) => {
            elements.iter().for_each(|inner| walk(rest, inner, visit));
        }
        _ => {}
    }
}

fn name(rest: &mut &str) -> Result<String, String> {
    if let Some(quoted) = rest.strip_prefix('"') {
        let (name, after) = quoted.split_once('"').ok_or("the quote is not closed")?;
        *rest = after;
        return Ok(name.to_string());
    }
    let end = rest.find(['.', '[']).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    *rest = after;
    match name {
        "" => Err("a field's name is missing".to_string()),
        name => Ok(name.to_string()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn values(key: &str, value: Value) -> Vec<Value> {
        let mut found = Vec::new();
        Key::parse(key).unwrap().each(&value, &mut |value| found.push(value.clone()));
        found
    }

    #[test]
    fn paths_lead_where_they_say() {
        assert_eq!(values("a", json!([1])), [json!([1])]);
        assert_eq!(values("a[]", json!([1, 2])), [json!(1), json!(2)]);
        assert_eq!(values("a[].b", json!([{"b": 1}, {}, {"b": null}, 3])), [json!(1), json!(null)]);
        assert_eq!(values("a[1].b", json!([{"b": 1}, {"b": 2}])), [json!(2)]);
        assert_eq!(values("a.b.c", json!({"b": {"c": 3}})), [json!(3)]);
        assert_eq!(values("a.\"b.c\"", json!({"b.c": 3})), [json!(3)]);
        assert!(values("a.b", json!([{"b": 1}])).is_empty());
        assert_eq!(Key::parse("\"a.b\"").unwrap().field, "a.b");
    }

    #[test]
    fn bad_paths_are_refused() {
        for key in ["", ".a", "a.", "a[", "a[x]", "a[-1]", "\"a", "a[0]b"] {
            assert!(Key::parse(key).is_err(), "{key}");
        }
    }
}
