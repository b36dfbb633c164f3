//! Whole shards: a model that anything may happen to, readers amid swaps, and what single bugs have taught.
#![allow(clippy::unwrap_used, clippy::panic)]
mod clusters;
mod filters;
pub(crate) mod fixture;
mod fresh;
mod life;
mod model;
mod readers;
mod reindex;
