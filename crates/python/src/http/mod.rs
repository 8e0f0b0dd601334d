//! The native half of the HTTP client.

pub mod coding;

use pyo3::prelude::*;

/// Adds the client's classes and functions to the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    coding::add_to(module)
}
