//! From ciphertext that the stream received to plaintext that the application has.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::engine::{Decrypted, Engine, Stop};
use super::protocol::{TlsProtocol, cancelled_error};
use super::state::{Notified, TlsPhase, TlsReading};
use crate::interpreter::CloneWith;
use crate::transport::StreamTransport;
use crate::transport::flow::Reads;
use crate::transport::native::{NativeProtocol, Received};
use crate::transport::protocol::{self, Receiver};

/// What the application was given in one go, and why no more.
type Plaintext<'py> = Decrypted<Option<Bound<'py, PyBytes>>>;

/// What a stream's data came to, before the application is called.
enum TlsInput<'py> {
    /// Plaintext for the application.
    Decrypted(Plaintext<'py>),
    /// Ciphertext that waits in the engine's memory.
    Kept,
}

impl NativeProtocol for TlsProtocol {
    const WITH_SUBCLASSES: bool = false;

    #[inline]
    fn received(slf: &Bound<'_, Self>, ciphertext: Received<'_, '_>) -> PyResult<()> {
        let input = slf.get().feed(slf.py(), &ciphertext)?;
        drop(ciphertext);
        Self::on_data(slf, input)
    }

    /// The application's context is entered here, not the transport's.
    fn eof_received(slf: &Bound<'_, Self>, _context: &Py<PyAny>) -> PyResult<bool> {
        slf.get().on_stream_end(slf)
    }
}

