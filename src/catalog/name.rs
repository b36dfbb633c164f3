//! The rule for names, as an error of the catalog.
use super::CatalogError;
use crate::types;

/// Is this the name of a collection or a pipeline? See [`types::check_name`].
pub fn check_name(name: &str) -> Result<(), CatalogError> {
    types::check_name(name).map_err(|why| CatalogError::InvalidName { name: name.to_string(), why })
}
