//! Settings: defaults, then the file, then the environment, then flags. Unknown keys are errors.
pub mod pipeline;
mod server;

pub use server::{
    ConfigError, GpuChoice, IndexConfig, LimitsConfig, LogConfig, MemoryConfig, MemtableConfig, ServerConfig,
};
