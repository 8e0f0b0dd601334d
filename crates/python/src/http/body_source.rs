//! Where a response comes from, as its exchange sees it: a connection of HTTP/1.1 now, a stream of one of HTTP/2 later.

use pyo3::PyClass;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::interpreter::{Attached, CloneWith};

/// A class whose instances responses come from.
pub trait BodySource: PyClass {
    /// Makes the peer wait.
    ///
    /// # Errors
    /// The exception of a foreign transport; so below.
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()>;

    /// Resumes reading.
    ///
    /// # Errors
    /// As above.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()>;

    /// Receives more at once, as an object of at most `size` bytes, if there is more and that can be done. True if it was.
    ///
    /// # Errors
    /// As above.
    fn receive(slf: &Bound<'_, Self>, size: usize) -> PyResult<bool>;

    /// Gives the rest of the response up: nothing more comes.
    ///
    /// # Errors
    /// As above.
    fn give_up(slf: &Bound<'_, Self>) -> PyResult<()>;

    /// Whether more can come.
    ///
    /// # Errors
    /// RuntimeError on another thread than the loop's.
    fn is_open(slf: &Bound<'_, Self>) -> PyResult<bool>;
}

type Method<R> = fn(&Bound<'_, PyAny>) -> PyResult<R>;

/// The methods of a class, by which its instances are called.
#[derive(Debug)]
struct Methods {
    pause_reading: Method<()>,
    resume_reading: Method<()>,
    receive: fn(&Bound<'_, PyAny>, usize) -> PyResult<bool>,
    give_up: Method<()>,
    is_open: Method<bool>,
}

/// The table of a class.
trait HasMethods: BodySource {
    const METHODS: Methods = Methods {
        pause_reading: |object| Self::pause_reading(object.cast()?),
        resume_reading: |object| Self::resume_reading(object.cast()?),
        receive: |object, size| Self::receive(object.cast()?, size),
        give_up: |object| Self::give_up(object.cast()?),
        is_open: |object| Self::is_open(object.cast()?),
    };
}

impl<T: BodySource> HasMethods for T {}

/// An instance of any such class.
#[derive(Debug)]
pub struct Source {
    object: Py<PyAny>,
    methods: &'static Methods,
}

impl CloneWith for Source {
    fn clone_with(&self, at: Attached<'_>) -> Self {
        Self { object: self.object.clone_with(at), methods: self.methods }
    }
}

impl Source {
    /// Of an instance.
    pub fn new<T: BodySource>(source: &Bound<'_, T>) -> Self {
        Self { object: source.as_any().clone().unbind(), methods: &T::METHODS }
    }

    /// The object.
    pub fn into_object(self) -> Py<PyAny> {
        self.object
    }

    /// [`BodySource::pause_reading`]
    ///
    /// # Errors
    /// As it; so below.
    pub fn pause_reading(&self, py: Python<'_>) -> PyResult<()> {
        (self.methods.pause_reading)(self.object.bind(py))
    }

    /// [`BodySource::resume_reading`]
    ///
    /// # Errors
    /// As above.
    pub fn resume_reading(&self, py: Python<'_>) -> PyResult<()> {
        (self.methods.resume_reading)(self.object.bind(py))
    }

    /// [`BodySource::receive`]
    ///
    /// # Errors
    /// As above.
    pub fn receive(&self, py: Python<'_>, size: usize) -> PyResult<bool> {
        (self.methods.receive)(self.object.bind(py), size)
    }

    /// [`BodySource::give_up`]
    ///
    /// # Errors
    /// As above.
    pub fn give_up(&self, py: Python<'_>) -> PyResult<()> {
        (self.methods.give_up)(self.object.bind(py))
    }

    /// [`BodySource::is_open`]
    ///
    /// # Errors
    /// As above.
    pub fn is_open(&self, py: Python<'_>) -> PyResult<bool> {
        (self.methods.is_open)(self.object.bind(py))
    }

    /// Shows the garbage collector the reference.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)
    }
}
