//! Operations on sockets: the native half of `sock_recv()` and the other `sock_*` methods.
//!
//! Each is tried at once. What would block becomes an [`Operation`] that waits in the [`Watch`] of its descriptor, along
//! with the callbacks of `add_reader()` and `add_writer()`, and is tried again by the loop itself when the poller reports.
//!
//! A descriptor that was waited for to be readable stays registered when the operation is done ([`WatchSide::Lingering`]): the
//! next operation on the same socket, which usually comes soon, then needs no system call to wait. If data comes first, the
//! report ends the registration. The registration is tied to the socket *object* by a weak reference, not to the number
//! alone, which may have been closed and reused meanwhile: another user of the number gets a new one.

use std::os::fd::RawFd;

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple, PyType, PyWeakrefReference};
use rustix::io::Errno;
use whorl_core::reactor::{Interest, Readiness, Token};

use super::operation::{Attempt, Operation, OperationKind, Payload};
use super::watch::Direction;
use super::{EventLoop, Source, Watch, WatchSide};
use crate::buffer::LentMemory;
use crate::errors::{IntoPyErr, is_blocking};
use crate::interpreter::Identity;

/// `socket.socket`; what derives from it may have methods of its own, and goes asyncio's way.
fn is_stock_socket(sock: &Bound<'_, PyAny>) -> PyResult<bool> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    Ok(sock.get_type().is(TYPE.import(sock.py(), "socket", "socket")?))
}

/// What the loop knows of a descriptor before an attempt.
enum SocketReadState {
    /// Nothing that matters: try.
    Unknown,
    /// The last read took all, and the poller has reported nothing since: wait.
    Drained,
}

/// An operation that is ready for an attempt.
enum TakenOperation {
    Operation(Box<Operation>),
    /// Readiness that no operation waits for any more.
    Unwanted,
}

impl EventLoop {
    /// The descriptor of `sock`, if the operation is ours to do: nothing for a class that derives from `socket.socket`.
    ///
    /// # Errors
    /// ValueError in debug mode for a socket that may block.
    fn stock_fd(slf: &Bound<'_, Self>, sock: &Bound<'_, PyAny>) -> PyResult<Option<RawFd>> {
        if !is_stock_socket(sock)? {
            return Ok(None);
        }
        let py = slf.py();
        if slf.get().is_debug() && !sock.call_method0(intern!(py, "gettimeout"))?.eq(0)? {
            return Err(PyValueError::new_err("the socket must be non-blocking"));
        }
        sock.call_method0(intern!(py, "fileno"))?.extract().map(Some)
    }

    /// Tries `kind` at once, and has it wait if it would block: its result, or a future for it.
    fn try_or_wait(
        slf: &Bound<'_, Self>,
        sock: &Bound<'_, PyAny>,
        fd: RawFd,
        direction: Direction,
        mut kind: OperationKind,
    ) -> PyResult<Py<PyAny>> {
        slf.get().disturb()?;
        match Self::read_state(slf, sock, fd, direction)? {
            SocketReadState::Drained => {}
            SocketReadState::Unknown => match kind.attempt(sock, fd)? {
                Attempt::Done(outcome) => return outcome.map(Bound::unbind),
                Attempt::Drained(result) => return Ok(result.unbind()),
                Attempt::Blocked => {}
            },
        }
        Self::wait(slf, sock, fd, direction, kind)
    }

    /// What the loop knows of `fd` before an attempt in `direction`.
    fn read_state(
        slf: &Bound<'_, Self>,
        sock: &Bound<'_, PyAny>,
        fd: RawFd,
        direction: Direction,
    ) -> PyResult<SocketReadState> {
        if direction == Direction::Write {
            return Ok(SocketReadState::Unknown);
        }
        let drained_socket = slf.get().with_attached(slf.py(), |state, at| {
            let token = state.sources.token_of(fd)?;
            let Some(Source::Watch(watch)) = state.sources.get(token) else { return None };
            let drained = matches!(watch.reader, WatchSide::Lingering { drained: true });
            if drained { watch.live_socket(at) } else { None }
        })?;
        Ok(if drained_socket.is_some_and(|known| known.into_bound(slf.py()).is(sock)) {
            SocketReadState::Drained
        } else {
            SocketReadState::Unknown
        })
    }

