//! The socket of a transport: a bare descriptor until the object is asked for.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use pyo3::{PyTraverseError, PyVisit, intern};

use super::base::Descriptor;
use crate::interpreter::{Attached, CloneWith};

/// The descriptor of a transport, by its owner.
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
        // Imported while there is something to import from, for a transport that is dropped when the interpreter ends.
        base(socket.py())?;
        let fd = crate::event_loop::fileno(socket)?;
        Ok(Self::Python(socket.clone().unbind(), fd))
    }

    /// What stands for it in Python.
    pub fn object(&self, at: Attached<'_>) -> SocketObject {
        match self {
            Self::Python(socket, _) => SocketObject::Known(Some(socket.clone_with(at))),
            Self::Closed(socket) => SocketObject::Known(socket.clone_with(at)),
            Self::Native(fd, family) => SocketObject::Unmade(Unmade { fd: fd.as_raw_fd(), family: *family }),
        }
    }

    /// Gives the descriptor to `socket`, which [`Unmade::make`] made of it. False if it has an object by now, or is closed: then
    /// `socket` is to be [disowned](Unmade::disown).
    #[must_use]
    pub fn transition_to_python(&mut self, of: Unmade, socket: &mut Option<Py<PyAny>>) -> bool {
        match self {
            Self::Native(fd, _) if fd.as_raw_fd() == of.fd => {
                let Some(socket) = socket.take() else { return false };
                if let Self::Native(fd, _) = std::mem::replace(self, Self::Python(socket, of.fd)) {
                    // The object owns it now.
                    let _owned_by_python = fd.into_raw_fd();
                }
                true
            }
            _ => false,
        }
    }
}

/// The object of a socket.
#[derive(Debug)]
pub enum SocketObject {
    /// There is one, or the socket is closed and had none.
    Known(Option<Py<PyAny>>),
    /// It has not been asked for.
    Unmade(Unmade),
}

/// A socket that has no object yet: its descriptor, and its family.
#[derive(Clone, Copy, Debug)]
pub struct Unmade {
    fd: RawFd,
    family: i32,
}

impl Unmade {
    /// A `socket.socket` of the descriptor. The transport owns that until [`Socket::transition_to_python`], and so stays in use
    /// while the object is made: the class may be a program's own, and do with the transport what it likes.
    ///
    /// # Errors
    /// What the class raises; the descriptor is open all the same.
    pub fn make<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        // For `close_collected`: at the interpreter's end nothing can be imported.
        base(py)?;
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "family"), self.family)?;
        keywords.set_item(intern!(py, "type"), libc::SOCK_STREAM)?;
        keywords.set_item(intern!(py, "proto"), 0)?;
        keywords.set_item(intern!(py, "fileno"), self.fd)?;
        let class = py.import(intern!(py, "socket"))?.getattr(intern!(py, "socket"))?;
        if !class.get_type().is(py.get_type::<PyType>()) {
            // What a tool has put in the class's place: what it makes is known once it has returned.
            let socket = class.call((), Some(&keywords))?;
            return self.make_ready(&socket).map(|()| socket);
        }
        // The two steps of a call of the class. That drops the object if `__init__` raises, which closes the descriptor.
        let socket = class.call_method(intern!(py, "__new__"), (&class,), Some(&keywords))?;
        let outcome = match socket.is_instance(&class) {
            Ok(true) => socket
                .get_type()
                .getattr(intern!(py, "__init__"))
                .and_then(|init| init.call((&socket,), Some(&keywords)).map(drop)),
            is_instance => is_instance.map(drop),
        };
        if let Err(error) = outcome {
            self.disown(&socket);
            return Err(error);
        }
        self.make_ready(&socket).map(|()| socket)
    }

    /// Where a default time-out is set, the object was made blocking in its own eyes.
    fn make_ready(self, socket: &Bound<'_, PyAny>) -> PyResult<()> {
        let outcome = socket.call_method1(intern!(socket.py(), "setblocking"), (false,));
        if outcome.is_err() {
            self.disown(socket);
        }
        outcome.map(drop)
    }

    /// Takes the descriptor away from `socket`, so that the object's end does not close it.
    pub fn disown(self, socket: &Bound<'_, PyAny>) {
        let py = socket.py();
        let outcome = base(py).and_then(|base| {
            let is_owner =
                base.call_method1(intern!(py, "fileno"), (socket,))?.extract::<RawFd>()? == self.fd;
            if is_owner { base.call_method1(intern!(py, "detach"), (socket,)).map(drop) } else { Ok(()) }
        });
        // A TypeError: it is no socket, and closes none.
        let _no_socket = outcome;
    }
}

/// `_socket.socket`, the built-in base class: its methods are those of no program.
fn base(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static BASE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    BASE.import(py, "_socket", "socket")
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
        match &self {
            Self::Python(socket, _) if socket.bind(py).is_instance(base(py)?)? => {
                base(py)?.call_method1(intern!(py, "close"), (socket,)).map(drop)
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
