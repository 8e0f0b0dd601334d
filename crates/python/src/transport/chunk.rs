//! What a transport keeps of the data that was written to it.

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// One piece of written data.
#[derive(Debug)]
pub struct Chunk(Content);

#[derive(Debug)]
enum Content {
    /// A bytes object, which cannot change: kept as it is. The slice is its content, and goes out by `as_ref` alone, which
    /// ties it to the chunk.
    Bytes {
        /// Keeps the content alive.
        _object: Py<PyBytes>,
        content: &'static [u8],
    },
    /// A copy of anything else: the caller may change a bytearray as soon as `write()` has returned.
    Copied(Vec<u8>),
}

impl AsRef<[u8]> for Chunk {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        match &self.0 {
            Content::Bytes { content, .. } => content,
            Content::Copied(content) => content,
        }
    }
}

impl Chunk {
    /// From what was given to `write()`.
    ///
    /// # Errors
    /// TypeError for anything that is not bytes-like.
    #[inline]
    pub fn new(data: &Bound<'_, PyAny>) -> PyResult<Self> {
        match data.cast_exact::<PyBytes>() {
            Ok(bytes) => Ok(Self::of_bytes(bytes)),
            Err(_) => Self::copy_of(data),
        }
    }

    /// From the iterable that was given to `writelines()`.
    ///
    /// # Errors
    /// What iterating raises, and TypeError for an item that is not bytes-like.
    pub fn all(list_of_data: &Bound<'_, PyAny>) -> PyResult<Vec<Self>> {
        list_of_data.try_iter()?.map(|data| Self::new(&data?)).collect()
    }

    /// A bytes object, as it is.
    pub fn of_bytes(bytes: &Bound<'_, PyBytes>) -> Self {
        let content: *const [u8] = bytes.as_bytes();
        // SAFETY: a bytes object never changes and never moves, and the reference stored with the slice keeps it alive as long
        // as the chunk; `as_ref` ties what it gives out to the chunk.
        Self(Content::Bytes { _object: bytes.clone().unbind(), content: unsafe { &*content } })
    }

    /// Bytes that are the transport's already.
    pub const fn owned(content: Vec<u8>) -> Self {
        Self(Content::Copied(content))
    }

    #[cold]
    fn copy_of(data: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = data.py();
        let refused = || -> PyErr {
            let name = data.get_type().name().map(|name| name.to_string()).unwrap_or_default();
            PyTypeError::new_err(format!("data argument must be a bytes-like object, not '{name}'"))
        };
        if let Ok(bytes) = data.cast::<PyBytes>() {
            return Ok(Self::owned(bytes.as_bytes().to_vec()));
        }
        // A memoryview of any format and shape counts as its bytes (cpython #135862).
        match PyBuffer::<u8>::get(data) {
            Ok(buffer) => buffer.to_vec(py).map(Self::owned),
            Err(_) => {
                let view =
                    py.import("builtins")?.getattr("memoryview")?.call1((data,)).map_err(|_| refused())?;
                let bytes = view.call_method0("tobytes").map_err(|_| refused())?;
                Ok(Self::owned(bytes.cast_into::<PyBytes>().map_err(|_| refused())?.as_bytes().to_vec()))
            }
        }
    }
}
