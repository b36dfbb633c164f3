//! What memory is held for.

/// What memory is held for; the label of its metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Rows that are in no segment yet, frozen ones included.
    Memtables,
    /// Log entries that are queued, being synced, or waiting for apply.
    LogQueue,
    /// Batches of sources, and bodies of requests, until they are log entries.
    InFlight,
    /// Buffers of flushes and merges.
    SegmentWrites,
    /// Graphs being built.
    IndexBuilds,
    /// Payload columns, kept for filters.
    ColumnCaches,
    /// Codes of rows that are in no graph, made by scans.
    ScanCodes,
    /// What an open segment needs beside its files: dead stamps.
    Segments,
    /// Vectors, ids and payloads of segments: mapped files.
    SegmentMaps,
    /// Graphs that are held in memory.
    Graphs,
    /// Graphs for which there was no room: mapped files.
    GraphMaps,
    /// Queries kept to measure recall by.
    Queries,
}

impl Purpose {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Memtables,
        Self::LogQueue,
        Self::InFlight,
        Self::SegmentWrites,
        Self::IndexBuilds,
        Self::ColumnCaches,
        Self::ScanCodes,
        Self::Segments,
        Self::SegmentMaps,
        Self::Graphs,
        Self::GraphMaps,
        Self::Queries,
    ];

    /// The word in metrics and messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Memtables => "memtables",
            Self::LogQueue => "log_queue",
            Self::InFlight => "in_flight",
            Self::SegmentWrites => "segment_writes",
            Self::IndexBuilds => "index_builds",
            Self::ColumnCaches => "column_caches",
            Self::ScanCodes => "scan_codes",
            Self::Segments => "segments",
            Self::SegmentMaps => "segment_maps",
            Self::Graphs => "graphs",
            Self::GraphMaps => "graph_maps",
            Self::Queries => "queries",
        }
    }

    /// Mapped files are page cache, which the system takes back by itself: they don't count against the limit.
    pub fn is_charged(self) -> bool {
        !matches!(self, Self::SegmentMaps | Self::GraphMaps)
    }
}
