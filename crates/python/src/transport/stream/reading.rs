//! Reading: one `recv`, and what came of it goes to the protocol.

use std::os::fd::RawFd;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::StreamTransport;
use crate::errors::IntoPyErr;
use crate::event_loop::EventLoop;
use crate::fd::{lend, receive_into};
use crate::ffi::{BytesWriter, call_in_context};
use crate::interpreter::CloneWith;
use crate::transport::base::{Descriptor, Transport, TransportKind};
use crate::transport::ending::Ending;
use crate::transport::native::{NativeHandle, Received};
use crate::transport::protocol::{self, Protocol, Receiver};
use crate::transport::states::ReadState;

/// One `recv`, which never blocks: a duplicate of the descriptor may have made the socket blocking.
#[inline]
fn receive(fd: RawFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    lend(fd, |fd| rustix::net::recv(fd, buffer, RecvFlags::DONTWAIT)).map(|(size, _)| size)
}

/// A bytes object to receive into.
struct RoomForObject<'py> {
    bytes: BytesWriter<'py>,
    size: usize,
}

impl<'py> RoomForObject<'py> {
    /// Room for `size` bytes; none where receiving to it would be slow: some processors copy at a third of their speed when the
    /// destination is a little behind the source within its page (AMD Zen 3), and the kernel's memory usually begins a page.
    fn new(py: Python<'py>, size: usize) -> PyResult<Option<Self>> {
        const PAGE: usize = 4096;
        const NEAR: std::ops::Range<usize> = 1..64;
        let is_near = |bytes: &mut BytesWriter<'_>| NEAR.contains(&(bytes.as_mut_ptr().addr() % PAGE));
        let mut bytes = BytesWriter::new(py, size)?;
        if is_near(&mut bytes) {
            // Another one is elsewhere in its page, unless each has pages of its own.
            let mut other = BytesWriter::new(py, size)?;
            if is_near(&mut other) {
                return Ok(None);
            }
            bytes = other;
        }
        Ok(Some(Self { bytes, size }))
    }

    /// One `recv` into it: the object with what was received.
    fn receive(self, fd: RawFd) -> PyResult<Result<Bound<'py, PyBytes>, Errno>> {
        let (object, outcome) = self.bytes.fill(|output| receive_into(fd, output))?;
        Ok(outcome.map(|()| object))
    }
}

impl StreamTransport {
    /// Takes what has arrived since the loop last polled, without a wait: an end of the connection too.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt from the protocol.
    pub fn look(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.read(slf, this.loop_of(slf.py()))
    }

    /// Takes what has arrived and hands it to the protocol.
    #[inline]
    pub(super) fn read(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let py = slf.py();
        let receiver = self.with_attached(py, |state, at| {
            let protocol = state.protocol.as_ref().filter(|_| state.kind.interest(self.phase()).read)?;
            Some((protocol.receiver.clone_with(at), state.descriptor.fd()))
        })?;
        match receiver {
            None => Ok(()),
            Some((Receiver::Data(data_received), fd)) => self.read_data(slf, event_loop, &data_received, fd),
            Some((Receiver::Missing(protocol), fd)) => {
                match protocol.bind(py).getattr(intern!(py, "data_received")) {
                    Ok(data_received) => self.read_data(slf, event_loop, &data_received.unbind(), fd),
                    Err(error) => {
                        let message = "Fatal error: protocol.data_received() call failed.";
                        self.fatal(slf, event_loop, error, message)
                    }
                }
            }
            Some((Receiver::Buffered { get_buffer, buffer_updated }, fd)) => {
                self.read_buffered(slf, event_loop, &get_buffer, &buffer_updated, fd)
            }
            Some((Receiver::Native(protocol), fd)) => self.read_native(slf, event_loop, &protocol, fd),
        }
    }

    #[inline]
    fn read_data(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        data_received: &Py<PyAny>,
        fd: RawFd,
    ) -> PyResult<()> {
        let py = slf.py();
        // A bytes object is not tracked by the garbage collector: nothing foreign runs while the buffer is open.
        let received = event_loop.get().with_read_buffer(py, |buffer, at| {
            receive(fd, buffer).map(|size| (size > 0).then(|| at.new_bytes(&buffer[..size])))
        });
        match received? {
            Ok(Some(data)) => match protocol::data_received(data_received, self.context(), data.bind(py)) {
                Ok(()) => Ok(()),
                Err(error) => {
                    self.fatal(slf, event_loop, error, "Fatal error: protocol.data_received() call failed.")
                }
            },
            Ok(None) => self.read_eof(slf, event_loop),
            Err(error) => self.read_failed(slf, event_loop, error),
        }
    }

    fn read_buffered(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        get_buffer: &Py<PyAny>,
        buffer_updated: &Py<PyAny>,
        fd: RawFd,
    ) -> PyResult<()> {
        let py = slf.py();
        let mut memory = match protocol::get_buffer(py, self.context(), get_buffer, -1) {
            Ok(memory) => memory,
            Err(error) => {
                return self.fatal(slf, event_loop, error, "Fatal error: protocol.get_buffer() call failed.");
            }
        };
        let received = lend(fd, |fd| memory.recv(fd));
        drop(memory);
        match received {
            Ok(0) => self.read_eof(slf, event_loop),
            Ok(size) => {
                let size = size.into_pyobject(py)?.into_any();
                match call_in_context(py, self.context(), buffer_updated, [&size]) {
                    Ok(_) => Ok(()),
                    Err(error) => self.fatal(
                        slf,
                        event_loop,
                        error,
                        "Fatal error: protocol.buffer_updated() call failed.",
                    ),
                }
            }
            Err(error) => self.read_failed(slf, event_loop, error),
        }
    }

