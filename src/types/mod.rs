//! The words every stage shares. Imports nothing of ours.
mod batch;
mod collection;
mod columns;
mod distance;
mod error;
mod id;
mod name;
mod id_hash;
mod position;
mod index_spec;
mod quantization;
mod raw;
mod recall_target;
mod row_set;

pub use batch::{Entry, Expect, Op, OpKind, Outcome, Reject, WriteBatch};
pub use collection::{CollectionConfig, CollectionId, DIM_MAX, GraphParams, GraphPatch, Levels};
pub use columns::{Column, FieldType, FieldTypes, column_of, columns_of};
pub use distance::Distance;
pub use error::ErrorKind;
pub use id::{POINT_ID_BYTES_MAX, PointId, PointIdError};
pub use id_hash::{IdHash, IdTable, hash_id};
pub use index_spec::{Built, IndexKind, IndexSpec};
pub use name::{NAME_BYTES_MAX, check_name};
pub use position::{Lsn, PartitionPosition, Position, Positions, SourceRange, Verdict};
pub use quantization::{
    BinaryEncoding, BinaryQuantization, CodedSearch, Compression, Hint, ProductQuantization, Quantization,
    RabitqBits, RabitqQuantization, ScalarQuantization, ScalarType,
};
pub use raw::{RawBatch, RawRecord, RawRows};
pub use recall_target::RecallTarget;
pub use row_set::RowSet;
