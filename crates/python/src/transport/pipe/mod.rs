//! Pipe transports: pipes, FIFOs, terminals and sockets, one direction each.

mod read;
mod write;

use std::os::fd::RawFd;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit, intern};
use rustix::fs::FileType;

use super::base::{Descriptor, IoTransport, Transport, TransportKind};
use crate::errors::OrRaise;
use crate::event_loop::EventLoop;
use crate::fd::lend;
use crate::ffi::copy_context;
use crate::interpreter::{Attached, CloneWith};

pub use read::ReadPipeTransport;
pub use write::WritePipeTransport;

/// What kind of file a pipe transport is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A pipe or a FIFO.
    Pipe,
    /// A socket.
    Socket,
    /// A character device: a terminal, above all.
    Device,
}

/// The file object of a transport, which is the transport's to close.
#[derive(Debug)]
pub enum Pipe {
    /// Open, with its descriptor.
    Open(Py<PyAny>, RawFd),
    /// Closed.
    Closed,
}

impl Pipe {
    /// Takes the file object over and makes it non-blocking.
    ///
    /// # Errors
    /// ValueError with `refusal` for a regular file, a directory or a block device.
    fn new(pipe: &Bound<'_, PyAny>, refusal: &'static str) -> PyResult<(Self, FileKind)> {
        let fd: RawFd = pipe.call_method0(intern!(pipe.py(), "fileno"))?.extract()?;
        let taken = Self::Open(pipe.clone().unbind(), fd);
        if fd < 0 {
            return Err(PyValueError::new_err(refusal));
        }
        let mode = lend(fd, |fd| rustix::fs::fstat(fd)).or_raise()?.st_mode;
        let kind = match FileType::from_raw_mode(mode as rustix::fs::RawMode) {
            FileType::Fifo => FileKind::Pipe,
            FileType::Socket => FileKind::Socket,
            FileType::CharacterDevice => FileKind::Device,
            _ => return Err(PyValueError::new_err(refusal)),
        };
        lend(fd, |fd| rustix::io::ioctl_fionbio(fd, true)).or_raise()?;
        Ok((taken, kind))
    }

    /// The file object.
    pub fn object(&self, at: Attached<'_>) -> Option<Py<PyAny>> {
        match self {
            Self::Open(object, _) => Some(object.clone_with(at)),
            Self::Closed => None,
        }
    }
}

impl Descriptor for Pipe {
    fn fd(&self) -> RawFd {
        match self {
            Self::Open(_, fd) => *fd,
            Self::Closed => -1,
        }
    }

    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Closed)
    }

    fn close(self, py: Python<'_>) -> PyResult<Self> {
        if let Self::Open(object, _) = self {
            object.call_method0(py, intern!(py, "close"))?;
        }
        Ok(Self::Closed)
    }

    /// Where the collector has cleared the file object, its `close()` says so. The descriptor is then that of an object below it, in
    /// the same garbage, which closes it.
    fn close_collected(self, py: Python<'_>) -> PyResult<()> {
        match self.close(py) {
            Err(error) if is_cleared(py, &error) => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Open(object, _) => visit.call(object),
            Self::Closed => Ok(()),
        }
    }
}

/// Whether `error` is what the file objects of `io` raise once the collector has cleared them.
fn is_cleared(py: Python<'_>, error: &PyErr) -> bool {
    let value = error.value(py);
    value.is_exact_instance_of::<PyValueError>()
        && value.str().is_ok_and(|text| text == "I/O operation on uninitialized object")
}

/// A kind of transport over a file object.
pub trait PipeKind: TransportKind<Descriptor = Pipe> {
    /// What the ValueError says for a file of another kind.
    const REFUSAL: &'static str;

    /// A new one on a file of kind `file`.
    fn new(file: FileKind, extra: Py<PyDict>) -> Self;

    /// What `get_extra_info()` returns.
    fn extra(&self) -> Option<&Py<PyDict>>;
}

/// What the transports over a file object share.
pub trait PipeTransport: Transport<Kind: PipeKind> {
    /// `get_extra_info()`
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    fn extra_info<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let extra =
            self.with_attached(py, |state, at| state.kind.extra().map(|extra| extra.clone_with(at)))?;
        let value = extra.map(|extra| extra.bind(py).get_item(name)).transpose()?.flatten();
        Ok(value.or(default))
    }

    /// `_pipe = None`
    ///
    /// # Errors
    /// TypeError for anything but None; RuntimeError on the wrong thread.
    fn give_up_file(&self, pipe: Option<Py<PyAny>>) -> PyResult<()> {
        if pipe.is_some() {
            return Err(PyTypeError::new_err("the file of a pipe transport can only be set to None"));
        }
        let _given_up = self.with(|state| state.descriptor.take())?;
        Ok(())
    }
}

impl<T: Transport<Kind: PipeKind>> PipeTransport for T {}

/// The fields of a new transport over `pipe`.
///
/// # Errors
/// ValueError for what is neither a pipe, a socket nor a character device.
fn io_on<K: PipeKind>(
    event_loop: &Bound<'_, EventLoop>,
    pipe: &Bound<'_, PyAny>,
    protocol: &Bound<'_, PyAny>,
    extra: Option<&Bound<'_, PyDict>>,
) -> PyResult<IoTransport<K>> {
    let py = event_loop.py();
    let (taken, file) = Pipe::new(pipe, K::REFUSAL)?;
    let extra = extra.map_or_else(|| Ok(PyDict::new(py)), |extra| extra.copy())?;
    extra.set_item(intern!(py, "pipe"), pipe)?;
    IoTransport::new(event_loop, copy_context(py)?, taken, protocol, K::new(file, extra.unbind()))
}
