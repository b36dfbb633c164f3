//! In what form a graph holds its rows' vectors to walk on.
use serde::de::{Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};

/// How vectors are coded in a graph's file. Full vectors are kept beside it whatever is chosen.
///
/// None chosen: as few bits of RaBitQ, or none, as a sample of each segment says that its rows need.
/// The names are those that clients send as `quantization_config`, and ours: `rabitq`, `f16`, `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Quantization {
    /// A byte per component.
    Scalar(ScalarQuantization),
    /// A byte per group of components: the number of the nearest of 256 codewords that a sample taught.
    Product(ProductQuantization),
    /// One or two bits per component, as `rabitq` has them.
    Binary(BinaryQuantization),
    /// Extended RaBitQ: 1, 2, 4 or 7 bits per rotated component.
    Rabitq(RabitqQuantization),
    /// Half-precision floats.
    F16 {},
    /// The vectors themselves, with no code.
    None {},
}

/// `scalar`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScalarQuantization {
    /// What a component becomes.
    pub r#type: ScalarType,
    /// No effect: each vector has a scale of its own.
    #[serde(default, skip_serializing)]
    pub quantile: Hint,
    /// No effect: memory follows the budget.
    #[serde(default, skip_serializing)]
    pub always_ram: Hint,
}

/// What a component becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScalarType {
    /// A signed byte, in steps of the vector's own size.
    Int8,
}

/// `product`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProductQuantization {
    /// How much smaller than 32-bit floats.
    pub compression: Compression,
    /// No effect: memory follows the budget.
    #[serde(default, skip_serializing)]
    pub always_ram: Hint,
}

/// How many bytes of floats one byte of code stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// A byte per component.
    X4,
    /// Two components.
    X8,
    /// Four.
    X16,
    /// Eight.
    X32,
    /// Sixteen.
    X64,
}

impl Compression {
    /// All of them, finest first.
    pub const ALL: [Compression; 5] = [Self::X4, Self::X8, Self::X16, Self::X32, Self::X64];

    /// Components that share a byte.
    pub const fn components(self) -> u32 {
        match self {
            Self::X4 => 1,
            Self::X8 => 2,
            Self::X16 => 4,
            Self::X32 => 8,
            Self::X64 => 16,
        }
    }

    /// The one by its factor: 4, 8, 16, 32 or 64.
    pub fn of(factor: u32) -> Option<Compression> {
        Self::ALL.into_iter().find(|one| 4 * one.components() == factor)
    }
}

/// `binary`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BinaryQuantization {
    /// Bits per component. Default `one_bit`.
    #[serde(default)]
    pub encoding: BinaryEncoding,
    /// No effect: a query has 8 bits per component.
    #[serde(default, skip_serializing)]
    pub query_encoding: Hint,
    /// No effect: memory follows the budget.
    #[serde(default, skip_serializing)]
    pub always_ram: Hint,
}

/// Bits per component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BinaryEncoding {
    /// One.
    #[default]
    OneBit,
    /// Two.
    TwoBits,
}

/// `rabitq`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RabitqQuantization {
    /// Bits per component: 1, 2, 4 or 7.
    pub bits: RabitqBits,
}

/// 1, 2, 4 or 7 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "u32", into = "u32")]
#[schemars(with = "u32")]
pub enum RabitqBits {
    /// 1
    One,
    /// 2
    Two,
    /// 4
    Four,
    /// 7
    Seven,
}

impl From<RabitqBits> for u32 {
    fn from(bits: RabitqBits) -> u32 {
        match bits {
            RabitqBits::One => 1,
            RabitqBits::Two => 2,
            RabitqBits::Four => 4,
            RabitqBits::Seven => 7,
        }
    }
}

impl TryFrom<u32> for RabitqBits {
    type Error = String;

    fn try_from(bits: u32) -> Result<RabitqBits, String> {
        match bits {
            1 => Ok(Self::One),
            2 => Ok(Self::Two),
            4 => Ok(Self::Four),
            7 => Ok(Self::Seven),
            8 => Err("rabitq has 1, 2, 4 or 7 bits; for 8 give {\"scalar\": {\"type\": \"int8\"}}".into()),
            other => Err(format!("rabitq has 1, 2, 4 or 7 bits, not {other}")),
        }
    }
}

/// A key that clients send and that decides nothing here: any value will do, and none is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, schemars::JsonSchema)]
#[schemars(with = "()")]
pub struct Hint;

impl<'de> Deserialize<'de> for Hint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// How one search uses the codes of graphs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CodedSearch {
    /// Look at full vectors before answering; without, distances are estimates.
    pub rescore: bool,
    /// Keep at least so many times the rows wanted while walking; at least 1.
    pub oversampling: f32,
    /// Walk on full vectors instead.
    pub ignore: bool,
}

impl Default for CodedSearch {
    fn default() -> Self {
        Self { rescore: true, oversampling: 1.0, ignore: false }
    }
}

impl Quantization {
    /// A signed byte per component.
    pub const INT8: Self =
        Self::Scalar(ScalarQuantization { r#type: ScalarType::Int8, quantile: Hint, always_ram: Hint });

    /// So many bits of RaBitQ.
    pub const fn rabitq(bits: RabitqBits) -> Self {
        Self::Rabitq(RabitqQuantization { bits })
    }

    /// Product quantization.
    pub const fn product(compression: Compression) -> Self {
        Self::Product(ProductQuantization { compression, always_ram: Hint })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Quantization, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_clients_send_is_read_and_comes_back_without_hints() {
        let cases = [
            (r#"{"scalar":{"type":"int8"}}"#, Quantization::INT8),
            (r#"{"product":{"compression":"x16"}}"#, Quantization::product(Compression::X16)),
            (r#"{"rabitq":{"bits":4}}"#, Quantization::rabitq(RabitqBits::Four)),
            (r#"{"f16":{}}"#, Quantization::F16 {}),
            (r#"{"none":{}}"#, Quantization::None {}),
        ];
        for (text, meant) in cases {
            assert_eq!(read(text).unwrap(), meant);
            assert_eq!(serde_json::to_string(&meant).unwrap(), text);
        }
        let hinted = r#"{"scalar": {"type": "int8", "quantile": 0.99, "always_ram": true}}"#;
        assert_eq!(read(hinted).unwrap(), Quantization::INT8);
        let binary = read(r#"{"binary": {"always_ram": null, "query_encoding": "default"}}"#).unwrap();
        assert_eq!(serde_json::to_string(&binary).unwrap(), r#"{"binary":{"encoding":"one_bit"}}"#);
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_is() {
        let cases = [
            (r#"{"rabitq": {"bits": 3}}"#, "rabitq has 1, 2, 4 or 7 bits, not 3"),
            (r#"{"rabitq": {"bits": 8}}"#, "for 8 give {\"scalar\": {\"type\": \"int8\"}}"),
            (r#"{"product": {"compression": "x5"}}"#, "unknown variant `x5`, expected one of `x4`"),
            (r#"{"scaler": {}}"#, "unknown variant `scaler`, expected one of `scalar`"),
            (r#"{"scalar": {"typ": "int8"}}"#, "unknown field `typ`, expected one of `type`"),
        ];
        for (text, why) in cases {
            let error = read(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn compressions_are_what_they_are_called() {
        let factors = Compression::ALL.map(|one| serde_json::to_value(one).unwrap());
        assert_eq!(factors, ["x4", "x8", "x16", "x32", "x64"]);
        assert_eq!(Compression::of(64), Some(Compression::X64));
        assert_eq!(Compression::of(5), None);
    }
}
