//! Heads as Python sees them; made on first use.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple, PyType};
use whorl_core::http1::HeaderFields;

/// Text of a head: UTF-8, with other bytes as lone surrogates, as aiohttp decodes it.
pub fn text<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Ok(PyString::new(py, text).into_any());
    }
    let len = ffi::Py_ssize_t::try_from(bytes.len()).unwrap_or(0);
    // SAFETY: attached; the pointer and the length are the slice's, the name of the handler is NUL-terminated.
    unsafe {
        let decoded = ffi::PyUnicode_DecodeUTF8(bytes.as_ptr().cast(), len, c"surrogateescape".as_ptr());
        Bound::from_owned_ptr_or_err(py, decoded)
    }
}

fn multidict_class<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyType>>,
    name: &str,
) -> PyResult<&'py Bound<'py, PyType>> {
    cell.import(py, "multidict", name)
}

/// `CIMultiDictProxy`, with names as they came, in their order.
pub fn headers<'py>(py: Python<'py>, fields: &HeaderFields) -> PyResult<Bound<'py, PyAny>> {
    static DICT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static PROXY: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let pairs = PyList::empty(py);
    for (name, value) in fields.iter() {
        pairs.append((text(py, name)?, text(py, value)?))?;
    }
    let dict = multidict_class(py, &DICT, "CIMultiDict")?.call1((pairs,))?;
    multidict_class(py, &PROXY, "CIMultiDictProxy")?.call1((dict,))
}

/// Pairs of bytes, as they came.
pub fn raw_headers<'py>(py: Python<'py>, fields: &HeaderFields) -> PyResult<Bound<'py, PyTuple>> {
    let pairs: Vec<_> =
        fields.iter().map(|(name, value)| (PyBytes::new(py, name), PyBytes::new(py, value))).collect();
    PyTuple::new(py, pairs)
}