    fn read_native(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        protocol: &NativeHandle,
        fd: RawFd,
    ) -> PyResult<()> {
        let py = slf.py();
        if let Some(size) = protocol.wanted(py)?
            && let Some(object) = RoomForObject::new(py, size)?
        {
            return self.read_object(slf, event_loop, protocol, fd, object);
        }
        let mut buffer = event_loop.get().lend_read_buffer(py)?;
        match receive(fd, &mut buffer) {
            Ok(size @ 1..) => {
                // A short read is the usual one, and noted by the next one that reads on: it finds nothing.
                if size == buffer.len() {
                    let turn = event_loop.get().turn()?;
                    self.with(|state| state.kind.supply.note(turn, size, size))?;
                }
                self.hand_over(slf, event_loop, protocol, Received::Lent(buffer, size))
            }
            Ok(0) => self.read_eof(slf, event_loop),
            Err(error) => self.read_failed(slf, event_loop, error),
        }
    }

    /// Receives into a bytes object of the protocol's, so that nothing is copied after that.
    fn read_object(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        protocol: &NativeHandle,
        fd: RawFd,
        object: RoomForObject<'_>,
    ) -> PyResult<()> {
        let space = object.size;
        match object.receive(fd)? {
            Ok(object) if !object.as_bytes().is_empty() => {
                let (turn, size) = (event_loop.get().turn()?, object.as_bytes().len());
                self.with(|state| state.kind.supply.note(turn, size, space))?;
                self.hand_over(slf, event_loop, protocol, Received::Object(object))
            }
            Ok(_) => self.read_eof(slf, event_loop),
            Err(error) => self.read_failed(slf, event_loop, error),
        }
    }

    fn hand_over<'py>(
        &self,
        slf: &Bound<'py, Self>,
        event_loop: &Bound<'_, EventLoop>,
        protocol: &NativeHandle,
        bytes: Received<'_, 'py>,
    ) -> PyResult<()> {
        match protocol.received(slf.py(), bytes) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.fatal(slf, event_loop, error, "Fatal error: protocol.data_received() call failed.")
            }
        }
    }

    /// Reads on for a native protocol that is out of bytes, into an object of `size` bytes, if the last read has left some and the
    /// turn's limit is not reached. True if it has read.
    ///
    /// The end of the stream is left for the loop, which reports it again.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt from the protocol.
    pub fn read_on(slf: &Bound<'_, Self>, size: usize) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        let event_loop = this.loop_of(py);
        let turn = event_loop.get().turn()?;
        let receiver = this.with_attached(py, |state, at| {
            let reads = state.kind.supply.may_read_on(turn) && state.kind.interest(this.phase()).read;
            match state.protocol.as_ref().filter(|_| reads).map(|protocol| &protocol.receiver) {
                Some(Receiver::Native(native)) => Some((native.clone_with(at), state.descriptor.fd())),
                _ => None,
            }
        })?;
        let Some((protocol, fd)) = receiver else { return Ok(false) };
        let Some(object) = RoomForObject::new(py, size)? else { return Ok(false) };
        let outcome = object.receive(fd)?;
        let received = outcome.as_ref().map_or(0, |object| object.as_bytes().len());
        this.with(|state| state.kind.supply.note(turn, received, size))?;
        match outcome {
            Ok(object) if received > 0 => {
                this.hand_over(slf, event_loop, &protocol, Received::Object(object))?;
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) => this.read_failed(slf, event_loop, error).map(|()| false),
        }
    }

    fn read_failed(
        &self,
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, EventLoop>,
        error: Errno,
    ) -> PyResult<()> {
        match error {
            Errno::AGAIN | Errno::INTR => Ok(()),
            error => self.fatal(slf, event_loop, error.into_py_err(), "Fatal read error on socket transport"),
        }
    }

    fn read_eof(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
        let py = slf.py();
        let protocol = self.with_attached(py, |state, at| {
            state.protocol.as_ref().map(|Protocol { object, receiver }| match receiver {
                Receiver::Native(native) => Ok(native.clone_with(at)),
                _ => Err(object.clone_with(at)),
            })
        })?;
        let keep_open = match protocol {
            None => return Ok(()),
            Some(Ok(native)) => native.eof_received(py, self.context()),
            Some(Err(object)) => {
                protocol::call_method0(object.bind(py), self.context(), intern!(py, "eof_received"))
                    .and_then(|keep_open| keep_open.is_truthy())
            }
        };
        match keep_open {
            Ok(true) => {
                // The write side stays in use (RFC 9293, half-close).
                self.with(|state| state.kind.reading = ReadState::Ended)?;
                Self::update_registration(slf, event_loop)
            }
            Ok(false) => Self::close_in_order(slf),
            Err(error) => {
                self.fatal(slf, event_loop, error, "Fatal error: protocol.eof_received() call failed.")
            }
        }
    }
}
