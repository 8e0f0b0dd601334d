//! The socket of a transport: a bare descriptor until the object is asked for.

use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use pyo3::{PyTraverseError, PyVisit, intern};

use super::base::Descriptor;

/// Who owns the descriptor of a transport.
#[derive(Debug)]
pub enum Socket {
    /// We do: an accepted connection whose socket object has not been asked for. Family and type are for when it is.
    Native(OwnedFd, i32),
    /// A `socket.socket`, by its object.
    Python(Py<PyAny>, RawFd),
    /// Closed; with its object, if there was one.
    Closed(Option<Py<PyAny>>),
}

impl Socket {
    /// A socket that Python made.
    pub fn from_python(socket: &Bound<'_, PyAny>) -> PyResult<Self> {
        let fd = crate::event_loop::fileno(socket)?;
        Ok(Self::Python(socket.clone().unbind(), fd))
    }

    /// Lends the descriptor for a system call.
    pub fn borrow(&self) -> Option<BorrowedFd<'_>> {
        let fd = self.fd();
        // SAFETY: not -1, and open as long as `self` is: it owns it, or the Python object does, which a transport's user
        // must not close (a `TransportSocket` has no `close()`). Where one does, the kernel answers EBADF or, where the number was
        // given away again, uses that file, as the same mistake does in Python. No memory is at stake.
        (fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// The `socket.socket`; made now if there was none.
    pub fn object(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self {
            Self::Python(socket, _) => Ok(Some(socket.clone_ref(py))),
            Self::Closed(socket) => Ok(socket.as_ref().map(|socket| socket.clone_ref(py))),
            Self::Native(fd, family) => {
                let raw = fd.as_raw_fd();
                let socket = new_object(py, raw, *family)?;
                let former = std::mem::replace(self, Self::Python(socket.clone_ref(py), raw));
                if let Self::Native(fd, _) = former {
                    // The object owns it now.
                    let _owned_by_python = fd.into_raw_fd();
                }
                Ok(Some(socket))
            }
        }
    }
}

impl Descriptor for Socket {
    fn fd(&self) -> RawFd {
        match self {
            Self::Native(fd, _) => fd.as_raw_fd(),
            Self::Python(_, fd) => *fd,
            Self::Closed(_) => -1,
        }
    }

    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Closed(None))
    }

    fn close(self, py: Python<'_>) -> PyResult<Self> {
        match self {
            Self::Python(socket, _) => {
                socket.call_method0(py, intern!(py, "close"))?;
                Ok(Self::Closed(Some(socket)))
            }
            // Dropping a descriptor closes it.
            Self::Native(..) => Ok(Self::Closed(None)),
            Self::Closed(socket) => Ok(Self::Closed(socket)),
        }
    }

    /// By the method of the built-in base class: the collector may have cleared the slots that `socket.socket.close()` reads.
    fn close_collected(self, py: Python<'_>) -> PyResult<()> {
        static BASE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        match &self {
            Self::Python(socket, _)
                if socket.bind(py).is_instance(BASE.import(py, "_socket", "socket")?)? =>
            {
                BASE.import(py, "_socket", "socket")?.call_method1(intern!(py, "close"), (socket,)).map(drop)
            }
            _ => self.close(py).map(drop),
        }
    }

    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Python(socket, _) => visit.call(socket),
            Self::Closed(socket) => visit.call(socket),
            Self::Native(..) => Ok(()),
        }
    }
}

fn new_object(py: Python<'_>, fd: RawFd, family: i32) -> PyResult<Py<PyAny>> {
    let keywords = PyDict::new(py);
    keywords.set_item(intern!(py, "family"), family)?;
    keywords.set_item(intern!(py, "type"), libc::SOCK_STREAM)?;
    keywords.set_item(intern!(py, "proto"), 0)?;
    keywords.set_item(intern!(py, "fileno"), fd)?;
    let socket =
        py.import(intern!(py, "socket"))?.getattr(intern!(py, "socket"))?.call((), Some(&keywords))?;
    // Where a default time-out is set, the object was made blocking in its own eyes.
    socket.call_method1(intern!(py, "setblocking"), (false,))?;
    Ok(socket.unbind())
}
