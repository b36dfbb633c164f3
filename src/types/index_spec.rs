//! Which index a collection wants, and what that means for each segment.
use serde::{Deserialize, Serialize};

use super::{GraphParams, Levels, Quantization};

/// Kinds of indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IndexKind {
    /// None: every search looks at all rows, and is exact.
    Flat,
    /// A graph per segment.
    #[default]
    Hnsw,
    /// Clusters per segment: for segments that are read from afar, in few long pieces.
    Ivf,
}

impl IndexKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Flat, Self::Hnsw, Self::Ivf];

    /// The word in requests and answers.
    pub fn word(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Hnsw => "hnsw",
            Self::Ivf => "ivf",
        }
    }

    /// The kind of that word; the error names all words.
    pub fn parse(word: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.word() == word).ok_or_else(|| {
            let words: Vec<&str> = Self::ALL.into_iter().map(Self::word).collect();
            format!("{word:?} is none of {}", words.join(", "))
        })
    }
}

/// The index that a collection wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexSpec {
    /// Its kind.
    pub kind: IndexKind,
    /// Parameters of graphs.
    pub graph: GraphParams,
}

impl IndexSpec {
    /// What the index of a segment of so many rows is built with; `None` where it is to be scanned.
    pub fn built_for(&self, rows: u32) -> Option<Built> {
        match self.kind {
            IndexKind::Flat => None,
            _ if rows < self.graph.full_scan_threshold.max(2) => None,
            IndexKind::Hnsw => {
                let GraphParams { m, ef_construct, levels, quantization, .. } = self.graph;
                Some(Built { kind: self.kind, m, ef_construct, levels, quantization })
            }
            // Nothing of it depends on what only graphs have: that may change, and it stays.
            IndexKind::Ivf => Some(Built {
                kind: self.kind,
                m: 0,
                ef_construct: 0,
                levels: Levels::Auto,
                quantization: self.graph.quantization,
            }),
        }
    }
}

/// What a segment's index was built with: where that differs from what is wanted, it is built anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Built {
    /// Its kind.
    pub kind: IndexKind,
    /// See [`GraphParams`].
    pub m: u32,
    /// See [`GraphParams`].
    pub ef_construct: u32,
    /// See [`GraphParams`].
    #[serde(default, skip_serializing_if = "Levels::is_auto")]
    pub levels: Levels,
    /// See [`GraphParams`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
}

impl Built {
    /// What it is built with; what doesn't matter to that is as in `base`.
    pub fn params(self, base: GraphParams) -> GraphParams {
        let Self { m, ef_construct, levels, quantization, .. } = self;
        GraphParams { m, ef_construct, levels, quantization, ..base }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn small_segments_and_flat_collections_are_scanned() {
        let spec = IndexSpec {
            graph: GraphParams { full_scan_threshold: 100, ..GraphParams::default() },
            ..IndexSpec::default()
        };
        assert_eq!(spec.built_for(99), None);
        let built = Built {
            kind: IndexKind::Hnsw,
            m: 16,
            ef_construct: 100,
            levels: Levels::Auto,
            quantization: None,
        };
        assert_eq!(spec.built_for(100), Some(built));
        let graph = GraphParams { quantization: Some(Quantization::INT8), levels: Levels::On, ..spec.graph };
        let other = IndexSpec { graph, ..spec }.built_for(100).unwrap();
        assert!(other != built && other.params(spec.graph) == graph);
        let text = serde_json::to_string(&other).unwrap();
        assert_eq!(serde_json::from_str::<Built>(&text).unwrap(), other);
        assert_eq!(IndexSpec { kind: IndexKind::Flat, ..spec }.built_for(1 << 20), None);
        let clusters = IndexSpec { kind: IndexKind::Ivf, ..spec };
        let linked = GraphParams { m: 40, ef_construct: 400, levels: Levels::On, ..spec.graph };
        assert_eq!(clusters.built_for(100), IndexSpec { graph: linked, ..clusters }.built_for(100));
        assert!(clusters.built_for(99).is_none() && clusters.built_for(100) != spec.built_for(100));
        let none = IndexSpec { graph: GraphParams { full_scan_threshold: 0, ..spec.graph }, ..spec };
        assert_eq!((none.built_for(1), none.built_for(2).is_some()), (None, true));
    }

    #[test]
    fn words_are_read_back() {
        for kind in IndexKind::ALL {
            assert_eq!(IndexKind::parse(kind.word()), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.word());
        }
        assert_eq!(IndexKind::parse("hsnw").unwrap_err(), "\"hsnw\" is none of flat, hnsw, ivf");
    }
}
