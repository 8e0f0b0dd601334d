//! Operations on sockets that wait for readiness: each is tried again when its descriptor is ready, and completes a future.

use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, RawFd};

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit, intern};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType, sockopt};

use crate::buffer::LentMemory;
use crate::errors::{IntoPyErr, is_blocking};
use crate::fd::lend;
use crate::ffi::BytesWriter;

/// The most that one `recv` takes from a stream, in bytes: below the size from which glibc maps each block anew.
const MOST_OF_A_STREAM: usize = 120 * 1024;

/// What is being sent.
#[derive(Debug)]
pub enum Payload {
    /// A bytes object, which cannot change.
    Bytes(Py<PyBytes>),
    /// The memory of anything else: as in asyncio it is the caller's to leave alone until all is sent.
    Lent(LentMemory),
}

impl Payload {
    /// From what was given to `sock_sendall()`.
    ///
    /// # Errors
    /// TypeError for what is not bytes-like.
    pub fn new(data: &Bound<'_, PyAny>) -> PyResult<Self> {
        match data.cast_exact::<PyBytes>() {
            Ok(bytes) => Ok(Self::Bytes(bytes.clone().unbind())),
            Err(_) => LentMemory::readable(data).map(Self::Lent),
        }
    }

    fn len(&self, py: Python<'_>) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.as_bytes(py).len(),
            Self::Lent(memory) => memory.len(),
        }
    }

    /// `send` of everything from the byte `from` on.
    fn send(&self, py: Python<'_>, fd: BorrowedFd<'_>, from: usize) -> Result<usize, Errno> {
        match self {
            Self::Bytes(bytes) => {
                let rest = bytes.as_bytes(py).get(from..).unwrap_or_default();
                rustix::net::send(fd, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            }
            Self::Lent(memory) => memory.send(fd, from),
        }
    }
}

/// What is to be done when the descriptor is ready.
#[derive(Debug)]
pub enum OperationKind {
    /// `recv` of at most so many bytes.
    Recv(usize),
    /// `recv` into the caller's memory.
    RecvInto(LentMemory),
    /// `send` until all is sent; the number is how much was.
    SendAll(Payload, usize),
    /// The socket's own method of that name with these arguments: the rarer ones.
    Method(Py<PyString>, Py<PyTuple>),
    /// `accept`
    Accept,
    /// The outcome of a `connect` to the address.
    Connect(Py<PyAny>),
}

/// An operation that waits, and the future it completes.
#[derive(Debug)]
pub struct Operation {
    /// The future.
    pub future: Py<PyAny>,
    /// The socket, kept open and alive while the operation waits.
    pub socket: Py<PyAny>,
    /// What it does.
    pub kind: OperationKind,
}

/// How far one attempt came.
pub enum Attempt<'py> {
    /// The descriptor was not ready.
    Blocked,
    /// It is done, with this result.
    Done(PyResult<Bound<'py, PyAny>>),
    /// The same, and the descriptor has no more for now: there is no use in trying again before the poller says so.
    Drained(Bound<'py, PyAny>),
}

impl Attempt<'_> {
    fn failed(error: Errno) -> Self {
        match error {
            Errno::AGAIN | Errno::INTR => Self::Blocked,
            error => Self::Done(Err(error.into_py_err())),
        }
    }
}

