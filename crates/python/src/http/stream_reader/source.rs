//! The source of a stream, as its reader sees it: an exchange, or an object of a program's, which feeds the reader by hand.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyClass, PyTraverseError, PyVisit};

use super::StreamReaderBase;
use crate::interpreter::{Attached, CloneWith};

/// A class whose instances feed readers natively.
pub trait ReaderSource: PyClass {
    /// Feeds nothing more, except what was received already.
    ///
    /// # Errors
    /// The exception of a foreign transport; so below.
    fn pause(slf: &Bound<'_, Self>) -> PyResult<()>;

    /// Continues to feed, perhaps before it returns.
    ///
    /// # Errors
    /// As above, and what feeding raises.
    fn resume(slf: &Bound<'_, Self>) -> PyResult<()>;

    /// Whether more can come.
    ///
    /// # Errors
    /// RuntimeError on another thread than the loop's; so below.
    fn is_connected(slf: &Bound<'_, Self>) -> PyResult<bool>;

    /// Receives more at once, as an object of at most `size` bytes, if there is more and that can be done. True if it was.
    ///
    /// # Errors
    /// As above.
    fn receive(slf: &Bound<'_, Self>, size: usize) -> PyResult<bool>;

    /// Keeps `reader`, to which it has a weak reference only, while a task waits in it; none when none does.
    ///
    /// # Errors
    /// As above.
    fn keep_reader(slf: &Bound<'_, Self>, reader: Option<Py<StreamReaderBase>>) -> PyResult<()>;
}

type Method<R> = fn(&Bound<'_, PyAny>) -> PyResult<R>;
type Receive = fn(&Bound<'_, PyAny>, usize) -> PyResult<bool>;
type KeepReader = fn(&Bound<'_, PyAny>, Option<Py<StreamReaderBase>>) -> PyResult<()>;

/// The methods of a class, by which its instances are called.
#[derive(Debug)]
struct Methods {
    pause: Method<()>,
    resume: Method<()>,
    is_connected: Method<bool>,
    receive: Receive,
    keep_reader: KeepReader,
}

/// The table of a class.
trait HasMethods: ReaderSource {
    const METHODS: Methods = Methods {
        pause: |object| Self::pause(object.cast()?),
        resume: |object| Self::resume(object.cast()?),
        is_connected: |object| Self::is_connected(object.cast()?),
        receive: |object, size| Self::receive(object.cast()?, size),
        keep_reader: |object, reader| Self::keep_reader(object.cast()?, reader),
    };
}

impl<T: ReaderSource> HasMethods for T {}

/// What feeds a reader.
#[derive(Debug)]
pub struct StreamSource {
    object: Py<PyAny>,
    /// None: an object that is called by the methods of aiohttp's protocols.
    methods: Option<&'static Methods>,
}

impl CloneWith for StreamSource {
    fn clone_with(&self, at: Attached<'_>) -> Self {
        Self { object: self.object.clone_with(at), methods: self.methods }
    }
}

impl StreamSource {
    /// One that feeds natively.
    pub fn native<T: ReaderSource>(source: &Bound<'_, T>) -> Self {
        Self { object: source.as_any().clone().unbind(), methods: Some(&T::METHODS) }
    }

    /// Any other.
    pub const fn foreign(source: Py<PyAny>) -> Self {
        Self { object: source, methods: None }
    }

    /// Whether it feeds natively: its reader knows then whether it is paused.
    pub const fn is_native(&self) -> bool {
        self.methods.is_some()
    }

    /// The object.
    pub const fn object(&self) -> &Py<PyAny> {
        &self.object
    }

    /// [`ReaderSource::pause`]
    ///
    /// # Errors
    /// As it, or what the program's object raises; so below.
    pub fn pause(&self, py: Python<'_>) -> PyResult<()> {
        match self.methods {
            Some(methods) => (methods.pause)(self.object.bind(py)),
            None => self.object.call_method0(py, intern!(py, "pause_reading")).map(drop),
        }
    }

    /// [`ReaderSource::resume`]
    ///
    /// # Errors
    /// As above.
    pub fn resume(&self, py: Python<'_>) -> PyResult<()> {
        match self.methods {
            Some(methods) => (methods.resume)(self.object.bind(py)),
            None => self.object.call_method0(py, intern!(py, "resume_reading")).map(drop),
        }
    }

    /// Whether a program's object says that it is paused.
    ///
    /// # Errors
    /// As above.
    pub fn says_paused(&self, py: Python<'_>) -> PyResult<bool> {
        self.object.bind(py).getattr(intern!(py, "_reading_paused"))?.is_truthy()
    }

    /// [`ReaderSource::is_connected`]
    ///
    /// # Errors
    /// As above.
    pub fn is_connected(&self, py: Python<'_>) -> PyResult<bool> {
        match self.methods {
            Some(methods) => (methods.is_connected)(self.object.bind(py)),
            None => self.object.bind(py).getattr(intern!(py, "connected"))?.is_truthy(),
        }
    }

    /// [`ReaderSource::receive`]. A program's object feeds when it will.
    ///
    /// # Errors
    /// As above.
    pub fn receive(&self, py: Python<'_>, size: usize) -> PyResult<bool> {
        match self.methods {
            Some(methods) => (methods.receive)(self.object.bind(py), size),
            None => Ok(false),
        }
    }

    /// [`ReaderSource::keep_reader`]. A program's object has what it needs itself.
    ///
    /// # Errors
    /// As above.
    pub fn keep_reader(&self, py: Python<'_>, reader: Option<Py<StreamReaderBase>>) -> PyResult<()> {
        match self.methods {
            Some(methods) => (methods.keep_reader)(self.object.bind(py), reader),
            None => Ok(()),
        }
    }

    /// Shows the garbage collector the reference.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)
    }
}
