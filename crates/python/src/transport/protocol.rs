//! The protocol of a transport, with its methods looked up once.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyType};
use pyo3::{PyTraverseError, PyVisit, intern};

use super::native::NativeHandle;
use crate::buffer::LentMemory;
use crate::ffi::{call_in_context, call_in_context_or_here};
use crate::interpreter::{Attached, CloneWith};

/// How data reaches a protocol.
#[derive(Debug)]
pub enum Receiver {
    /// `Protocol.data_received(bytes)`
    Data(Py<PyAny>),
    /// `BufferedProtocol.get_buffer(sizehint)` and `buffer_updated(nbytes)`
    Buffered {
        /// Gives the memory to read into.
        get_buffer: Py<PyAny>,
        /// Receives how much was read.
        buffer_updated: Py<PyAny>,
    },
    /// It has no such method so far: looked up when data comes, which is when asyncio would miss it.
    Missing(Py<PyAny>),
    /// A protocol that takes bytes from the memory they were received into.
    Native(NativeHandle),
}

/// How a transport holds its protocol.
pub trait HeldProtocol: std::fmt::Debug + Send + Sized {
    /// Holds `protocol`. Its methods are looked up anew with `set_protocol()`.
    ///
    /// # Errors
    /// AttributeError for what lacks a method that is looked up at once.
    fn new(protocol: &Bound<'_, PyAny>) -> PyResult<Self>;

    /// The user's object.
    fn object(&self) -> &Py<PyAny>;

    /// Shows the garbage collector what is held.
    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError>;
}

/// A protocol whose method for what arrives is looked up when something has arrived.
#[derive(Debug)]
pub struct LateBound {
    object: Py<PyAny>,
    /// The method, once it was looked up.
    pub receiver: Option<Py<PyAny>>,
}

impl HeldProtocol for LateBound {
    fn new(protocol: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self { object: protocol.clone().unbind(), receiver: None })
    }

    fn object(&self) -> &Py<PyAny> {
        &self.object
    }

    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)?;
        visit.call(&self.receiver)
    }
}

/// A protocol and how data reaches it.
#[derive(Debug)]
pub struct Protocol {
    /// The user's object.
    pub object: Py<PyAny>,
    /// Its methods for data.
    pub receiver: Receiver,
}

fn buffered_protocol(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    TYPE.import(py, "asyncio", "BufferedProtocol")
}

impl Receiver {
    fn of(protocol: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = protocol.py();
        if let Some(native) = NativeHandle::of(protocol) {
            return Ok(Self::Native(native));
        }
        if protocol.is_instance(buffered_protocol(py)?)? {
            Self::buffered(protocol)
        } else {
            Ok(match protocol.getattr(intern!(py, "data_received")) {
                Ok(data_received) => Self::Data(data_received.unbind()),
                // With the methods of a `BufferedProtocol`, and none by its class: uvloop takes it for one, too.
                Err(_) => {
                    Self::buffered(protocol).unwrap_or_else(|_| Self::Missing(protocol.clone().unbind()))
                }
            })
        }
    }

    fn buffered(protocol: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = protocol.py();
        Ok(Self::Buffered {
            get_buffer: protocol.getattr(intern!(py, "get_buffer"))?.unbind(),
            buffer_updated: protocol.getattr(intern!(py, "buffer_updated"))?.unbind(),
        })
    }
}

impl CloneWith for Receiver {
    #[inline]
    fn clone_with(&self, at: Attached<'_>) -> Self {
        match self {
            Self::Data(data_received) => Self::Data(data_received.clone_with(at)),
            Self::Buffered { get_buffer, buffer_updated } => Self::Buffered {
                get_buffer: get_buffer.clone_with(at),
                buffer_updated: buffer_updated.clone_with(at),
            },
            Self::Missing(protocol) => Self::Missing(protocol.clone_with(at)),
            Self::Native(native) => Self::Native(native.clone_with(at)),
        }
    }
}

impl HeldProtocol for Protocol {
    fn new(protocol: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self { object: protocol.clone().unbind(), receiver: Receiver::of(protocol)? })
    }

    fn object(&self) -> &Py<PyAny> {
        &self.object
    }

    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)?;
        match &self.receiver {
            Receiver::Data(data_received) => visit.call(data_received),
            Receiver::Missing(protocol) => visit.call(protocol),
            Receiver::Buffered { get_buffer, buffer_updated } => {
                visit.call(get_buffer)?;
                visit.call(buffer_updated)
            }
            Receiver::Native(native) => native.visit(*visit),
        }
    }
}

/// Hands `data` to `data_received`, in `context`.
#[inline]
pub fn data_received(
    data_received: &Py<PyAny>,
    context: &Py<PyAny>,
    data: &Bound<'_, PyBytes>,
) -> PyResult<()> {
    call_in_context(data.py(), context, data_received, [data.as_any()]).map(drop)
}

/// Asks `get_buffer(sizehint)` of a buffered protocol for memory to read into.
///
/// # Errors
/// What `get_buffer` raises; as [`lent_memory`].
pub fn get_buffer(
    py: Python<'_>,
    context: &Py<PyAny>,
    get_buffer: &Py<PyAny>,
    sizehint: isize,
) -> PyResult<LentMemory> {
    let sizehint = sizehint.into_pyobject(py)?.into_any();
    lent_memory(&call_in_context(py, context, get_buffer, [&sizehint])?)
}

/// The memory of what `get_buffer()` returned.
///
/// # Errors
/// BufferError for what is not writable; RuntimeError for an empty buffer.
pub fn lent_memory(object: &Bound<'_, PyAny>) -> PyResult<LentMemory> {
    let memory = LentMemory::writable(object)?;
    if memory.len() == 0 {
        return Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"));
    }
    Ok(memory)
}

/// `protocol.name()`, with an AttributeError for one that has no such method.
pub fn call_method0<'py>(
    protocol: &Bound<'py, PyAny>,
    context: &Py<PyAny>,
    name: &Bound<'py, pyo3::types::PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    let method = protocol.getattr(name)?.unbind();
    call_in_context(protocol.py(), context, &method, [])
}

/// `protocol.name(arg)` in `context`.
pub fn call_method1<'py>(
    protocol: &Bound<'py, PyAny>,
    context: &Py<PyAny>,
    name: &Bound<'py, pyo3::types::PyString>,
    arg: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let method = protocol.getattr(name)?.unbind();
    call_in_context(protocol.py(), context, &method, [arg])
}

/// `protocol.name()` in `context`, or in the caller's if that is within it: flow control may be called from `write()`,
/// which may be called from the protocol.
pub fn call_flow_control<'py>(
    protocol: &Bound<'py, PyAny>,
    context: &Py<PyAny>,
    name: &Bound<'py, pyo3::types::PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    let method = protocol.getattr(name)?.unbind();
    call_in_context_or_here(protocol.py(), context, &method, [])
}
