//! Tests of whole segments and manifests; parts have theirs beside them.
#![allow(clippy::unwrap_used, clippy::panic)]
mod damage;
mod fixture;
mod manifests;
mod round_trip;
mod size;
