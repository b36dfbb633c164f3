//! One budget of memory for the process: what is held is charged to it, by purpose.
//!
//! ```text
//!   memtables, queues, batches in flight, columns, builds ──Charge──▶ MemoryBudget ──▶ metrics
//!                                                                     │ tight: ¾ of the limit
//!        flush the largest memtable, drop columns, defer builds ◀─────┤
//!        hold sources, let writes wait, then refuse them        ◀─────┘ full: the limit
//! ```
//! M1 what is charged is let go of exactly once, when its [`Charge`] is dropped. M2 charging takes no lock and
//! never waits. M3 only what enters the process is refused: what is on its way to the disk always goes on, so
//! memory comes free whatever is full. M4 files mapped into memory are counted and not charged: the system takes
//! their pages back by itself.
mod budget;
mod charge;
mod machine;
mod purpose;

pub use budget::MemoryBudget;
pub use charge::Charge;
pub use machine::{anonymous_bytes, memory_of_machine};
pub use purpose::Purpose;