impl TlsProtocol {
    /// Gives the engine what the stream has received. Calls nothing of the application's: the memory is the loop's.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread; MemoryError.
    #[inline]
    fn feed<'py>(&self, py: Python<'py>, ciphertext: &[u8]) -> PyResult<TlsInput<'py>> {
        let at_once = self.with(|state| {
            self.phase.load() == TlsPhase::Open
                && state.reading == TlsReading::On
                && state.protocol.as_ref().is_some_and(|protocol| {
                    matches!(protocol.receiver, Receiver::Data(_) | Receiver::Native(_))
                })
        })?;
        let engine = self.engine()?;
        if at_once {
            return engine.decrypt(py, ciphertext).map(TlsInput::Decrypted);
        }
        engine.feed(py, ciphertext)?;
        Ok(TlsInput::Kept)
    }

    /// Delivers what the input came to, and does what it asks for.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt from the application.
    #[inline]
    fn on_data(slf: &Bound<'_, Self>, input: TlsInput<'_>) -> PyResult<()> {
        let this = slf.get();
        match input {
            TlsInput::Kept => this.advance(slf),
            TlsInput::Decrypted(plaintext) => match this.deliver(slf, plaintext)? {
                Next::Nothing => this.after_reading(slf),
                Next::ReadOn => this.read_waiting(slf),
            },
        }
    }

    /// Continues with what waits in the engine's memory.
    pub(super) fn advance(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        match self.phase.load() {
            TlsPhase::Handshake => self.step_handshake(slf),
            TlsPhase::Open | TlsPhase::Draining => self.read_waiting(slf),
            TlsPhase::ShuttingDown => self.step_shutdown(slf),
            TlsPhase::New | TlsPhase::Closed => Ok(()),
        }
    }

    /// Delivers what waits until there is no more, or the application pauses or closes.
    pub(super) fn read_waiting(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        loop {
            let receiver = self.with_attached(py, |state, at| {
                let reads = matches!(self.phase.load(), TlsPhase::Open | TlsPhase::Draining)
                    && state.reading == TlsReading::On;
                state.protocol.as_ref().filter(|_| reads).map(|protocol| protocol.receiver.clone_with(at))
            })?;
            let next = match receiver {
                None => Next::Nothing,
                Some(Receiver::Buffered { get_buffer, buffer_updated }) => {
                    self.read_buffered(slf, &get_buffer, &buffer_updated)?
                }
                Some(Receiver::Data(_) | Receiver::Missing(_) | Receiver::Native(_)) => {
                    let plaintext = self.engine()?.decrypt(py, &[])?;
                    self.deliver(slf, plaintext)?
                }
            };
            if next == Next::Nothing {
                return self.after_reading(slf);
            }
        }
    }

    fn deliver(&self, slf: &Bound<'_, Self>, plaintext: Plaintext<'_>) -> PyResult<Next> {
        let py = slf.py();
        if self.phase.load() == TlsPhase::Closed {
            // What OpenSSL called has aborted the connection.
            return Ok(Next::Nothing);
        }
        if let Some(data) = plaintext.data {
            let receiver = self.with_attached(py, |state, at| {
                state.protocol.as_ref().map(|protocol| match &protocol.receiver {
                    receiver @ (Receiver::Data(_) | Receiver::Native(_) | Receiver::Buffered { .. }) => {
                        receiver.clone_with(at)
                    }
                    Receiver::Missing(_) => Receiver::Missing(protocol.object.clone_with(at)),
                })
            })?;
            let called = match receiver {
                None => return Ok(Next::Nothing),
                Some(Receiver::Data(data_received)) => {
                    self.call(py, &data_received, [data.as_any()]).map(drop)
                }
                Some(Receiver::Native(native)) => native.received(py, Received::Object(data)),
                Some(Receiver::Buffered { get_buffer, buffer_updated }) => {
                    self.fill_buffers(py, &get_buffer, &buffer_updated, data.as_bytes())
                }
                // It had no such method when it was set, as asyncio allows.
                Some(_) => self.notify(py, intern!(py, "data_received"), [data.as_any()]).map(drop),
            };
            if let Err(error) = called {
                self.fatal(slf, error, "Fatal error on SSL protocol")?;
                return Ok(Next::Nothing);
            }
        }
        self.stopped(slf, plaintext.stop)
    }

    /// Gives `data` to a buffered protocol that was set while OpenSSL decrypted it.
    fn fill_buffers(
        &self,
        py: Python<'_>,
        get_buffer: &Py<PyAny>,
        buffer_updated: &Py<PyAny>,
        mut data: &[u8],
    ) -> PyResult<()> {
        while !data.is_empty() {
            let sizehint = data.len().into_pyobject(py)?.into_any();
            let mut memory = protocol::lent_memory(&self.call(py, get_buffer, [&sizehint])?)?;
            let size = memory.fill(0, data);
            drop(memory);
            data = data.get(size..).unwrap_or_default();
            let size = size.into_pyobject(py)?.into_any();
            self.call(py, buffer_updated, [&size])?;
        }
        Ok(())
    }

    fn read_buffered(
        &self,
        slf: &Bound<'_, Self>,
        get_buffer: &Py<PyAny>,
        buffer_updated: &Py<PyAny>,
    ) -> PyResult<Next> {
        let py = slf.py();
        let waits = self.engine()?.pending(py)?;
        if waits == 0 {
            return Ok(Next::Nothing);
        }
        let sizehint = waits.into_pyobject(py)?.into_any();
        let lent = self.call(py, get_buffer, [&sizehint]).and_then(|object| protocol::lent_memory(&object));
        let mut buffer = match lent {
            Ok(buffer) => buffer,
            Err(error) => {
                self.fatal(slf, error, "Fatal error on SSL protocol")?;
                return Ok(Next::Nothing);
            }
        };
        let Decrypted { data: size, stop } = self.engine()?.decrypt_into(py, &mut buffer)?;
        drop(buffer);
        if size > 0 {
            let size = size.into_pyobject(py)?.into_any();
            if let Err(error) = self.call(py, buffer_updated, [&size]) {
                self.fatal(slf, error, "Fatal error on SSL protocol")?;
                return Ok(Next::Nothing);
            }
        }
        self.stopped(slf, stop)
    }

    fn stopped(&self, slf: &Bound<'_, Self>, stop: Stop) -> PyResult<Next> {
        match stop {
            Stop::Empty => Ok(Next::Nothing),
            Stop::Full => Ok(Next::ReadOn),
            Stop::Closed | Stop::Failed(_)
                if !matches!(self.phase.load(), TlsPhase::Open | TlsPhase::Draining) =>
            {
                // The application closed it meanwhile.
                Ok(Next::Nothing)
            }
            Stop::Closed => {
                self.notify_eof(slf)?;
                self.start_shutdown(slf)?;
                Ok(Next::Nothing)
            }
            Stop::Failed(error) => {
                self.send_at_once(slf)?;
                self.fatal(slf, error, "Fatal error on SSL protocol")?;
                Ok(Next::Nothing)
            }
        }
    }

    /// What reading may have brought about: records of OpenSSL's own, room for what was written, the end.
    fn after_reading(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let (ends, waits) = self.with(|state| {
            (
                self.phase.load() == TlsPhase::Draining && state.reading == TlsReading::On,
                state.backlog_size > 0,
            )
        })?;
        if waits {
            self.write_backlog(slf)?;
        }
        self.send_outgoing(slf)?;
        if ends { self.start_shutdown(slf) } else { Ok(()) }
    }

    /// `eof_received()`; once.
    pub(super) fn notify_eof(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let first = self.with(|state| {
            let first = state.notified == Notified::Made;
            if first {
                state.notified = Notified::Eof;
            }
            first
        })?;
        if !first {
            return Ok(());
        }
        let keep_open =
            self.notify(py, intern!(py, "eof_received"), []).and_then(|keeps_open| match keeps_open {
                Some(keeps_open) => keeps_open.is_truthy(),
                None => Ok(false),
            });
        match keep_open {
            Ok(false) => Ok(()),
            Ok(true) => {
                let logger = py.import(intern!(py, "asyncio.log"))?.getattr(intern!(py, "logger"))?;
                let line = "returning true from eof_received() has no effect when using ssl";
                logger.call_method1(intern!(py, "warning"), (line,)).map(drop)
            }
            // Without a word, as in asyncio.
            Err(error) if error.is_instance(py, cancelled_error(py)?) => self.abort(slf, Some(error)),
            Err(error) => self.fatal(slf, error, "Error calling eof_received()"),
        }
    }

    /// The stream has ended; true if it is to be kept for what is still to be delivered.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt from the application.
    pub fn on_stream_end(&self, slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        if self.loop_of(py).get().is_debug() {
            self.log_debug(slf, "%r received EOF")?;
        }
        let (phase, reading) = self.with(|state| {
            state.stream_ended = true;
            (self.phase.load(), state.reading)
        })?;
        match phase {
            TlsPhase::Handshake => self.handshake_cut(slf)?,
            TlsPhase::Open if reading != TlsReading::On => {
                self.phase.store(TlsPhase::Draining);
                return Ok(true);
            }
            TlsPhase::Open => {
                self.phase.store(TlsPhase::Draining);
                self.read_waiting(slf)?;
            }
            TlsPhase::Draining => return Ok(true),
            TlsPhase::ShuttingDown => self.step_shutdown(slf)?,
            TlsPhase::New | TlsPhase::Closed => {}
        }
        // Otherwise it is closed, once what waits is sent.
        Ok(self.phase.load() == TlsPhase::Draining)
    }

    /// Stops delivering, and the stream's reading with it: what the peer sends waits in the kernel.
    pub(super) fn pause_reading(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let pauses = self.with(|state| {
            state.reading = TlsReading::Paused;
            matches!(self.phase.load(), TlsPhase::Open)
        })?;
        match self.stream(py)? {
            Some(stream) if pauses => StreamTransport::pause(&stream),
            _ => Ok(()),
        }
    }

    /// Delivers what has arrived in the next turn, then continues.
    pub(super) fn resume_reading(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let resumes = self.with(|state| {
            let resumes = state.reading == TlsReading::Paused;
            if resumes {
                state.reading = TlsReading::Resuming;
            }
            resumes
        })?;
        if resumes { self.call_soon(slf, intern!(slf.py(), "_resume"), None) } else { Ok(()) }
    }

    /// Puts off what is to be delivered until the next turn; true unless it waits for something already.
    pub(super) fn read_later(&self, slf: &Bound<'_, Self>) -> PyResult<bool> {
        let waits = self.with(|state| {
            let waits = state.reading == TlsReading::On;
            if waits {
                state.reading = TlsReading::Resuming;
            }
            waits
        })?;
        if waits {
            self.call_soon(slf, intern!(slf.py(), "_resume"), None)?;
        }
        Ok(waits)
    }

    pub(super) fn resume(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let resumes = self.with(|state| {
            let resumes = state.reading == TlsReading::Resuming;
            if resumes {
                state.reading = TlsReading::On;
            }
            resumes
        })?;
        if !resumes {
            return Ok(());
        }
        if let Some(stream) = self.stream(py)? {
            StreamTransport::resume(&stream)?;
        }
        self.advance(slf)?;
        // Paused again by what was delivered: the stream is as well, unless it was resumed here.
        match (self.with(|state| state.reading)?, self.stream(py)?) {
            (TlsReading::Paused, Some(stream)) if self.phase.load() == TlsPhase::Open => {
                StreamTransport::pause(&stream)
            }
            _ => Ok(()),
        }
    }
}

/// What comes after a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Nothing: all is delivered, or the connection ends.
    Nothing,
    /// There may be more.
    ReadOn,
}
