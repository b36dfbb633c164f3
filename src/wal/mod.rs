//! Write-ahead log: the first durable copy of every accepted record.
