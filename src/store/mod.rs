//! Immutable segments and the manifest that names the live ones.
