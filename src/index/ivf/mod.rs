//! Clusters instead of links: an index that is read in a few long pieces.
//!
//! ```text
//!   rows ──sample, k-means──▶ centroids ──each row to its nearest──▶ codes around the centroid,
//!                                                                    cluster by cluster ──▶ .ivf file
//!   query ──nearest centroids, in order──▶ a probe each: one piece of the file
//!         ──estimates and their errors──▶ exact distances of the rows that are left in doubt
//!   (what isn't in memory of either is asked for at once, see `ahead`)
//! ```
//! A graph is walked by jumps; where each costs a read from a cold disk or an object store, a search wants
//! few pieces that are each read from front to back. That is what clusters give, for more work per
//! search where everything is in memory.
//!
//! F1 the same rows, parameters, seed and SIMD level give the same bytes, whatever the number of threads.
//! F2 every row is in one cluster. F3 a search returns `k` rows if so many match and are alive: it goes on to
//! farther clusters until it has them. F4 a search that looks into all clusters misses a row only where
//! its estimate is wrong by more than three standard deviations; without codes (up to 16 components) it
//! is exact.
//!
//! Sources: *Product Quantization for Nearest Neighbor Search*, Jégou et al. (PAMI 2011) for inverted files;
//! *SPANN: Highly-efficient Billion-scale Approximate Nearest Neighbor Search*, Chen et al. (NeurIPS 2021,
//! arXiv:2111.08566) for balanced clusters on disk.
mod ahead;
mod build;
mod format;
mod jobs;
mod kmeans;
mod order;
#[cfg(test)]
mod passages_tests;
mod search;
#[cfg(test)]
mod tests;
mod train;

pub use build::{ClusterOrder, Clusters, IvfBuilder};
pub(super) use format::MAGIC;
pub use search::Ivf;
