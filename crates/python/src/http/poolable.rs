//! What a pool is to its connections, and they to it, without the two knowing each other.
//!
//! A connection takes one request at a time. One of HTTP/2 will take several: `reserve` of such a class leaves it in the pool.

use std::fmt::Debug;

use pyo3::PyClass;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::interpreter::{Attached, CloneWith, Identity};

/// How a connection is checked before it is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReuseCheck {
    /// By what the loop knows of it.
    Known,
    /// By its socket as well: what has arrived since the loop polled is found.
    Looked,
}

/// A class whose instances a pool keeps.
pub trait Poolable: PyClass {
    /// Whether it can take a request.
    ///
    /// # Errors
    /// The exception of a foreign transport; so below.
    fn is_usable(slf: &Bound<'_, Self>, check: ReuseCheck) -> PyResult<bool>;

    /// Gives it the permit of a request, which it holds until the request is over.
    ///
    /// # Errors
    /// RuntimeError on another thread than the loop's.
    fn set_permit(slf: &Bound<'_, Self>, permit: Box<dyn ConnectionPermit>) -> PyResult<()>;

    /// Closes it, whatever it is doing.
    ///
    /// # Errors
    /// As for `is_usable`.
    fn give_up(slf: &Bound<'_, Self>) -> PyResult<()>;
}

/// The permit of a connection that a request has.
pub trait ConnectionPermit: Debug + Send + Sync {
    /// Ends it; with the connection, that can be used again.
    ///
    /// # Errors
    /// What a future's callbacks raise.
    fn end(self: Box<Self>, py: Python<'_>, connection: Option<PooledConnection>) -> PyResult<()>;

    /// Has `callback` called when it ends.
    fn on_end(&mut self, callback: Py<PyAny>);

    /// Whether the connection serves this request only.
    fn is_for_one_request(&self) -> bool;

    /// The key of the connection.
    ///
    /// # Errors
    /// RuntimeError on another thread than the loop's.
    fn key(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>>;

    /// The pool that keeps the connection between two requests.
    fn home(&self, py: Python<'_>) -> Box<dyn Home>;

    /// Shows the garbage collector the references.
    fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError>;
}

/// The pool that keeps a connection while it is idle.
pub trait Home: Debug + Send + Sync {
    /// An idle connection is gone.
    ///
    /// # Errors
    /// RuntimeError on another thread than the loop's.
    fn forget(&self, py: Python<'_>, connection: &Bound<'_, PyAny>) -> PyResult<()>;

    /// Shows the garbage collector the references.
    fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError>;
}

/// The methods of a class, by which its instances are called.
#[derive(Debug)]
struct Methods {
    is_usable: fn(&Bound<'_, PyAny>, ReuseCheck) -> PyResult<bool>,
    set_permit: fn(&Bound<'_, PyAny>, Box<dyn ConnectionPermit>) -> PyResult<()>,
    give_up: fn(&Bound<'_, PyAny>) -> PyResult<()>,
}

/// The table of a class.
trait HasMethods: Poolable {
    const METHODS: Methods = Methods {
        is_usable: |object, check| Self::is_usable(object.cast()?, check),
        set_permit: |object, permit| Self::set_permit(object.cast()?, permit),
        give_up: |object| Self::give_up(object.cast()?),
    };
}

impl<T: Poolable> HasMethods for T {}

/// A connection of any such class.
#[derive(Debug)]
pub struct PooledConnection {
    object: Py<PyAny>,
    methods: &'static Methods,
}

impl CloneWith for PooledConnection {
    fn clone_with(&self, at: Attached<'_>) -> Self {
        Self { object: self.object.clone_with(at), methods: self.methods }
    }
}

impl PooledConnection {
    /// Of a connection.
    pub fn new<T: Poolable>(connection: &Bound<'_, T>) -> Self {
        Self { object: connection.as_any().clone().unbind(), methods: &T::METHODS }
    }

    /// The object.
    pub fn into_object(self) -> Py<PyAny> {
        self.object
    }

    /// Whether it is the object.
    pub fn is(&self, other: Identity) -> bool {
        other.is(&self.object)
    }

    /// [`Poolable::is_usable`]
    ///
    /// # Errors
    /// As it; so below.
    pub fn is_usable(&self, py: Python<'_>, check: ReuseCheck) -> PyResult<bool> {
        (self.methods.is_usable)(self.object.bind(py), check)
    }

    /// [`Poolable::set_permit`]
    ///
    /// # Errors
    /// As above.
    pub fn set_permit(&self, py: Python<'_>, permit: Box<dyn ConnectionPermit>) -> PyResult<()> {
        (self.methods.set_permit)(self.object.bind(py), permit)
    }

    /// [`Poolable::give_up`]
    ///
    /// # Errors
    /// As above.
    pub fn give_up(&self, py: Python<'_>) -> PyResult<()> {
        (self.methods.give_up)(self.object.bind(py))
    }

    /// Shows the garbage collector the reference.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)
    }
}
