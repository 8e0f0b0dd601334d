//! The methods that Python sees on several classes of transports, each written once.
//!
//! PyO3 has no generic classes. So the behaviour is in traits, and a macro here gives each class the methods that call it.

use std::os::fd::RawFd;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, intern};
use whorl_core::net::WaterMarks;

use super::base::{Descriptor, Transport};
use super::common;
use super::datagram::DatagramTransport;
use super::ending::Ending;
use super::extra_info::SocketTransport;
use super::flow::{Reads, Writes};
use super::pipe::{PipeTransport, ReadPipeTransport, WritePipeTransport};
use super::stream::StreamTransport;
use crate::event_loop::EventLoop;

/// What every transport has.
macro_rules! transport_methods {
    ($($class:ident),+) => {$(
        #[pymethods]
        impl $class {
            fn _start(slf: &Bound<'_, Self>, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
                Self::start(slf, waiter)
            }

            fn _call_connection_lost(slf: &Bound<'_, Self>, error: &Bound<'_, PyAny>) -> PyResult<()> {
                Self::end(slf, error)
            }

            /// Set a new protocol; what arrives goes to it from now on.
            fn set_protocol(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
                self.replace_protocol(protocol)
            }

            /// Return the current protocol, or None once the transport is closed.
            fn get_protocol(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
                self.protocol(py)
            }

            /// Return True if the transport is closing or closed. What a stream has gathered in this turn is sent first:
            /// `StreamWriter.drain()` asks this before it returns at once.
            #[pyo3(name = "is_closing")]
            fn send_gathered_and_check_closing(slf: &Bound<'_, Self>) -> PyResult<bool> {
                Self::send_gathered(slf)?;
                Ok(slf.get().is_closing())
            }

            /// Close the transport: nothing more is read, what waits is sent, then `connection_lost(None)` is called. From
            /// another thread than the loop's, as by `loop.call_soon_threadsafe()`.
            fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
                let this = slf.get();
                if this.is_elsewhere() {
                    return common::hand_over(this.loop_of(slf.py()), slf.as_any(), intern!(slf.py(), "close"));
                }
                Self::close_in_order(slf)
            }

            #[getter]
            fn _loop(&self, py: Python<'_>) -> Py<EventLoop> {
                self.loop_of(py).clone().unbind()
            }

            #[getter]
            fn _protocol(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
                self.protocol(py)
            }

            /// The class that `isinstance()` sees in addition to the true one: asyncio's.
            #[getter]
            fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
                Self::asyncio_class(slf.py())
            }

            fn __repr__(&self) -> String {
                self.show()
            }

            fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
                self.visit(visit)
            }

            fn __clear__(&self) {
                self.clear();
            }
        }
    )+};
}

/// What the transports that are read have.
macro_rules! reading_methods {
    ($($class:ident),+) => {$(
        #[pymethods]
        impl $class {
            /// Return True if data is being received.
            fn is_reading(&self) -> PyResult<bool> {
                self.receives()
            }

            /// Stop calling the protocol with what arrives until `resume_reading()`. Does nothing while paused or closing.
            fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
                Self::pause(slf)
            }

            /// Resume calling the protocol with what arrives. Does nothing unless paused.
            fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
                Self::resume(slf)
            }

            /// Whether `pause_reading()` was called; some programs read it, as asyncio's class has it.
            #[getter]
            fn _paused(&self) -> PyResult<bool> {
                self.is_paused()
            }
        }
    )+};
}