    /// Has `kind` wait for readiness; the future that it completes.
    fn wait(
        slf: &Bound<'_, Self>,
        sock: &Bound<'_, PyAny>,
        fd: RawFd,
        direction: Direction,
        kind: OperationKind,
    ) -> PyResult<Py<PyAny>> {
        let this = slf.get();
        let future = Self::new_future(slf)?;
        let mut operation = Some(Box::new(Operation {
            future: future.clone().unbind(),
            socket: sock.clone().unbind(),
            kind,
        }));
        let mut join = || {
            this.with(|state| {
                let token = state.sources.token_of(fd)?;
                let Some(Source::Watch(watch)) = state.sources.get_mut(token) else { return None };
                let previous = watch.side(direction).replace(WatchSide::Operation(operation.take()?));
                Some((token, watch.interest(), previous))
            })
        };
        // The usual case: it was waited for before.
        let mut joined = if this.knows(slf.py(), fd, sock)? { join()? } else { None };
        if joined.is_none() {
            Self::check_unowned(slf, fd)?;
            Self::unregister_previous_owner(slf, fd, sock)?;
            joined = join()?;
        }
        if let Some((token, interest, previous)) = joined {
            previous.cancel(slf.py());
            this.set_interest(token, interest)?;
            this.note_socket(token, sock)?;
            return Ok(future.unbind());
        }
        let Some(operation) = operation else { return Ok(future.unbind()) };
        let mut watch = Watch { socket: Some(PyWeakrefReference::new(sock)?.unbind()), ..Watch::default() };
        *watch.side(direction) = WatchSide::Operation(operation);
        let interest = watch.interest();
        this.register(fd, interest, Source::Watch(watch))?;
        Ok(future.unbind())
    }

    /// Whether operations on `fd` are for `sock`.
    fn knows(&self, py: Python<'_>, fd: RawFd, sock: &Bound<'_, PyAny>) -> PyResult<bool> {
        let known = self.with_attached(py, |state, at| {
            let token = state.sources.token_of(fd)?;
            let Some(Source::Watch(watch)) = state.sources.get(token) else { return None };
            watch.live_socket(at)
        })?;
        Ok(known.is_some_and(|known| known.into_bound(py).is(sock)))
    }

    /// Ties a watch that `add_reader()` or `add_writer()` made to the socket as well.
    fn note_socket(&self, token: Token, sock: &Bound<'_, PyAny>) -> PyResult<()> {
        let unknown = self.with(
            |state| matches!(state.sources.get(token), Some(Source::Watch(watch)) if watch.socket.is_none()),
        )?;
        if unknown {
            let socket = PyWeakrefReference::new(sock)?.unbind();
            let _previous = self.with(|state| match state.sources.get_mut(token) {
                Some(Source::Watch(watch)) => watch.socket.replace(socket),
                _ => Some(socket),
            })?;
        }
        Ok(())
    }

