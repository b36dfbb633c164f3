//! Which index a collection wants, and what that means for each segment.
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::{GraphParams, Levels, Quantization};

/// Kinds of indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
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
    /// About so many clusters per segment; `None`: twice the square root of its rows.
    pub clusters: Option<u32>,
}

impl IndexSpec {
    /// Clusters of a segment. With more, ranking their centroids would take longer than what they save.
    pub const CLUSTERS: RangeInclusive<u32> = 1..=1 << 16;

    /// May so many clusters be asked for? Else why not, to be read after the key.
    pub fn check_clusters(kind: IndexKind, clusters: Option<u32>) -> Result<(), String> {
        let (least, most) = (Self::CLUSTERS.start(), Self::CLUSTERS.end());
        match clusters {
            None => Ok(()),
            Some(count) if !Self::CLUSTERS.contains(&count) => {
                Err(format!("must be between {least} and {most}, not {count}"))
            }
            Some(_) if kind != IndexKind::Ivf => {
                let (ivf, kind) = (IndexKind::Ivf.word(), kind.word());
                Err(format!("only the kind {ivf:?} has clusters, and the kind is {kind:?}"))
            }
            Some(_) => Ok(()),
        }
    }

    /// What the index of a segment of so many rows is built with; `None` where it is to be scanned.
    pub fn built_for(&self, rows: u32) -> Option<Built> {
        match self.kind {
            IndexKind::Flat => None,
            _ if rows < self.graph.full_scan_threshold.max(2) => None,
            IndexKind::Hnsw => {
                let GraphParams { m, ef_construct, levels, quantization, .. } = self.graph;
                Some(Built { kind: self.kind, m, ef_construct, levels, quantization, clusters: None })
            }
            // Nothing of it depends on what only graphs have: that may change, and it stays.
            IndexKind::Ivf => Some(Built {
                kind: self.kind,
                m: 0,
                ef_construct: 0,
                levels: Levels::Auto,
                quantization: self.graph.quantization,
                clusters: self.clusters,
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
    /// See [`IndexSpec`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<u32>,
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
            clusters: None,
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
        let counted = IndexSpec { clusters: Some(7), ..clusters };
        assert_eq!(counted.built_for(100).unwrap().clusters, Some(7));
        let text = serde_json::to_string(&counted.built_for(100)).unwrap();
        assert_eq!(serde_json::from_str::<Option<Built>>(&text).unwrap(), counted.built_for(100));
        assert_eq!(IndexSpec { clusters: Some(7), ..spec }.built_for(100), Some(built), "graphs have none");
        let none = IndexSpec { graph: GraphParams { full_scan_threshold: 0, ..spec.graph }, ..spec };
        assert_eq!((none.built_for(1), none.built_for(2).is_some()), (None, true));
    }

    #[test]
    fn clusters_are_counted_within_bounds_and_of_one_kind() {
        let check = IndexSpec::check_clusters;
        for clusters in [None, Some(1), Some(65_536)] {
            assert_eq!(check(IndexKind::Ivf, clusters), Ok(()));
        }
        for wrong in [0, 65_537] {
            let error = check(IndexKind::Ivf, Some(wrong)).unwrap_err();
            assert_eq!(error, format!("must be between 1 and 65536, not {wrong}"));
        }
        assert!(check(IndexKind::Flat, None).is_ok());
        let error = check(IndexKind::Hnsw, Some(64)).unwrap_err();
        assert_eq!(error, "only the kind \"ivf\" has clusters, and the kind is \"hnsw\"");
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
