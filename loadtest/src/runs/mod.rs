//! One file per figure.
pub mod drain;
pub mod freshness;
pub mod push;
pub mod search;
pub mod startup;
