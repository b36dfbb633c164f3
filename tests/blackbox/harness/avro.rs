//! Avro by hand: enough to write the records of these tests, independently of the program's own decoder.

/// The schema of [`Product`].
pub const PRODUCT_SCHEMA: &str = r#"{"type":"record","name":"Product","namespace":"io.proximadb.tests","fields":[
  {"name":"sku","type":["null","string"],"default":null},
  {"name":"embedding","type":{"type":"array","items":"float"}},
  {"name":"lang","type":"string"},
  {"name":"price","type":"double"},
  {"name":"n","type":"long"}]}"#;

/// One record.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    pub sku: Option<String>,
    pub embedding: Vec<f32>,
    pub lang: String,
    pub price: f64,
    pub n: i64,
}

impl Product {
    /// Avro binary by [`PRODUCT_SCHEMA`].
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.embedding.len() * 4 + 64);
        match &self.sku {
            None => long(&mut out, 0),
            Some(sku) => {
                long(&mut out, 1);
                text(&mut out, sku);
            }
        }
        if !self.embedding.is_empty() {
            long(&mut out, i64::try_from(self.embedding.len()).unwrap());
            for component in &self.embedding {
                out.extend_from_slice(&component.to_le_bytes());
            }
        }
        long(&mut out, 0);
        text(&mut out, &self.lang);
        out.extend_from_slice(&self.price.to_le_bytes());
        long(&mut out, self.n);
        out
    }
}

/// Confluent's frame: a zero, the schema's id in big-endian order, the record.
pub fn framed(schema_id: u32, record: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    out.extend_from_slice(&schema_id.to_be_bytes());
    out.extend_from_slice(record);
    out
}

fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn text(out: &mut Vec<u8>, value: &str) {
    long(out, i64::try_from(value.len()).unwrap());
    out.extend_from_slice(value.as_bytes());
}

#[test]
fn longs_are_zigzag_varints() {
    for (value, bytes) in [(0, &[0][..]), (-1, &[1]), (1, &[2]), (64, &[0x80, 0x01]), (-65, &[0x81, 0x01])] {
        let mut out = Vec::new();
        long(&mut out, value);
        assert_eq!(out, bytes, "{value}");
    }
}

/// The other library agrees with what we write.
#[test]
fn our_avro_is_read_by_a_general_decoder() {
    let product = Product {
        sku: Some("sku-7".into()),
        embedding: vec![1.5, -2.0],
        lang: "de".into(),
        price: 9.75,
        n: -3,
    };
    let schema = apache_avro::Schema::parse_str(PRODUCT_SCHEMA).unwrap();
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().unwrap();
    let value = reader.read_value(&mut &product.encode()[..]).unwrap();
    let apache_avro::types::Value::Record(fields) = value else { panic!("{value:?}") };
    let shown = format!("{fields:?}");
    for part in ["sku-7", "Float(1.5), Float(-2.0)", "\"de\"", "Double(9.75)", "Long(-3)"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}
