//! Distance kernels, memory maps and every other `unsafe` block of ProximaDB.

pub mod map;
