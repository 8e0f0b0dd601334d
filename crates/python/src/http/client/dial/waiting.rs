//! The wait for a connection that is being made, and its end.

use pyo3::intern;
use pyo3::prelude::*;

use crate::event_loop::new_future;
use crate::http::guard::EndGuard;
use crate::http::h1::connection::HttpConnection;
use crate::interpreter::await_future;

use super::{Dial, Dialled};

impl Dial {
    /// Its outcome, if it has one.
    ///
    /// # Errors
    /// RuntimeError on another thread than the loop's.
    pub fn take_outcome(&self) -> PyResult<Option<Dialled>> {
        self.with(|state| state.outcome.take())
    }

    /// A future for its outcome, as an awaitable hands it to its task.
    ///
    /// # Errors
    /// RuntimeError on another thread than the loop's.
    pub fn wait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let future = await_future(new_future(self.event_loop.bind(py).as_any())?.unbind(), py)?;
        let reference = future.clone_ref(py);
        let _previous = self.with(|state| state.future.replace(reference))?;
        Ok(future)
    }

    /// Has `guard` end along with it.
    ///
    /// # Errors
    /// RuntimeError on another thread than the loop's.
    pub fn add_guard(&self, guard: Box<dyn EndGuard>) -> PyResult<()> {
        self.with(|state| state.guards.push(guard))
    }

    /// Gives it up: nothing of it stays open.
    ///
    /// # Errors
    /// RuntimeError on another thread than the loop's.
    pub fn give_up(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.stop_attempts(py)?;
        let (handshake, outcome, guards, _future) = this.with(|state| {
            (
                state.handshake.take(),
                state.outcome.take(),
                std::mem::take(&mut state.guards),
                state.future.take(),
            )
        })?;
        for guard in guards {
            guard.end(py)?;
        }
        if let Some((_, _connection, transport)) = handshake {
            transport.call_method0(py, intern!(py, "abort"))?;
        }
        match outcome {
            Some(Ok(connection)) => HttpConnection::give_up(connection.bind(py)),
            Some(Err(_)) | None => Ok(()),
        }
    }

    /// Its time is over: it is given up, with `error` for its outcome.
    ///
    /// # Errors
    /// As [`Dial::give_up`].
    pub fn end_wait(slf: &Bound<'_, PyAny>, error: Py<PyAny>) -> PyResult<()> {
        let py = slf.py();
        let slf = slf.cast::<Self>()?;
        let this = slf.get();
        if this.with(|state| state.outcome.is_some())? {
            return Ok(());
        }
        // The future stays for its waiter.
        let future = this.with(|state| state.future.take())?;
        Self::give_up(slf)?;
        let _none = this.with(|state| {
            state.candidates.clear();
            std::mem::replace(&mut state.future, future)
        })?;
        this.finish(py, Err(error))
    }
}
