//! Reading Avro's binary encoding: every length is checked against the bytes that are left.
use super::validate::Fault;

/// Most items without bytes of their own (nulls, empty records) in one block: their count is bounded by
/// nothing else.
const EMPTY_ITEMS_MAX: u64 = 1 << 16;

/// A place in one record's bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The head of an array's or map's block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    /// Items; 0 ends the array or map.
    pub count: u64,
    /// Bytes of the items, where the writer says so.
    pub bytes: Option<usize>,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    #[cold]
    fn short(&self, what: &str) -> Fault {
        Fault::decode(format!("the record ends inside {what} (byte {} of {})", self.at, self.bytes.len()))
    }

    #[cold]
    pub fn wrong(&self, problem: &str) -> Fault {
        Fault::decode(format!("{problem} (byte {} of {})", self.at, self.bytes.len()))
    }

    pub fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8], Fault> {
        let taken =
            self.bytes.get(self.at..).and_then(|left| left.get(..count)).ok_or_else(|| self.short(what))?;
        self.at += count;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Fault> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    /// A zigzag variable-length integer.
    #[inline]
    pub fn long(&mut self, what: &str) -> Result<i64, Fault> {
        let mut raw = 0_u64;
        for shift in (0..64).step_by(7) {
            let Some(&byte) = self.bytes.get(self.at) else { return Err(self.short(what)) };
            self.at += 1;
            // The tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                break;
            }
            raw |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((raw >> 1) as i64 ^ -((raw & 1) as i64));
            }
        }
        Err(self.wrong(&format!("{what} does not fit 64 bits")))
    }

    pub fn int(&mut self, what: &str) -> Result<i32, Fault> {
        let value = self.long(what)?;
        i32::try_from(value).map_err(|_| self.wrong(&format!("{what} {value} does not fit 32 bits")))
    }

    pub fn boolean(&mut self) -> Result<bool, Fault> {
        match self.array::<1>("a boolean")? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(self.wrong(&format!("a boolean is {other}"))),
        }
    }

    pub fn float(&mut self) -> Result<f32, Fault> {
        self.array("a float").map(f32::from_le_bytes)
    }

    pub fn double(&mut self) -> Result<f64, Fault> {
        self.array("a double").map(f64::from_le_bytes)
    }

    /// Bytes with their length before them.
    pub fn bytes(&mut self, what: &str) -> Result<&'a [u8], Fault> {
        let length = self.long(what)?;
        match usize::try_from(length) {
            Ok(length) => self.take(length, what),
            Err(_) => Err(self.wrong(&format!("{what} has the length {length}"))),
        }
    }

    pub fn string(&mut self) -> Result<&'a str, Fault> {
        let bytes = self.bytes("a string")?;
        std::str::from_utf8(bytes).map_err(|_| self.wrong("a string is not UTF-8"))
    }

    /// The branch of a union of `branches`, or the symbol of an enum.
    pub fn index(&mut self, count: usize, what: &str) -> Result<usize, Fault> {
        let index = self.long(what)?;
        usize::try_from(index)
            .ok()
            .filter(|index| *index < count)
            .ok_or_else(|| self.wrong(&format!("{what} is {index}, of {count}")))
    }

    /// The head of the next block, of items that take at least `item_bytes_min` each.
    pub fn block(&mut self, item_bytes_min: u64) -> Result<Block, Fault> {
        let count = self.long("a block's count")?;
        let bytes = match count < 0 {
            true => {
                let bytes = self.long("a block's size")?;
                let known = usize::try_from(bytes).ok().filter(|bytes| *bytes <= self.left());
                Some(known.ok_or_else(|| self.wrong(&format!("a block has the size {bytes}")))?)
            }
            false => None,
        };
        let count = count.unsigned_abs();
        let room = bytes.unwrap_or(self.left()) as u64;
        let fits = match item_bytes_min {
            0 => count <= EMPTY_ITEMS_MAX,
            bytes => count <= room / bytes,
        };
        if fits {
            Ok(Block { count, bytes })
        } else {
            Err(self.wrong(&format!("a block claims {count} items, more than its bytes hold")))
        }
    }

    /// Checks that a block's items took the bytes that the writer said.
    pub fn end_block(&self, block: Block, start: usize) -> Result<(), Fault> {
        match block.bytes {
            Some(bytes) if self.at - start != bytes => {
                Err(self.wrong(&format!("a block of {bytes} bytes holds {}", self.at - start)))
            }
            _ => Ok(()),
        }
    }

    /// Refuses bytes after the record.
    pub fn end(&self) -> Result<(), Fault> {
        match self.left() {
            0 => Ok(()),
            left => {
                Err(self
                    .wrong(&format!("{left} bytes follow the record; it was written with another schema")))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_zigzag_and_bounded() {
        let long = |bytes: &[u8]| Cursor::new(bytes).long("x");
        assert_eq!(long(&[0]).unwrap(), 0);
        assert_eq!(long(&[1]).unwrap(), -1);
        assert_eq!(long(&[0x80, 1]).unwrap(), 64);
        assert_eq!(long(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).unwrap(), i64::MIN);
        assert!(long(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).is_err());
        assert!(long(&[0x80; 11]).is_err());
        assert!(long(&[0x80]).is_err());
        assert!(Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).int("x").is_err());
    }

    #[test]
    fn lengths_are_bounded_by_what_is_left() {
        assert!(Cursor::new(&[0xfe, 0xff, 0xff, 0xff, 0x0f, 1]).bytes("x").is_err());
        assert!(Cursor::new(&[1]).bytes("x").is_err(), "negative");
        assert!(Cursor::new(&[0xfe, 0xff, 0x03, 0]).block(4).is_err());
        assert!(Cursor::new(&[0xfe, 0xff, 0xff, 0xff, 0x0f]).block(0).is_err());
        let block = Cursor::new(&[1, 2, 9]).block(1).unwrap();
        assert_eq!((block.count, block.bytes), (1, Some(1)));
        assert!(Cursor::new(&[3, 2, 9]).block(1).is_err(), "two items in one byte");
    }
}
