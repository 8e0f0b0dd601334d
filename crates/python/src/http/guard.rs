//! What is over when something else ends, without the two knowing each other.

use std::fmt::Debug;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

/// Ends the wait of an object with an error.
pub type EndWait = fn(&Bound<'_, PyAny>, Py<PyAny>) -> PyResult<()>;

/// Something that its holder ends when it ends itself: a deadline, a permit.
pub trait EndGuard: Debug + Send + Sync {
    /// Ends it.
    ///
    /// # Errors
    /// What a user's code raises that it calls.
    fn end(self: Box<Self>, py: Python<'_>) -> PyResult<()>;

    /// Shows the garbage collector the references.
    fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError>;
}

impl EndGuard for Vec<Box<dyn EndGuard>> {
    fn end(self: Box<Self>, py: Python<'_>) -> PyResult<()> {
        let mut ended = Ok(());
        for guard in *self {
            ended = ended.and(guard.end(py));
        }
        ended
    }

    fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.iter().try_for_each(|guard| guard.visit(visit))
    }
}
