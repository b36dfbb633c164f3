//! Memory to segments, segments to fewer segments.
