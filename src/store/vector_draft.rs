//! Vectors in one block before it is known in which order a segment will hold them.
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use proximadb_kernels::map::{Map, as_f32s, f32s_as_bytes};

use super::{SegmentId, StoreError, durable};

/// Bytes written at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Vectors in a file that has no name any more: it goes with this, or with the process.
///
/// A file and not memory, since under pressure the system can take its pages back.
#[derive(Debug)]
pub struct VectorDraft {
    path: PathBuf,
    map: Map,
}

impl VectorDraft {
    /// Copies vectors, one after the other, into a file in `dir` beside the segment `id` that they are to become.
    pub fn gather<'a>(
        dir: &Path,
        id: SegmentId,
        vectors: impl Iterator<Item = Result<&'a [f32], StoreError>>,
    ) -> Result<Self, StoreError> {
        let path = dir.join(id.file_name("draft"));
        let map = write(&path, vectors).and_then(|()| Map::open(&path).map_err(StoreError::io(&path, "map")));
        // Where a mapped file keeps its name, or after a crash, it is collected: no manifest names it.
        let _ = durable::remove(&path);
        Ok(Self { map: map?, path })
    }

    /// All of them, row-major.
    pub fn vectors(&self) -> Result<&[f32], StoreError> {
        as_f32s(self.map.bytes()).ok_or_else(|| {
            StoreError::corrupt(&self.path, "its vectors can't be read as f32 on this machine")
        })
    }
}

fn write<'a>(
    path: &Path,
    vectors: impl Iterator<Item = Result<&'a [f32], StoreError>>,
) -> Result<(), StoreError> {
    let failed = StoreError::io(path, "write");
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, durable::create_new(path)?);
    for vector in vectors {
        let vector = vector?;
        let written = match f32s_as_bytes(vector) {
            Some(bytes) => out.write_all(bytes),
            None => vector.iter().try_for_each(|component| out.write_all(&component.to_le_bytes())),
        };
        if let Err(error) = written {
            return Err(failed(error));
        }
    }
    out.flush().map_err(failed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_one_block_and_the_file_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let rows = [[1.0f32, 2.0], [3.0, 4.0]];
        let draft =
            VectorDraft::gather(dir.path(), SegmentId::new(), rows.iter().map(|row| Ok(&row[..]))).unwrap();
        assert_eq!(draft.vectors().unwrap(), [1.0, 2.0, 3.0, 4.0]);
        let stopped = [Ok(&rows[0][..]), Err(StoreError::Stopped)].into_iter();
        let error = VectorDraft::gather(dir.path(), SegmentId::new(), stopped).unwrap_err();
        assert!(matches!(error, StoreError::Stopped), "{error}");
        assert!(durable::list(dir.path()).unwrap().is_empty());
    }
}
