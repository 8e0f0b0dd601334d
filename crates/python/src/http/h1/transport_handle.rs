//! The transport of a connection: one of ours, called directly, or any other by its methods.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit};

use crate::interpreter::{Attached, CloneWith};
use crate::transport::{Chunk, StreamTransport, TlsTransport, Transport};

/// The transport below a connection.
#[derive(Debug)]
pub enum TransportHandle {
    /// TCP or a Unix-domain socket.
    Stream(Py<StreamTransport>),
    /// TLS over it.
    Tls(Py<TlsTransport>),
    /// Another loop's, or asyncio's TLS within TLS.
    Foreign(Py<PyAny>),
}

impl CloneWith for TransportHandle {
    fn clone_with(&self, at: Attached<'_>) -> Self {
        match self {
            Self::Stream(stream) => Self::Stream(stream.clone_with(at)),
            Self::Tls(tls) => Self::Tls(tls.clone_with(at)),
            Self::Foreign(transport) => Self::Foreign(transport.clone_with(at)),
        }
    }
}

impl TransportHandle {
    /// From the argument of `connection_made()`.
    pub fn of(transport: &Bound<'_, PyAny>) -> Self {
        if let Ok(stream) = transport.cast_exact::<StreamTransport>() {
            Self::Stream(stream.clone().unbind())
        } else if let Ok(tls) = transport.cast_exact::<TlsTransport>() {
            Self::Tls(tls.clone().unbind())
        } else {
            Self::Foreign(transport.clone().unbind())
        }
    }

    /// The transport as Python has it.
    pub fn object<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        match self {
            Self::Stream(stream) => stream.bind(py).as_any().clone(),
            Self::Tls(tls) => tls.bind(py).as_any().clone(),
            Self::Foreign(transport) => transport.bind(py).clone(),
        }
    }

    /// `write()` or `writelines()`
    ///
    /// # Errors
    /// As `write()`.
    pub fn write(&self, py: Python<'_>, chunks: impl Iterator<Item = Chunk> + Send) -> PyResult<()> {
        match self {
            Self::Stream(stream) => StreamTransport::write_chunks(stream.bind(py), chunks),
            Self::Tls(tls) => TlsTransport::write_chunks(tls.bind(py), chunks),
            Self::Foreign(transport) => {
                // Not by `writelines()`: in asyncio of Python 3.12.0 to 3.12.8, 3.13.0 and 3.13.1 it never pauses the protocol,
                // so that an upload fills the memory (gh-127655), and from 3.12 on it keeps an empty piece and then never closes.
                let chunks: Vec<Chunk> = chunks.collect();
                let size = chunks.iter().map(|chunk| chunk.as_ref().len()).sum();
                let data = PyBytes::new_with(py, size, |mut rest| {
                    for chunk in &chunks {
                        let (place, behind) = std::mem::take(&mut rest).split_at_mut(chunk.as_ref().len());
                        place.copy_from_slice(chunk.as_ref());
                        rest = behind;
                    }
                    Ok(())
                })?;
                transport.bind(py).call_method1(intern!(py, "write"), (data,)).map(drop)
            }
        }
    }

    /// Whether it is closing or closed.
    ///
    /// # Errors
    /// What a foreign transport raises.
    pub fn is_closing(&self, py: Python<'_>) -> PyResult<bool> {
        match self {
            Self::Stream(stream) => Ok(stream.get().is_closing()),
            Self::Tls(tls) => Ok(tls.get().is_closing(py)),
            Self::Foreign(transport) => {
                transport.bind(py).call_method0(intern!(py, "is_closing"))?.is_truthy()
            }
        }
    }

    /// Whether its write buffer has bytes.
    ///
    /// # Errors
    /// What a foreign transport raises.
    pub fn has_unsent(&self, py: Python<'_>) -> PyResult<bool> {
        let size = self.object(py).call_method0(intern!(py, "get_write_buffer_size"))?;
        Ok(size.extract::<usize>()? > 0)
    }

    /// Calls a method without arguments, such as `close`.
    ///
    /// # Errors
    /// What it raises.
    pub fn call(&self, py: Python<'_>, method: &Bound<'_, pyo3::types::PyString>) -> PyResult<()> {
        self.object(py).call_method0(method).map(drop)
    }

    /// Shows the garbage collector the references.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Stream(stream) => visit.call(stream),
            Self::Tls(tls) => visit.call(tls),
            Self::Foreign(transport) => visit.call(transport),
        }
    }
}
