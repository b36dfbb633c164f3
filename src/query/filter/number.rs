//! Numbers as JSON has them, compared exactly: an integer never loses digits to a float.
use std::cmp::Ordering;

use serde_json::Number as JsonNumber;

/// A finite JSON number. 3 and 3.0 are the same number.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    /// Any integer of JSON fits: they end at 64 bits.
    Int(i128),
    /// Finite.
    Float(f64),
}

impl Number {
    pub(super) fn of(number: &JsonNumber) -> Option<Self> {
        if let Some(integer) = number.as_i64() {
            return Some(Self::Int(integer.into()));
        }
        if let Some(integer) = number.as_u64() {
            return Some(Self::Int(integer.into()));
        }
        number.as_f64().filter(|float| float.is_finite()).map(Self::Float)
    }

    pub(super) fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(&b),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            (Self::Int(a), Self::Float(b)) => compare_mixed(a, b),
            (Self::Float(a), Self::Int(b)) => compare_mixed(b, a).reverse(),
        }
    }

    /// Equal for equal numbers, however they were written: what a set of numbers holds.
    pub(super) fn key(self) -> NumberKey {
        match self {
            Self::Int(integer) => NumberKey::Int(integer),
            // An `as` cast saturates, so a float past 128 bits is not taken for an integer: it differs from it.
            Self::Float(float) if (float as i128) as f64 == float && float.abs() < 1e38 => {
                NumberKey::Int(float as i128)
            }
            Self::Float(float) => NumberKey::Float(float.to_bits()),
        }
    }

    /// The same number as a float, if there is one.
    pub(super) fn exact_f64(self) -> Option<f64> {
        match self {
            Self::Int(integer) => Some(integer as f64).filter(|float| *float as i128 == integer),
            Self::Float(float) => Some(float),
        }
    }

    /// The greatest integer that is not above the number (saturating far outside of what JSON can hold).
    pub(super) fn floor(self) -> i128 {
        match self {
            Self::Int(integer) => integer,
            Self::Float(float) => float.floor() as i128,
        }
    }

    /// The smallest integer that is not below the number (saturating likewise).
    pub(super) fn ceil(self) -> i128 {
        match self {
            Self::Int(integer) => integer,
            Self::Float(float) => float.ceil() as i128,
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.compare(*other) == Ordering::Equal
    }
}

/// See [`Number::key`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum NumberKey {
    Int(i128),
    Float(u64),
}

impl NumberKey {
    /// The integer of 64 bits that it is, if it is one.
    pub(super) fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(integer) => i64::try_from(*integer).ok(),
            Self::Float(_) => None,
        }
    }
}

fn compare_mixed(integer: i128, float: f64) -> Ordering {
    // Casts saturate: a float beyond 128 bits compares as the end of the range, past every integer of JSON.
    let whole = float.trunc();
    integer.cmp(&(whole as i128)).then_with(|| 0.0.partial_cmp(&(float - whole)).unwrap_or(Ordering::Equal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_floats_compare_without_loss() {
        let (int, float) = (Number::Int, Number::Float);
        assert_eq!(int(9_007_199_254_740_993).compare(float(9_007_199_254_740_992.0)), Ordering::Greater);
        assert_eq!(int(3).compare(float(3.0)), Ordering::Equal);
        assert_eq!(int(-3).compare(float(-3.5)), Ordering::Greater);
        assert_eq!(int(3).compare(float(3.5)), Ordering::Less);
        assert_eq!(int(u64::MAX.into()).compare(float(1e300)), Ordering::Less);
        assert_eq!(float(-1e300).compare(int(i64::MIN.into())), Ordering::Less);
        assert_eq!(int(0).compare(float(-0.0)), Ordering::Equal);
    }

    #[test]
    fn equal_numbers_have_equal_keys() {
        assert_eq!(Number::Float(3.0).key(), Number::Int(3).key());
        assert_eq!(Number::Float(-0.0).key(), Number::Int(0).key());
        assert_ne!(Number::Float(3.5).key(), Number::Int(3).key());
        assert_eq!(Number::Float(1e300).key(), Number::Float(1e300).key());
    }
}