    /// Drops a watch of `fd` that belongs to a file which was closed meanwhile, or that has no operation: `file` is a new
    /// owner of the number. Operations of the previous owner fail with EBADF.
    pub fn unregister_previous_owner(
        slf: &Bound<'_, Self>,
        fd: RawFd,
        file: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let found = this.with_attached(py, |state, at| {
            let token = state.sources.token_of(fd)?;
            let Some(Source::Watch(watch)) = state.sources.get(token) else { return None };
            let known = [watch.live_socket(at), watch.file.as_ref().map(|file| at.outgoing(file))];
            Some((token, watch.is_idle(), watch.owner(at), known))
        })?;
        let Some((token, idle, owner, known)) = found else { return Ok(()) };
        let owner = owner.map(|owner| owner.into_bound(py));
        let known = known.map(|known| known.map(|known| known.into_bound(py)));
        if known.iter().flatten().any(|known| known.is(file)) {
            return Ok(());
        }
        let closed = |owner: &Bound<'_, PyAny>| -> bool {
            // A number has no state of its own to read.
            let number =
                owner.call_method0(intern!(py, "fileno")).and_then(|number| number.extract::<RawFd>());
            !owner.is_instance_of::<pyo3::types::PyInt>() && number.ok() != Some(fd)
        };
        if !idle && !owner.as_ref().is_some_and(closed) {
            return Ok(());
        }
        let Some(Source::Watch(watch)) = this.unregister(token)? else { return Ok(()) };
        this.forget_callbacks(fd, &watch);
        for side in [watch.reader, watch.writer] {
            if let WatchSide::Operation(operation) = side {
                if !operation.is_done(py)? {
                    operation.complete(py, Err(Errno::BADF.into_py_err()))?;
                }
            } else {
                side.cancel(py);
            }
        }
        Ok(())
    }

    /// The poller's report for a watch on which an operation waits, or lingers.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt.
    pub fn on_socket_ready(slf: &Bound<'_, Self>, token: Token, readiness: Readiness) -> PyResult<()> {
        if readiness.readable {
            Self::resume(slf, token, Direction::Read)?;
        }
        if readiness.writable {
            Self::resume(slf, token, Direction::Write)?;
        }
        Ok(())
    }

    fn resume(slf: &Bound<'_, Self>, token: Token, direction: Direction) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let taken = this.with(|state| {
            let (fd, _) = state.sources.interest(token)?;
            let Some(Source::Watch(watch)) = state.sources.get_mut(token) else { return None };
            let side = watch.side(direction);
            match side {
                WatchSide::Operation(_) => match side.replace(WatchSide::resting(direction)) {
                    WatchSide::Operation(operation) => Some((fd, TakenOperation::Operation(operation))),
                    _ => None,
                },
                WatchSide::Lingering { .. } => {
                    *side = WatchSide::Free;
                    Some((fd, TakenOperation::Unwanted))
                }
                WatchSide::Free | WatchSide::Callback(_) => None,
            }
        })?;
        let (fd, mut operation) = match taken {
            None => return Ok(()),
            Some((_, TakenOperation::Unwanted)) => return this.settle(py, token),
            Some((fd, TakenOperation::Operation(operation))) => (fd, operation),
        };
        if operation.is_done(py)? {
            return this.rest(py, token, direction, WatchSide::Free);
        }
        let socket = operation.socket.bind(py).clone();
        // Closed meanwhile, the number may have a new owner, whose data is not ours to read (uvloop #645).
        let number: RawFd = socket.call_method0(intern!(py, "fileno"))?.extract()?;
        let fd = if number == fd { fd } else { -1 };
        match operation.kind.attempt(&socket, fd)? {
            Attempt::Blocked => this.rest(py, token, direction, WatchSide::Operation(operation)),
            Attempt::Done(outcome) => {
                this.rest(py, token, direction, WatchSide::resting(direction))?;
                operation.complete(py, outcome)
            }
            Attempt::Drained(result) => {
                this.rest(py, token, direction, WatchSide::Lingering { drained: true })?;
                operation.complete(py, Ok(result))
            }
        }
    }

    /// Puts `next` on a side whose operation was taken out, unless another operation was put there meanwhile.
    fn rest(&self, py: Python<'_>, token: Token, direction: Direction, next: WatchSide) -> PyResult<()> {
        let mut next = Some(next);
        self.with(|state| {
            let Some(Source::Watch(watch)) = state.sources.get_mut(token) else { return };
            let side = watch.side(direction);
            if matches!(side, WatchSide::Free | WatchSide::Lingering { .. })
                && let Some(next) = next.take()
            {
                *side = next;
            }
        })?;
        self.settle(py, token)
    }

    /// Makes the poller's interest that of the watch; a watch without any is dropped.
    fn settle(&self, py: Python<'_>, token: Token) -> PyResult<()> {
        let interest = self.with(|state| match state.sources.get(token) {
            Some(Source::Watch(watch)) => Some(watch.interest()),
            _ => None,
        })?;
        match interest {
            None => Ok(()),
            Some(Interest::NONE) => self.unregister(token).map(drop),
            Some(interest) => match self.set_interest(token, interest) {
                Err(error) if super::watch::is_gone(py, &error) => self.unregister(token).map(drop),
                done => done,
            },
        }
    }

    /// The token of the watch on which an operation for `future` waits, and which side it is.
    fn token_of_operation(
        &self,
        fd: RawFd,
        future: &Bound<'_, PyAny>,
    ) -> PyResult<Option<(Token, Direction)>> {
        let future = Identity::of(future);
        self.with(|state| {
            let side_of = |token: Token| match state.sources.get(token) {
                Some(Source::Watch(watch)) => watch.direction_of(future).map(|direction| (token, direction)),
                _ => None,
            };
            if fd >= 0 {
                return state.sources.token_of(fd).and_then(side_of);
            }
            // Closed while it waited: the number is not known any more, the future is.
            state.sources.registrations().find_map(|(token, _, _)| side_of(token))
        })
    }
}

