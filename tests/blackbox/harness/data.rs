//! A stream of upserts and deletes that follows from a seed, and what is left of it in the end.
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::avro::Product;

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, the same everywhere.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// In [-1, 1), with few bits, so that it survives any decimal form.
    pub fn component(&mut self) -> f32 {
        self.below(2048) as f32 / 1024.0 - 1.0
    }
}

/// One record of the stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Upsert(Product),
    /// A null value under this key.
    Delete(String),
}

impl Change {
    pub fn key(&self) -> &str {
        match self {
            Self::Upsert(product) => product.sku.as_deref().expect("the stream's products have ids"),
            Self::Delete(key) => key,
        }
    }
}

/// An endless stream of changes: `keys` ids in random order, one change in ten a delete.
pub struct Stream {
    random: Random,
    keys: u64,
    dim: usize,
    sent: i64,
}

impl Stream {
    pub fn new(seed: u64, keys: u64, dim: usize) -> Self {
        Self { random: Random(seed), keys, dim, sent: 0 }
    }
}

impl Iterator for Stream {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        let key = format!("sku-{:06}", self.random.below(self.keys));
        self.sent += 1;
        if self.random.below(10) == 0 {
            return Some(Change::Delete(key));
        }
        let embedding = (0..self.dim).map(|_| self.random.component()).collect();
        let lang = ["de", "en", "fr", "ja"][self.random.below(4) as usize].to_owned();
        let price = self.random.below(10_000) as f64 / 100.0;
        Some(Change::Upsert(Product { sku: Some(key), embedding, lang, price, n: self.sent }))
    }
}

/// What a collection must hold after the changes so far: the newest of each id.
#[derive(Debug, Clone, Default)]
pub struct Model(BTreeMap<String, Product>);

impl Model {
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Upsert(product) => self.0.insert(change.key().to_owned(), product.clone()),
            Change::Delete(key) => self.0.remove(key),
        };
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn products(&self) -> impl Iterator<Item = (&String, &Product)> {
        self.0.iter()
    }

    /// Compares ids, vectors and payloads with points as they are scrolled, and names the differences.
    pub fn assert_equals(&self, points: &[Value]) {
        let differences = self.differences(points);
        let shown = differences.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
        assert!(
            differences.is_empty(),
            "{} differences among {} points:\n{shown}",
            differences.len(),
            self.0.len()
        );
    }

    fn differences(&self, points: &[Value]) -> Vec<String> {
        let mut differences = Vec::new();
        let mut seen = BTreeMap::new();
        for point in points {
            let id = point["id"].as_str().unwrap_or_else(|| panic!("an id that is no text: {point}"));
            if seen.insert(id, ()).is_some() {
                differences.push(format!("{id} is there twice"));
            }
            match self.0.get(id) {
                None => differences.push(format!("{id} should be gone: {point}")),
                Some(product) => differences.extend(difference(id, product, point)),
            }
        }
        differences.extend(
            self.0.keys().filter(|id| !seen.contains_key(id.as_str())).map(|id| format!("{id} is lost")),
        );
        differences
    }
}

fn difference(id: &str, product: &Product, point: &Value) -> Option<String> {
    let payload = json!({ "lang": product.lang, "price": product.price, "n": product.n });
    if point["payload"] != payload {
        return Some(format!("{id}: payload {} instead of {payload}", point["payload"]));
    }
    let Some(components) = point["vector"].as_array() else {
        return Some(format!("{id}: no vector in {point}"));
    };
    // The shortest decimal form of an f32, read as one again.
    let component = |found: &Value| found.to_string().parse::<f32>().ok();
    let same = components.len() == product.embedding.len()
        && components.iter().zip(&product.embedding).all(|(found, sent)| component(found) == Some(*sent));
    (!same).then(|| format!("{id}: vector {} instead of {:?}", point["vector"], product.embedding))
}

#[test]
fn the_stream_is_the_same_for_the_same_seed_and_a_tenth_of_it_deletes() {
    let of = |seed| Stream::new(seed, 100, 4).take(2000).collect::<Vec<_>>();
    assert_eq!(of(7), of(7));
    assert_ne!(of(7), of(8));
    let deletes = of(7).iter().filter(|change| matches!(change, Change::Delete(_))).count();
    assert!((150..250).contains(&deletes), "{deletes}");
}

#[test]
fn a_model_sees_what_is_lost_doubled_left_over_or_changed() {
    let mut model = Model::default();
    for change in Stream::new(3, 20, 4).take(40) {
        model.apply(&change);
    }
    let point = |(id, product): (&String, &Product)| {
        let payload = json!({ "lang": product.lang, "price": product.price, "n": product.n });
        json!({ "id": id, "vector": product.embedding, "payload": payload })
    };
    let right: Vec<Value> = model.products().map(point).collect();
    model.assert_equals(&right);
    let wrong = |bend: fn(&mut Vec<Value>)| {
        let mut points = right.clone();
        bend(&mut points);
        model.differences(&points)
    };
    for (bend, text) in [
        ((|points| drop(points.pop())) as fn(&mut Vec<Value>), "is lost"),
        (|points| points.push(points[0].clone()), "is there twice"),
        (|points| points[1]["id"] = json!("stranger"), "should be gone"),
        (|points| points[2]["payload"]["n"] = json!(-1), "payload"),
        (|points| points[3]["vector"][0] = json!(7.0), "vector"),
        (|points| points[3]["vector"] = json!([1.0]), "vector"),
    ] {
        let found = wrong(bend);
        assert!(found.iter().any(|difference| difference.contains(text)), "{text}: {found:?}");
    }
}