/// What the transports that are written to have.
macro_rules! writing_methods {
    ($($class:ident),+) => {$(
        #[pymethods]
        impl $class {
            /// Close the transport at once: what waits is dropped, then `connection_lost(None)` is called. From another
            /// thread than the loop's, as by `loop.call_soon_threadsafe()`.
            fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
                let this = slf.get();
                if this.is_elsewhere() {
                    return common::hand_over(this.loop_of(slf.py()), slf.as_any(), intern!(slf.py(), "abort"));
                }
                Self::force_close_with(slf, None)
            }

            /// Set the water marks in bytes: above `high` the protocol's `pause_writing()` is called, at `low` its `resume_writing()`.
            ///
            /// Defaults are 64 KiB and a quarter of `high`. Raises ValueError unless high >= low >= 0.
            #[pyo3(signature = (high=None, low=None))]
            fn set_write_buffer_limits(
                slf: &Bound<'_, Self>,
                high: Option<isize>,
                low: Option<isize>,
            ) -> PyResult<()> {
                Self::set_marks(slf, common::water_marks(high, low, WaterMarks::default().high())?)
            }

            /// Return the water marks `(low, high)` in bytes.
            fn get_write_buffer_limits(&self) -> PyResult<(usize, usize)> {
                self.with_output(|output| (output.marks().low(), output.marks().high()))
            }

            /// Return how many bytes wait to be sent; from Python 3.13 each datagram counts 8 more for its header.
            fn get_write_buffer_size(&self) -> PyResult<usize> {
                self.with_output(|output| output.size())
            }

            #[getter]
            fn _protocol_paused(&self) -> PyResult<bool> {
                self.with_output(|output| output.is_paused())
            }
        }
    )+};
}

/// What the transports over a socket have.
macro_rules! socket_methods {
    ($($class:ident),+) => {$(
        #[pymethods]
        impl $class {
            /// Return information about the transport: 'socket' (an asyncio.TransportSocket), 'sockname', 'peername' and
            /// what the loop added; `default` for any other name.
            #[pyo3(signature = (name, default=None))]
            fn get_extra_info<'py>(
                slf: &Bound<'py, Self>,
                name: &str,
                default: Option<Bound<'py, PyAny>>,
            ) -> PyResult<Option<Bound<'py, PyAny>>> {
                slf.get().extra_info(slf.py(), name, default)
            }

            fn _force_close(slf: &Bound<'_, Self>, error: Option<Bound<'_, PyAny>>) -> PyResult<()> {
                Self::force_close_with(slf, error.map(PyErr::from_value))
            }

            #[pyo3(signature = (exc, message="Fatal error on transport"))]
            fn _fatal_error(slf: &Bound<'_, Self>, exc: Bound<'_, PyAny>, message: &str) -> PyResult<()> {
                let this = slf.get();
                this.fatal(slf, this.loop_of(slf.py()), PyErr::from_value(exc), message)
            }

            #[getter]
            fn _sock(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
                self.socket_object(py)
            }

            #[getter]
            fn _sock_fd(&self) -> PyResult<RawFd> {
                self.with(|state| state.descriptor.fd())
            }
        }
    )+};
}

/// What the transports over a file object have.
macro_rules! pipe_methods {
    ($($class:ident),+) => {$(
        #[pymethods]
        impl $class {
            /// Return information about the transport: 'pipe', the file object; `default` for any other name.
            #[pyo3(signature = (name, default=None))]
            fn get_extra_info<'py>(
                slf: &Bound<'py, Self>,
                name: &str,
                default: Option<Bound<'py, PyAny>>,
            ) -> PyResult<Option<Bound<'py, PyAny>>> {
                slf.get().extra_info(slf.py(), name, default)
            }

            /// The file object, None once it is closed.
            #[getter]
            fn _pipe(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
                self.with_attached(py, |state, at| state.descriptor.object(at))
            }

            /// Setting it to None leaves the closing of the file to its other owner.
            #[setter(_pipe)]
            fn set_pipe(&self, pipe: Option<Py<PyAny>>) -> PyResult<()> {
                self.give_up_file(pipe)
            }
        }
    )+};
}

transport_methods!(StreamTransport, DatagramTransport, ReadPipeTransport, WritePipeTransport);
reading_methods!(StreamTransport, DatagramTransport, ReadPipeTransport);
writing_methods!(StreamTransport, DatagramTransport, WritePipeTransport);
socket_methods!(StreamTransport, DatagramTransport);
pipe_methods!(ReadPipeTransport, WritePipeTransport);
