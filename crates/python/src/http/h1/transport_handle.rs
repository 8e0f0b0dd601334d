//! The transport of a connection: one of ours, called directly, or any other by its methods.

use pyo3::exceptions::{PyAttributeError, PyNotImplementedError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::fd::lend;
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

/// Whether nothing has arrived on the socket of another loop's transport: an idle connection has nothing to receive but its end.
/// Under TLS there may be more.
fn look_at(transport: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = transport.py();
    let info = intern!(py, "get_extra_info");
    if !transport.call_method1(info, (intern!(py, "ssl_object"),))?.is_none() {
        return Ok(true);
    }
    let socket = transport.call_method1(info, (intern!(py, "socket"),))?;
    if socket.is_none() {
        return Ok(true);
    }
    let fd: i32 = socket.call_method0(intern!(py, "fileno"))?.extract()?;
    if fd < 0 {
        return Ok(false);
    }
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let mut byte = [0];
    let outcome = lend(fd, |fd| rustix::net::recv(fd, &mut byte, flags));
    Ok(matches!(outcome, Err(Errno::AGAIN | Errno::INTR)))
}

/// Whether a transport does not have the method that raised `error`: asyncio's base class has it as one that is not implemented.
fn is_missing(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyNotImplementedError>(py) || error.is_instance_of::<PyAttributeError>(py)
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

    /// Takes what has arrived since the loop last polled, without a wait; false if the connection has ended by what is in its
    /// socket, as far as that can be known.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt from a protocol; what a foreign transport raises.
    pub fn look(&self, py: Python<'_>) -> PyResult<bool> {
        match self {
            Self::Stream(stream) => StreamTransport::look(stream.bind(py))?,
            Self::Tls(tls) => tls.get().look(py)?,
            Self::Foreign(transport) => return look_at(transport.bind(py)),
        }
        Ok(!self.is_closing(py)?)
    }

    /// Whether its write buffer has bytes.
    ///
    /// # Errors
    /// What a foreign transport raises.
    pub fn has_unsent(&self, py: Python<'_>) -> PyResult<bool> {
        let size = match self {
            Self::Stream(stream) => stream.get().write_buffer_size()?,
            Self::Tls(tls) => tls.get().write_buffer_size(py)?,
            Self::Foreign(transport) => {
                match transport.bind(py).call_method0(intern!(py, "get_write_buffer_size")) {
                    Ok(size) => size.extract()?,
                    // It has nothing, as far as can be known.
                    Err(error) if is_missing(py, &error) => 0,
                    Err(error) => return Err(error),
                }
            }
        };
        Ok(size > 0)
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