impl OperationKind {
    /// One attempt, which does not block, whatever mode the descriptor is in.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread. What the operation itself raises is its outcome.
    pub fn attempt<'py>(&mut self, socket: &Bound<'py, PyAny>, fd: RawFd) -> PyResult<Attempt<'py>> {
        let py = socket.py();
        if fd < 0 {
            return Ok(Attempt::Done(Err(Errno::BADF.into_py_err())));
        }
        match self {
            Self::Recv(limit) => receive(py, fd, *limit),
            Self::RecvInto(memory) => {
                let room = memory.len();
                Ok(match lend(fd, |fd| memory.recv(fd)) {
                    Ok(size) => {
                        let result = size.into_pyobject(py)?.into_any();
                        if size < room { Attempt::Drained(result) } else { Attempt::Done(Ok(result)) }
                    }
                    Err(error) => Attempt::failed(error),
                })
            }
            Self::SendAll(payload, sent) => {
                match lend(fd, |fd| payload.send(py, fd, *sent)) {
                    Ok(size) => {
                        *sent += size;
                        // A short write: the socket is full.
                        let done = *sent >= payload.len(py);
                        Ok(if done { Attempt::Done(Ok(py.None().into_bound(py))) } else { Attempt::Blocked })
                    }
                    Err(error) => Ok(Attempt::failed(error)),
                }
            }
            Self::Method(name, args) => Ok(call(py, socket.call_method1(name.bind(py), args.bind(py)))),
            Self::Accept => Ok(call(py, accept(socket))),
            Self::Connect(address) => Ok(match lend(fd, |fd| sockopt::socket_error(fd)) {
                Ok(Ok(())) => Attempt::Done(Ok(py.None().into_bound(py))),
                Ok(Err(error)) | Err(error) => {
                    let address = address.bind(py).str()?;
                    let message = format!("Connect call failed {address}");
                    Attempt::Done(Err(PyOSError::new_err((error.raw_os_error(), message))))
                }
            }),
        }
    }

    /// Shows the garbage collector what is held.
    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Method(_, args) => visit.call(args),
            Self::Connect(address) => visit.call(address),
            Self::RecvInto(memory) | Self::SendAll(Payload::Lent(memory), _) => memory.visit(visit),
            Self::Recv(_) | Self::SendAll(Payload::Bytes(_), _) | Self::Accept => Ok(()),
        }
    }
}

/// `recv`: into the bytes object itself, which is cut to what came, so that nothing is copied.
fn receive<'py>(py: Python<'py>, fd: RawFd, limit: usize) -> PyResult<Attempt<'py>> {
    // A second call costs a stream less than a large block; a message would be cut.
    let is_stream =
        limit <= MOST_OF_A_STREAM || lend(fd, |fd| sockopt::socket_type(fd)) == Ok(SocketType::STREAM);
    let size = if is_stream { limit.min(MOST_OF_A_STREAM) } else { limit };
    let mut bytes = BytesWriter::new(py, size)?;
    // SAFETY: `size` bytes of memory that are the writer's; the kernel writes to them and nothing reads them before.
    let room = unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast::<MaybeUninit<u8>>(), size) };
    match lend(fd, |fd| rustix::net::recv(fd, room, RecvFlags::DONTWAIT)) {
        Ok((_, got)) => {
            // SAFETY: the kernel has written as many bytes as it says. It may say more for a message that was cut (`MSG_TRUNC`, which
            // no flag asks for): then it has written all.
            let data = unsafe { bytes.finish(got.min(size)) }?.into_any();
            Ok(if got < size { Attempt::Drained(data) } else { Attempt::Done(Ok(data)) })
        }
        Err(error) => Ok(Attempt::failed(error)),
    }
}

/// `sock.accept()`, with the connection made non-blocking.
fn accept<'py>(socket: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = socket.py();
    let accepted = socket.call_method0(intern!(py, "accept"))?;
    accepted.get_item(0)?.call_method1(intern!(py, "setblocking"), (false,))?;
    Ok(accepted)
}

fn call<'py>(py: Python<'py>, outcome: PyResult<Bound<'py, PyAny>>) -> Attempt<'py> {
    match outcome {
        Err(error) if is_blocking(py, &error) => Attempt::Blocked,
        outcome => Attempt::Done(outcome),
    }
}

impl Operation {
    /// Shows the garbage collector what is held.
    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.future)?;
        visit.call(&self.socket)?;
        self.kind.visit(visit)
    }

    /// Whether the future was cancelled or completed by other code.
    pub fn is_done(&self, py: Python<'_>) -> PyResult<bool> {
        self.future.bind(py).call_method0(intern!(py, "done"))?.is_truthy()
    }

    /// Completes the future.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt, which end `run_forever()`; what scheduling the future's callbacks raises.
    pub fn complete<'py>(self, py: Python<'py>, outcome: PyResult<Bound<'py, PyAny>>) -> PyResult<()> {
        let future = self.future.bind(py);
        match outcome {
            Ok(result) => future.call_method1(intern!(py, "set_result"), (result,)).map(drop),
            Err(error) if super::leaves_the_loop(py, &error) => Err(error),
            Err(error) => {
                future.call_method1(intern!(py, "set_exception"), (error.into_value(py),)).map(drop)
            }
        }
    }
}
