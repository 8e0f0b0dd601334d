//! What Python sees of the stream transport alone.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::StreamTransport;
use crate::event_loop::EventLoop;
use crate::ffi::copy_context;
use crate::transport::base::Transport;
use crate::transport::chunk::Chunk;
use crate::transport::common;
use crate::transport::extra_info::ExtraInfo;
use crate::transport::socket::Socket;
use crate::transport::states::WatchState;

#[pymethods]
impl StreamTransport {
    /// Make a transport over `sock`; `connection_made()` is called in the next turn, then `waiter` gets its result.
    #[new]
    #[pyo3(signature = (event_loop, sock, protocol, waiter=None, extra=None, server=None))]
    fn new<'py>(
        event_loop: &Bound<'py, EventLoop>,
        sock: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<Py<PyAny>>,
        extra: Option<&Bound<'py, PyDict>>,
        server: Option<Py<PyAny>>,
    ) -> PyResult<Py<Self>> {
        let py = event_loop.py();
        let socket = Socket::from_python(sock)?;
        let info = ExtraInfo::of(&socket, extra)?;
        let transport = Self::attached(event_loop, copy_context(py)?, socket, info, protocol, server)?;
        common::schedule_start(event_loop, transport.get().context(), &transport, waiter)?;
        Ok(transport.unbind())
    }

    /// Write bytes-like `data`. It does not block: the first data of a turn is sent at once, what follows when the turn ends,
    /// and what the socket does not take as soon as it does.
    ///
    /// A bytearray or memoryview may be changed as soon as this returns. On a closing transport the data is dropped.
    /// Raises TypeError for what is not bytes-like, RuntimeError after `write_eof()` or during `sendfile()`.
    fn write(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::write_chunks(slf, std::iter::once(Chunk::new(data)?))
    }

    /// Write an iterable of bytes-like objects, as one `write()` of all of them.
    fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::write_chunks(slf, Chunk::all(list_of_data)?.into_iter())
    }

    /// Close the write side once what waits is sent; the transport may still receive.
    fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let event_loop = this.loop_of(slf.py());
        let sends = this.with(|state| {
            let first = !this.is_closing() && state.kind.writing.transition_to_eof_pending();
            first && !state.kind.output.is_blocked()
        })?;
        if sends { Self::flush(slf, event_loop) } else { Ok(()) }
    }

    /// Return True: a stream socket can be half-closed.
    const fn can_write_eof(&self) -> bool {
        true
    }

    fn _make_empty_waiter<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let event_loop = this.loop_of(py);
        if this.with(|state| state.kind.empty_waiter.is_some())? {
            return Err(PyRuntimeError::new_err("Empty waiter is already set"));
        }
        let waiter = EventLoop::new_future(event_loop)?;
        let kept = waiter.clone().unbind();
        let empty = this.with(|state| {
            state.kind.empty_waiter = Some(kept);
            state.kind.output.is_empty()
        })?;
        if empty {
            common::set_result(&waiter)?;
        }
        Ok(waiter)
    }

    fn _reset_empty_waiter(&self) -> PyResult<()> {
        let _waiter = self.with(|state| state.kind.empty_waiter.take())?;
        Ok(())
    }

    /// Stops being watched, so that `sendfile()` may watch the descriptor in its own way.
    fn _leave_poller(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::set_watch(slf, slf.get().loop_of(slf.py()), WatchState::Lent)
    }

    /// Is watched again after `_leave_poller()`.
    fn _enter_poller(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::set_watch(slf, slf.get().loop_of(slf.py()), WatchState::On)
    }

    #[classattr]
    #[pyo3(name = "_start_tls_compatible")]
    const START_TLS_COMPATIBLE: bool = true;

    #[getter]
    fn _sendfile_compatible(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        common::sendfile_mode(py, "TRY_NATIVE")
    }
}
