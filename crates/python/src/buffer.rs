//! Memory of Python objects, by the buffer protocol.

use pyo3::ffi;
use pyo3::prelude::*;

/// A view of an object's memory as plain bytes, which keeps the object and its size as they are until it is dropped.
pub struct BytesView {
    // In a box: an exporter may point into the structure.
    view: Box<ffi::Py_buffer>,
}

// SAFETY: a view is the property of whoever has it; it may be read and released on any thread that is attached to the
// interpreter, and `drop` attaches.
unsafe impl Send for BytesView {}

impl std::fmt::Debug for BytesView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BytesView").field("len", &self.len()).finish()
    }
}

impl BytesView {
    fn get(object: &Bound<'_, PyAny>, flags: std::ffi::c_int) -> PyResult<Self> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: attached; `view` is released in `drop`, and only if this succeeds.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, flags) } < 0 {
            return Err(PyErr::fetch(object.py()));
        }
        Ok(Self { view })
    }

    /// A view for reading.
    ///
    /// # Errors
    /// TypeError for what is not bytes-like, BufferError for what does not lie in one piece.
    pub fn readable(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::get(object, ffi::PyBUF_SIMPLE)
    }

    /// A view for writing.
    ///
    /// # Errors
    /// As [`BytesView::readable`], and BufferError or TypeError for what is read-only.
    pub fn writable(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::get(object, ffi::PyBUF_WRITABLE)
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        usize::try_from(self.view.len).unwrap_or(0)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        if self.len() == 0 {
            return &[];
        }
        // SAFETY: a simple buffer of `len` bytes, held open by the view; no Python code runs while the slice is used.
        unsafe { std::slice::from_raw_parts(self.view.buf.cast(), self.len()) }
    }

    /// The bytes, of a view made by [`BytesView::writable`], to be written to.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        if self.len() == 0 || self.view.readonly != 0 {
            return &mut [];
        }
        // SAFETY: a simple writable buffer of `len` bytes, held open by the view; whoever lends memory for a read does not
        // touch it meanwhile, and no Python code runs while the slice is used.
        unsafe { std::slice::from_raw_parts_mut(self.view.buf.cast(), self.len()) }
    }
}

impl Drop for BytesView {
    fn drop(&mut self) {
        // SAFETY: made by `PyObject_GetBuffer` and released once, while attached.
        Python::attach(|_| unsafe { ffi::PyBuffer_Release(&raw mut *self.view) });
    }
}
