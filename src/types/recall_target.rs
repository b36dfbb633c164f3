//! The recall that a collection promises.
use serde::{Deserialize, Serialize};

/// The share of the [`RecallTarget::K`] nearest points that searches are to find, on average over the collection's
/// queries: above 0.5, at most 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct RecallTarget(f64);

impl RecallTarget {
    /// Recall is measured and promised among so many nearest.
    pub const K: usize = 10;

    /// Checks the share; the error says what is wrong with it, to be read after the field's name.
    pub fn new(share: f64) -> Result<Self, String> {
        match share > 0.5 && share <= 1.0 {
            true => Ok(Self(share)),
            false => Err(format!(
                "must be above 0.5 and at most 1, not {share}: it is the share of the {} nearest that searches find",
                Self::K
            )),
        }
    }

    /// The share.
    pub fn share(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for RecallTarget {
    type Error = String;

    fn try_from(share: f64) -> Result<Self, String> {
        Self::new(share)
    }
}

impl From<RecallTarget> for f64 {
    fn from(target: RecallTarget) -> f64 {
        target.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_shares_that_can_be_promised() {
        for share in [0.500_001, 0.9, 1.0] {
            assert_eq!(RecallTarget::new(share).unwrap().share(), share);
        }
        for share in [0.5, 0.0, -1.0, 1.000_001, 98.0, f64::NAN, f64::INFINITY] {
            let problem = RecallTarget::new(share).unwrap_err();
            assert!(problem.starts_with("must be above 0.5 and at most 1"), "{problem}");
        }
        assert!(serde_json::from_str::<RecallTarget>("2.0").is_err());
        let kept = serde_json::to_string(&RecallTarget::new(0.98).unwrap()).unwrap();
        assert_eq!(kept, "0.98");
    }
}
