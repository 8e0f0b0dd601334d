//! Pipe transports: pipes, FIFOs, terminals and sockets, one direction each.

mod read;
mod write;

use std::os::fd::{BorrowedFd, RawFd};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, intern};
use rustix::fs::FileType;

use super::common;
use super::states::TransportPhase;
use crate::errors::OrRaise;
use crate::interpreter::{Attached, CloneWith};

pub use read::ReadPipeTransport;
pub use write::WritePipeTransport;

/// What kind of file a pipe transport is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A pipe or a FIFO.
    Pipe,
    /// A socket.
    Socket,
    /// A character device: a terminal, above all.
    Device,
}

/// The file object of a transport, which is the transport's to close.
#[derive(Debug)]
enum Pipe {
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
    fn new(pipe: &Bound<'_, PyAny>, refusal: &'static str) -> PyResult<(Self, Kind)> {
        let fd: RawFd = pipe.call_method0(intern!(pipe.py(), "fileno"))?.extract()?;
        let taken = Self::Open(pipe.clone().unbind(), fd);
        let Some(borrowed) = taken.borrow() else { return Err(PyValueError::new_err(refusal)) };
        let mode = rustix::fs::fstat(borrowed).or_raise()?.st_mode;
        let kind = match FileType::from_raw_mode(mode as rustix::fs::RawMode) {
            FileType::Fifo => Kind::Pipe,
            FileType::Socket => Kind::Socket,
            FileType::CharacterDevice => Kind::Device,
            _ => return Err(PyValueError::new_err(refusal)),
        };
        rustix::io::ioctl_fionbio(borrowed, true).or_raise()?;
        Ok((taken, kind))
    }

    /// The descriptor's number, -1 once it is closed.
    const fn fd(&self) -> RawFd {
        match self {
            Self::Open(_, fd) => *fd,
            Self::Closed => -1,
        }
    }

    /// The file object.
    fn object(&self, at: Attached<'_>) -> Option<Py<PyAny>> {
        match self {
            Self::Open(object, _) => Some(object.clone_with(at)),
            Self::Closed => None,
        }
    }

    /// Lends the descriptor for a system call.
    fn borrow(&self) -> Option<BorrowedFd<'_>> {
        let fd = self.fd();
        // SAFETY: not -1, and open as long as the file object is, which `self` keeps. Foreign code may close it all the same:
        // the kernel answers EBADF or, where the number was given away again, uses that file, as the same mistake does in
        // Python. No memory is at stake.
        (fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// Shows the garbage collector what is held.
    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Open(object, _) => visit.call(object),
            Self::Closed => Ok(()),
        }
    }

    /// Calls `pipe.close()`.
    fn close(self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Open(object, _) => object.call_method0(py, intern!(py, "close")).map(drop),
            Self::Closed => Ok(()),
        }
    }

    /// Closes the file of a transport that is dropped without having been closed, with a ResourceWarning.
    fn close_unclosed(self, py: Python<'_>, transport: &str) {
        let shown = format!("<{transport} fd={}>", self.fd());
        for outcome in [common::warn_unclosed(py, &shown), self.close(py)] {
            if let Err(error) = outcome {
                // Warnings are errors, or closing failed, and a destructor has nobody to raise to.
                error.write_unraisable(py, None);
            }
        }
    }
}
