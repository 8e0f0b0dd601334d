//! The one table from Rust errors to Python exceptions.
//!
//! Errors of the operating system become `OSError` with their number, from which Python picks the subclass. A panic in a fastcall
//! method is caught and becomes `RuntimeError`; PyO3 does the same for the others (`pyo3_runtime.PanicException`).
//! `docs/troubleshooting.md` lists every message that is ours.

use std::io;

use pyo3::exceptions::{
    PyBlockingIOError, PyEOFError, PyInterruptedError, PyOSError, PyRuntimeError, PyValueError,
};
use pyo3::prelude::*;
use whorl_core::client::coding::{DecodeError, Undecodable};
use whorl_core::client::stream::{DataBeforeChunks, NotChunked};
use whorl_core::http1::encode::EncodeError;
use whorl_core::net::WrongWaterMarks;
use whorl_core::sched::{BorrowError, assert_nothing_open};
use whorl_core::websocket::{Unacceptable, Unsendable};

/// An error on its way to Python.
pub trait IntoPyErr {
    /// The exception that says so.
    fn into_py_err(self) -> PyErr;
}

impl IntoPyErr for BorrowError {
    fn into_py_err(self) -> PyErr {
        PyRuntimeError::new_err(match self {
            Self::OtherThread => {
                "Non-thread-safe operation invoked on an event loop other than the current one: \
                 the loop runs in another thread; use loop.call_soon_threadsafe()"
            }
            Self::Reentered => "internal error of whorl: the loop's state was entered twice",
        })
    }
}

impl IntoPyErr for io::Error {
    #[expect(
        clippy::disallowed_methods,
        reason = "an error is turned into an exception where no section is open"
    )]
    fn into_py_err(self) -> PyErr {
        match self.raw_os_error() {
            // OSError(errno, text) picks the subclass (ConnectionResetError, BrokenPipeError, ...) by itself.
            Some(errno) => {
                assert_nothing_open();
                let text = Python::attach(|py| -> PyResult<String> {
                    py.import("os")?.call_method1("strerror", (errno,))?.extract()
                });
                PyOSError::new_err((errno, text.unwrap_or_else(|_| self.to_string())))
            }
            None => PyOSError::new_err(self.to_string()),
        }
    }
}

impl IntoPyErr for rustix::io::Errno {
    fn into_py_err(self) -> PyErr {
        io::Error::from(self).into_py_err()
    }
}

impl IntoPyErr for DecodeError {
    fn into_py_err(self) -> PyErr {
        let text = self.to_string();
        if self.is_cut() { PyEOFError::new_err(text) } else { PyValueError::new_err(text) }
    }
}

/// What is wrong with a value, said by the error itself.
macro_rules! value_errors {
    ($($error:ty),+) => {
        $(impl IntoPyErr for $error {
            fn into_py_err(self) -> PyErr {
                PyValueError::new_err(self.to_string())
            }
        })+
    };
}

impl IntoPyErr for DataBeforeChunks {
    fn into_py_err(self) -> PyErr {
        PyRuntimeError::new_err(self.to_string())
    }
}

impl IntoPyErr for NotChunked {
    fn into_py_err(self) -> PyErr {
        PyRuntimeError::new_err(self.to_string())
    }
}

value_errors!(WrongWaterMarks, EncodeError, Undecodable, Unsendable, Unacceptable);

/// Rust results as Python's.
pub trait OrRaise<T> {
    /// The value, or the exception that the error is in Python.
    fn or_raise(self) -> PyResult<T>;
}

impl<T, E: IntoPyErr> OrRaise<T> for Result<T, E> {
    #[inline]
    fn or_raise(self) -> PyResult<T> {
        self.map_err(IntoPyErr::into_py_err)
    }
}

/// Whether `error` says that a descriptor was not ready, or a signal came first: to be tried again later.
pub fn is_blocking(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyBlockingIOError>(py) || error.is_instance_of::<PyInterruptedError>(py)
}
