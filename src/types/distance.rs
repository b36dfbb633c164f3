//! Distances: definition, order, and the score a user sees.
use serde::{Deserialize, Serialize};

/// How two vectors are compared.
///
/// Inside, every distance is "smaller is nearer": squared l2, `1 - cos`, `-dot`. The score shown to
/// users is what they know from elsewhere: higher is better for cosine and dot, plain distance for l2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Distance {
    /// Angle; vectors are normalised when written, so it is computed as a dot product.
    #[serde(alias = "Cosine")]
    Cosine,
    /// Inner product.
    #[serde(alias = "Dot")]
    Dot,
    /// Euclidean.
    #[serde(alias = "Euclid", alias = "euclid")]
    L2,
}

impl Distance {
    /// The score shown for an internal distance.
    pub fn score(self, internal: f32) -> f32 {
        match self {
            Self::Cosine => 1.0 - internal,
            Self::Dot => -internal,
            Self::L2 => internal.max(0.0).sqrt(),
        }
    }

    /// The internal distance of a score: the inverse of [`Distance::score`].
    pub fn internal(self, score: f32) -> f32 {
        match self {
            Self::Cosine => 1.0 - score,
            Self::Dot => -score,
            Self::L2 => score * score,
        }
    }

    /// Is a higher score better?
    pub fn higher_is_better(self) -> bool {
        !matches!(self, Self::L2)
    }

    /// The name that published clients use.
    pub fn client_name(self) -> &'static str {
        match self {
            Self::Cosine => "Cosine",
            Self::Dot => "Dot",
            Self::L2 => "Euclid",
        }
    }
}
