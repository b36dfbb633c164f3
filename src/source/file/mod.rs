//! Files as a source: each file is a partition, read in order.
//!
//! | format | a record | its position | `to` counts |
//! |---|---|---|---|
//! | JSON lines | a line that is not blank | bytes consumed with it, newline included | bytes |
//! | Parquet | a row | its index in the file | rows |
//! | Avro container | a record | its index in the file | records |
//!
//! I1 a file is never read twice behind a position that the log holds. I2 a file that shrank or was replaced
//! stops the pipeline: its positions mean nothing any more, and guessing would lose or repeat records. I3 a
//! line counts once its newline is there; the end of a file that is not followed ends its last line.
mod avro;
mod file_source;
mod lines;
mod parquet;
mod paths;

pub use file_source::FileSource;

#[cfg(test)]
mod tests;