/// The coroutine of asyncio's own method, which does it by calling the methods of `sock`.
fn asyncios(
    slf: &Bound<'_, EventLoop>,
    method: &str,
    sock: &Bound<'_, PyAny>,
    args: &[&Bound<'_, PyAny>],
) -> PyResult<Py<PyAny>> {
    let py = slf.py();
    slf.get().disturb()?;
    let class = py.import(intern!(py, "asyncio.unix_events"))?.getattr("_UnixSelectorEventLoop")?;
    let args = [slf.as_any(), sock].into_iter().chain(args.iter().copied());
    Ok(class.getattr(method)?.call1(PyTuple::new(py, args.collect::<Vec<_>>())?)?.unbind())
}

impl EventLoop {
    /// `getattr(sock, method)(*args)` now, or once the socket is ready.
    fn call_or_wait(
        slf: &Bound<'_, Self>,
        sock: &Bound<'_, PyAny>,
        direction: Direction,
        method: Py<PyString>,
        args: Py<PyTuple>,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let Some(fd) = Self::stock_fd(slf, sock)? else {
            let args: Vec<_> = args.bind(py).iter().collect();
            let name = format!("sock_{}", method.bind(py));
            return asyncios(slf, &name, sock, &args.iter().collect::<Vec<_>>());
        };
        Self::try_or_wait(slf, sock, fd, direction, OperationKind::Method(method, args))
    }
}

#[pymethods]
impl EventLoop {
    /// `sock_recv`: bytes, or an awaitable of them.
    fn _sock_recv(
        slf: &Bound<'_, Self>,
        sock: &Bound<'_, PyAny>,
        n: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        let (Some(fd), Ok(limit)) = (Self::stock_fd(slf, sock)?, n.extract::<usize>()) else {
            // The socket's own method raises for what is no size.
            return asyncios(slf, "sock_recv", sock, &[n]);
        };
        Self::try_or_wait(slf, sock, fd, Direction::Read, OperationKind::Recv(limit))
    }

    /// `sock_recv_into`: how many bytes, or an awaitable of that.
    fn _sock_recv_into(
        slf: &Bound<'_, Self>,
        sock: &Bound<'_, PyAny>,
        buf: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        let Some(fd) = Self::stock_fd(slf, sock)? else {
            return asyncios(slf, "sock_recv_into", sock, &[buf]);
        };
        match LentMemory::writable(buf) {
            Ok(memory) if memory.len() > 0 => {
                Self::try_or_wait(slf, sock, fd, Direction::Read, OperationKind::RecvInto(memory))
            }
            // The socket's own method has its word for both.
            _ => asyncios(slf, "sock_recv_into", sock, &[buf]),
        }
    }

    /// `sock_sendall`: None, or an awaitable.
    fn _sock_sendall(
        slf: &Bound<'_, Self>,
        sock: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        let Some(fd) = Self::stock_fd(slf, sock)? else {
            return asyncios(slf, "sock_sendall", sock, &[data]);
        };
        Self::try_or_wait(slf, sock, fd, Direction::Write, OperationKind::SendAll(Payload::new(data)?, 0))
    }

    /// `getattr(sock, method)(*args)`, for reading: its result, or an awaitable of it.
    #[pyo3(signature = (sock, method, *args))]
    fn _sock_read(
        slf: &Bound<'_, Self>,
        sock: &Bound<'_, PyAny>,
        method: Py<PyString>,
        args: Py<PyTuple>,
    ) -> PyResult<Py<PyAny>> {
        Self::call_or_wait(slf, sock, Direction::Read, method, args)
    }

    /// `getattr(sock, method)(*args)`, for writing: its result, or an awaitable of it.
    #[pyo3(signature = (sock, method, *args))]
    fn _sock_write(
        slf: &Bound<'_, Self>,
        sock: &Bound<'_, PyAny>,
        method: Py<PyString>,
        args: Py<PyTuple>,
    ) -> PyResult<Py<PyAny>> {
        Self::call_or_wait(slf, sock, Direction::Write, method, args)
    }

    /// `sock_accept`: the connection and its address, or an awaitable of them.
    fn _sock_accept(slf: &Bound<'_, Self>, sock: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let Some(fd) = Self::stock_fd(slf, sock)? else { return asyncios(slf, "sock_accept", sock, &[]) };
        Self::try_or_wait(slf, sock, fd, Direction::Read, OperationKind::Accept)
    }

    /// `sock_connect` to a resolved address: None, or an awaitable.
    fn _sock_connect_to(
        slf: &Bound<'_, Self>,
        sock: &Bound<'_, PyAny>,
        address: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let Some(fd) = Self::stock_fd(slf, sock)? else {
            return asyncios(slf, "sock_connect", sock, &[address]);
        };
        slf.get().disturb()?;
        match sock.call_method1(intern!(py, "connect"), (address,)) {
            // EINPROGRESS; after EINTR it continues in the background as well (bpo-23618).
            Err(error) if is_blocking(py, &error) => {
                Self::wait(slf, sock, fd, Direction::Write, OperationKind::Connect(address.clone().unbind()))
            }
            Err(error) => Err(error),
            Ok(_) => Ok(py.None()),
        }
    }

    /// Takes an operation back whose future was cancelled. Nothing is done for an awaitable that is not ours.
    fn _sock_forget(
        slf: &Bound<'_, Self>,
        sock: &Bound<'_, PyAny>,
        future: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.has_closed() || !is_stock_socket(sock)? {
            return Ok(());
        }
        let fd: RawFd = sock.call_method0(intern!(py, "fileno"))?.extract()?;
        let Some((token, direction)) = this.token_of_operation(fd, future)? else { return Ok(()) };
        let _previous = this.with(|state| match state.sources.get_mut(token) {
            Some(Source::Watch(watch)) => Some(watch.side(direction).replace(WatchSide::Free)),
            _ => None,
        })?;
        this.settle(py, token)
    }
}
