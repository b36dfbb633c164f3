//! The order of pages: integers by value, then texts; and the smallest rows of a run in that order.
use std::collections::BTreeMap;

use crate::types::PointId;
use crate::view::RowRef;

/// Where an id stands in a scroll.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum OrderKey {
    /// The decimal text of an unsigned integer, as `to_string` writes it.
    Integer(u64),
    /// Anything else.
    Text(String),
}

/// The key of an id's text; `42` and `"42"` are the same point, so they stand in the same place.
pub fn order_key(id: &str) -> OrderKey {
    match id.parse::<u64>() {
        Ok(value) if id == "0" || !id.starts_with(['0', '+']) => OrderKey::Integer(value),
        _ => OrderKey::Text(id.to_string()),
    }
}

/// Keeps the first `limit` rows at or after an offset.
pub struct Page {
    limit: usize,
    from: Option<OrderKey>,
    rows: BTreeMap<OrderKey, RowRef>,
}

impl Page {
    /// An empty page.
    pub fn new(limit: usize, from: Option<&PointId>) -> Self {
        Self { limit, from: from.map(|id| order_key(id.as_str())), rows: BTreeMap::new() }
    }

    /// Takes the row if it belongs on the page, as far as is known.
    pub fn offer(&mut self, row: RowRef) {
        let key = match &row {
            RowRef::Memory { block, row } => order_key(block.id(*row).as_str()),
            RowRef::Segment { segment, row } => order_key(segment.ids().text(*row)),
        };
        if self.from.as_ref().is_some_and(|from| key < *from) {
            return;
        }
        if self.rows.len() == self.limit {
            match self.rows.last_key_value() {
                Some((last, _)) if key < *last => self.rows.pop_last(),
                _ => return,
            };
        }
        self.rows.insert(key, row);
    }

    /// In order.
    pub fn into_rows(self) -> Vec<RowRef> {
        self.rows.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_come_by_value_before_texts() {
        let mut ids = ["10", "9", "b", "007", "a", "+5", "0"];
        ids.sort_by_key(|id| order_key(id));
        assert_eq!(ids, ["0", "9", "10", "+5", "007", "a", "b"]);
    }
}
