//! The native half of the HTTP client.

pub mod websocket;

use pyo3::prelude::*;

/// Adds the client's classes and functions to the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    websocket::add_to(module)
}
