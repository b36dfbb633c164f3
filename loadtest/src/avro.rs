//! The records that are produced: Avro by hand, framed as Confluent's serializers do.

/// Schema of what [`frame`] writes.
pub const SCHEMA: &str = r#"{"type":"record","name":"Row","namespace":"io.proximadb.loadtest","fields":[
  {"name":"id","type":"string"},
  {"name":"embedding","type":{"type":"array","items":"float"}},
  {"name":"lang","type":"string"},
  {"name":"price","type":"double"},
  {"name":"n","type":"long"}]}"#;

/// One record with its frame.
pub fn frame(schema_id: u32, id: &str, vector: &[f32], n: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(vector.len() * 4 + id.len() + 40);
    out.push(0);
    out.extend_from_slice(&schema_id.to_be_bytes());
    text(&mut out, id);
    if !vector.is_empty() {
        long(&mut out, vector.len() as i64);
        vector.iter().for_each(|component| out.extend_from_slice(&component.to_le_bytes()));
    }
    long(&mut out, 0);
    text(&mut out, ["en", "de", "fr", "pt"][n as usize % 4]);
    out.extend_from_slice(&(n as f64 / 100.0).to_le_bytes());
    long(&mut out, n);
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
    long(out, value.len() as i64);
    out.extend_from_slice(value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_what_the_schema_says() {
        let bytes = frame(7, "a", &[1.5], -1 + 3);
        let expected = [
            &[0, 0, 0, 0, 7, 2, b'a', 2][..],
            &1.5f32.to_le_bytes(),
            &[0, 4, b'f', b'r'],
            &0.02f64.to_le_bytes(),
            &[4],
        ];
        assert_eq!(bytes, expected.concat());
    }
}
