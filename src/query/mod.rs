//! The read side: one snapshot over memtables and segments, from request to hits.
//!
//! ```text
//!   request ─▶ filter ─▶ rows of each block and segment ─▶ scan | graph ─▶ top k ─▶ fetch ─▶ hits
//!              typed columns; JSON where types are mixed        admit: visible and matching
//! ```
//! I1 an answer comes from one snapshot: nothing past its LSN, no id twice. I2 if `k` rows match, `k` come back.
//! I3 what is asked is checked before it gets here, but for what only the stored data can tell.
mod deadline;
mod error;
mod execute;
mod fetch;
mod filter;
mod request;

pub use deadline::Deadline;
pub use error::QueryError;
pub use execute::{Found, Search, for_each_match, prepare_vector};
pub use fetch::{find, payload, record};
pub use filter::{
    FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX, Filter, FilterError, Instant, PayloadView, top_level_field,
};
pub use request::{
    FreshAsOf, Freshness, Hit, Nearest, PayloadEdit, PayloadSelection, PointSelector, ReadOptions, Record,
    ScrollAnswer, ScrollRequest, SearchAnswer, SearchRequest,
};
