//! How much memory a filter takes, roughly.
use super::condition::{Condition, Test, TextTest, ValueSet};
use super::key::Key;
use super::{Filter, MinShould};

/// What a text, or another entry of a set, takes beside its bytes.
const ENTRY: usize = 48;

impl Filter {
    /// Bytes that keeping it takes, about.
    pub fn bytes(&self) -> usize {
        let lists = [&self.must, &self.should, &self.must_not].into_iter();
        let lists = lists.chain(self.min_should.as_ref().map(|MinShould { conditions, .. }| conditions));
        size_of::<Self>() + lists.flatten().map(condition).sum::<usize>()
    }
}

fn condition(one: &Condition) -> usize {
    let held = match one {
        Condition::Field(Key { field, tail }, test) => field.len() + tail.len() * ENTRY + self::test(test),
        Condition::HasId(ids) => texts(ids),
        Condition::Filter(filter) => filter.bytes(),
    };
    size_of::<Condition>() + held
}

fn test(test: &Test) -> usize {
    match test {
        Test::OneOf(ValueSet { texts: set, numbers, .. })
        | Test::Except(ValueSet { texts: set, numbers, .. }) => texts(set) + numbers.len() * ENTRY,
        Test::Text(TextTest::AllWords(words) | TextTest::AnyWord(words) | TextTest::Phrase(words)) => {
            texts(words)
        }
        Test::Text(TextTest::Substring(text) | TextTest::Prefix(text)) => text.len(),
        Test::Range(_) | Test::Instants(_) | Test::Count(_) | Test::IsEmpty(_) | Test::IsNull(_) => 0,
    }
}

fn texts<'a>(all: impl IntoIterator<Item = &'a String>) -> usize {
    all.into_iter().map(|text| text.len() + ENTRY).sum()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn long_lists_count_wherever_they_stand() {
        let ids: Vec<String> = (0..1_000).map(|id| format!("point-{id:06}")).collect();
        let bytes = |filter| Filter::parse(&filter, "").unwrap().bytes();
        let none = bytes(json!({}));
        assert!(bytes(json!({"must": [{"key": "a", "match": {"value": 1}}]})) < none + 1_000);
        for filter in [
            json!({"must": [{"has_id": ids}]}),
            json!({"should": [{"key": "a", "match": {"any": ids}}]}),
            json!({"must_not": [{"must": [{"has_id": ids}]}]}),
            json!({"min_should": {"conditions": [{"has_id": ids}], "min_count": 1}}),
            json!({"must": [{"key": "a", "match": {"text": ids.join(" ")}}]}),
        ] {
            assert!(bytes(filter.clone()) > none + 12_000, "{filter}");
        }
    }
}
