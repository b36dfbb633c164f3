//! Opens an index file, of whichever kind it is.
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{Graph, IndexError, Ivf, VectorIndex, ivf};

/// Opens what an [`super::IndexBuilder`] wrote, and checks every byte of it. `mapped`: not to be read into memory.
pub fn open(path: &Path, mapped: bool) -> Result<Box<dyn VectorIndex>, IndexError> {
    let mut magic = [0; 8];
    let read = File::open(path).and_then(|mut file| file.read(&mut magic));
    let read = read.map_err(|source| IndexError::Io { path: path.to_owned(), source })?;
    // What is of no kind is told so by the one that most are of.
    Ok(match (&magic[..read] == ivf::MAGIC, mapped) {
        (true, false) => Box::new(Ivf::open(path)?),
        (true, true) => Box::new(Ivf::open_mapped(path)?),
        (false, false) => Box::new(Graph::open(path)?),
        (false, true) => Box::new(Graph::open_mapped(path)?),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::index::test_data::clustered;
    use crate::index::{BuildControl, Clusters, GraphBuilder, IndexBuilder, IvfBuilder};
    use crate::types::{Distance, GraphParams};

    #[test]
    fn files_say_what_they_are() {
        let data = clustered(100, 8, Distance::L2, 1);
        let folder = tempfile::tempdir().unwrap();
        let (graph, ivf) = (folder.path().join("a"), folder.path().join("b"));
        let control = BuildControl::default();
        let params = GraphParams::default();
        GraphBuilder { params, threads: 1, seed: 1 }.build(data.block(), &graph, &control).unwrap();
        let builder = IvfBuilder { clusters: Clusters::Auto, quantization: None, threads: 1, seed: 1 };
        builder.build(data.block(), &ivf, &control).unwrap();
        for path in [graph, ivf] {
            for mapped in [false, true] {
                assert_eq!(open(&path, mapped).unwrap().is_mapped(), mapped);
            }
        }
        let other = folder.path().join("c");
        std::fs::write(&other, b"short").unwrap();
        assert!(matches!(open(&other, false), Err(IndexError::Corrupt { .. })));
        assert!(matches!(open(&folder.path().join("d"), true), Err(IndexError::Io { .. })));
    }
}
