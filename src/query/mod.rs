//! One search, from request to hits.
