//! How the blocks of an Avro container file are compressed.

/// Largest block once it is decompressed, so that a small file can't ask for all memory.
const BLOCK_BYTES_MAX: usize = 512 << 20;

/// A file's codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Null,
    Deflate,
    /// With a CRC-32 of the plain bytes, big-endian, behind each block.
    Snappy,
    Zstandard,
}

impl Codec {
    /// The codec of this name in a file's header.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "null" | "" => Self::Null,
            "deflate" => Self::Deflate,
            "snappy" => Self::Snappy,
            "zstandard" => Self::Zstandard,
            _ => return None,
        })
    }

    /// The plain bytes of a block, or what is wrong with it.
    pub fn decompress(self, block: Vec<u8>) -> Result<Vec<u8>, String> {
        self.within(block, BLOCK_BYTES_MAX)
    }

    fn within(self, block: Vec<u8>, max: usize) -> Result<Vec<u8>, String> {
        let too_large = || format!("a block is larger than {max} bytes once decompressed");
        match self {
            Self::Null => Ok(block),
            Self::Deflate => {
                miniz_oxide::inflate::decompress_to_vec_with_limit(&block, max).map_err(|error| {
                    match error.status {
                        miniz_oxide::inflate::TINFLStatus::HasMoreOutput => too_large(),
                        status => format!("a block cannot be inflated: {status:?}"),
                    }
                })
            }
            Self::Snappy => {
                let (packed, checksum) = block.split_last_chunk::<4>().ok_or("a block lacks its checksum")?;
                let refused = |error: snap::Error| format!("a block cannot be decompressed: {error}");
                if snap::raw::decompress_len(packed).map_err(refused)? > max {
                    return Err(too_large());
                }
                let plain = snap::raw::Decoder::new().decompress_vec(packed).map_err(refused)?;
                match crc32fast::hash(&plain) == u32::from_be_bytes(*checksum) {
                    true => Ok(plain),
                    false => Err("the checksum of a block is wrong".to_string()),
                }
            }
            Self::Zstandard => {
                use std::io::Read;
                let refused = |error: std::io::Error| format!("a block cannot be decompressed: {error}");
                let mut plain = Vec::new();
                // One byte more than allowed tells a block that is too large from one that just fits.
                let decoder = zstd::Decoder::new(block.as_slice()).map_err(refused)?;
                decoder.take(max as u64 + 1).read_to_end(&mut plain).map_err(refused)?;
                if plain.len() > max { Err(too_large()) } else { Ok(plain) }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["null", "deflate", "snappy", "zstandard"];

    /// As apache-avro writes a block.
    fn packed(name: &str, plain: &[u8]) -> Vec<u8> {
        let codec = match name {
            "null" => apache_avro::Codec::Null,
            "deflate" => apache_avro::Codec::Deflate(apache_avro::DeflateSettings::default()),
            "snappy" => apache_avro::Codec::Snappy,
            _ => apache_avro::Codec::Zstandard(apache_avro::ZstandardSettings::default()),
        };
        let mut block = plain.to_vec();
        codec.compress(&mut block).unwrap();
        block
    }

    #[test]
    fn blocks_of_every_codec_come_back() {
        let plain: Vec<u8> = (0..10_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        for name in NAMES {
            let codec = Codec::named(name).unwrap();
            assert_eq!(codec.decompress(packed(name, &plain)).unwrap(), plain, "{name}");
            assert_eq!(codec.decompress(packed(name, &[])).unwrap(), b"", "{name}");
        }
        assert_eq!(Codec::named("bzip2"), None);
    }

    #[test]
    fn a_block_that_grows_beyond_the_bound_is_refused() {
        let plain = vec![7; 1_000];
        for name in &NAMES[1..] {
            let codec = Codec::named(name).unwrap();
            assert_eq!(codec.within(packed(name, &plain), 1_000).unwrap(), plain, "{name}");
            let refused = codec.within(packed(name, &plain), 999).unwrap_err();
            assert!(refused.contains("larger than 999 bytes"), "{name}: {refused}");
        }
    }

    #[test]
    fn damage_is_an_error() {
        let plain: Vec<u8> = (0..200).collect();
        for name in &NAMES[1..] {
            let codec = Codec::named(name).unwrap();
            let block = packed(name, &plain);
            for length in 0..block.len() {
                let cut = codec.decompress(block[..length].to_vec());
                assert!(cut.as_ref().is_err() || cut.as_ref().unwrap() != &plain, "{name} cut to {length}");
            }
        }
        let mut block = packed("snappy", &plain);
        *block.last_mut().unwrap() ^= 1;
        assert!(Codec::Snappy.decompress(block).unwrap_err().contains("checksum"));
    }
}
