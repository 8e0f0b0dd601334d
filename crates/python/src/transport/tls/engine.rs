//! The operations of a TLS connection on its data, and the engines that do them.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyType};
use pyo3::{PyTraverseError, PyVisit, intern};
use whorl_core::sched::{BorrowError, LoopOwner, OwnerGuard};

use super::native::{NativeEngine, own_certificate};
use super::object::ObjectEngine;
use super::state::TlsSide;

use crate::buffer::LentMemory;

/// What stopped the reading.
#[derive(Debug)]
pub enum Stop {
    /// All that has arrived is decrypted.
    Empty,
    /// The memory is full; there may be more.
    Full,
    /// The peer's close_notify: no more data will come.
    Closed,
    /// The connection has failed.
    Failed(PyErr),
}

/// What one read brought.
#[derive(Debug)]
pub struct Decrypted<D> {
    /// Plaintext.
    pub data: D,
    /// Why there is no more of it.
    pub stop: Stop,
}

/// What became of written data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encrypted {
    /// All of it is in the outgoing memory.
    All,
    /// So many bytes are; the rest has to wait for a message of the peer's.
    Part(usize),
}

/// The data path of one TLS connection, between ciphertext in memory and plaintext in memory.
///
/// No method is called while any of the loop's state is open: OpenSSL may call Python.
pub trait Engine {
    /// Puts ciphertext behind what waits to be decrypted.
    fn feed(&self, py: Python<'_>, ciphertext: &[u8]) -> PyResult<()>;

    /// Decrypts what waits, then `ciphertext`, into one bytes object; what is not decrypted (an error came before it) waits.
    fn decrypt<'py>(
        &self,
        py: Python<'py>,
        ciphertext: &[u8],
    ) -> PyResult<Decrypted<Option<Bound<'py, PyBytes>>>>;

    /// Decrypts what waits into `memory`; the data is the number of bytes.
    fn decrypt_into(&self, py: Python<'_>, memory: &mut LentMemory) -> PyResult<Decrypted<usize>>;

    /// Encrypts `plaintext` into the outgoing memory.
    fn encrypt(&self, py: Python<'_>, plaintext: &[u8]) -> PyResult<Encrypted>;

    /// Takes what is to be sent.
    fn take_outgoing(&self, py: Python<'_>) -> PyResult<Vec<u8>>;

    /// Bytes that wait to be decrypted, or are decrypted and not read yet.
    fn pending(&self, py: Python<'_>) -> PyResult<usize>;

    /// `do_handshake()` of the `ssl` object, with the `ssl` module's exceptions.
    fn handshake<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>>;

    /// `unwrap()` of the `ssl` object, with the `ssl` module's exceptions.
    fn shutdown<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>>;

    /// Shows the garbage collector what is held.
    fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError>;
}

/// One of the two engines.
#[derive(Debug)]
pub enum AnyEngine {
    /// Calls OpenSSL.
    NativeEngine(NativeEngine),
    /// Calls the methods of the `ssl.SSLObject`.
    ObjectEngine(ObjectEngine),
}

macro_rules! either {
    ($self:ident, $engine:ident => $result:expr) => {
        match $self {
            Self::NativeEngine($engine) => $result,
            Self::ObjectEngine($engine) => $result,
        }
    };
}

impl Engine for AnyEngine {
    #[inline]
    fn feed(&self, py: Python<'_>, ciphertext: &[u8]) -> PyResult<()> {
        either!(self, engine => engine.feed(py, ciphertext))
    }

    #[inline]
    fn decrypt<'py>(
        &self,
        py: Python<'py>,
        ciphertext: &[u8],
    ) -> PyResult<Decrypted<Option<Bound<'py, PyBytes>>>> {
        either!(self, engine => engine.decrypt(py, ciphertext))
    }

    #[inline]
    fn decrypt_into(&self, py: Python<'_>, memory: &mut LentMemory) -> PyResult<Decrypted<usize>> {
        either!(self, engine => engine.decrypt_into(py, memory))
    }

    #[inline]
    fn encrypt(&self, py: Python<'_>, plaintext: &[u8]) -> PyResult<Encrypted> {
        either!(self, engine => engine.encrypt(py, plaintext))
    }

    #[inline]
    fn take_outgoing(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        either!(self, engine => engine.take_outgoing(py))
    }

    fn pending(&self, py: Python<'_>) -> PyResult<usize> {
        either!(self, engine => engine.pending(py))
    }

    fn handshake<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        either!(self, engine => engine.handshake(py))
    }

    fn shutdown<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        either!(self, engine => engine.shutdown(py))
    }

    fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        either!(self, engine => engine.visit(visit))
    }
}

/// Whether OpenSSL is at work on a connection: shared by the engine and the `ssl` object that the user has.
///
/// It is set on the loop's thread only: under the guard of the loop's owner.
#[derive(Clone, Debug, Default)]
pub struct InUse(Arc<AtomicBool>);

/// OpenSSL is this thread's, until the value is dropped, and not that of what it calls.
#[derive(Debug)]
pub struct Used<'a> {
    flag: &'a AtomicBool,
    _guard: Option<OwnerGuard<'a>>,
}

impl InUse {
    /// Takes the connection into use; none if it is in use further up the stack.
    ///
    /// # Errors
    /// [`BorrowError::OtherThread`] on a thread other than the one that runs the loop.
    #[inline]
    pub fn enter<'a>(&'a self, owner: &'a LoopOwner) -> Result<Option<Used<'a>>, BorrowError> {
        let guard = owner.take_unless_here()?;
        if self.0.swap(true, Ordering::Relaxed) {
            return Ok(None);
        }
        Ok(Some(Used { flag: &self.0, _guard: guard }))
    }

    /// Whether it is; on the loop's thread that is further up the stack.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Used<'_> {
    #[inline]
    fn drop(&mut self) {
        self.flag.store(false, Ordering::Relaxed);
    }
}

/// What is raised from within OpenSSL.
#[cold]
pub fn in_use() -> PyErr {
    PyRuntimeError::new_err("OpenSSL is at work on this connection further up the stack")
}

/// The engine of a connection, for one use at a time.
///
/// OpenSSL may call Python: a message callback, a server name callback, a finaliser that a collection runs there. What that
/// does to the same connection must not enter OpenSSL a second time.
#[derive(Debug)]
pub struct EngineCell {
    engine: AnyEngine,
    in_use: InUse,
}

/// The engine, in use: for this thread, and for nothing that OpenSSL calls.
#[derive(Debug)]
pub struct EngineInUse<'a> {
    engine: &'a AnyEngine,
    _used: Used<'a>,
}

impl EngineCell {
    /// Takes it into use, until the value returned is dropped.
    ///
    /// # Errors
    /// As [`InUse::enter`].
    #[inline]
    pub fn enter<'a>(&'a self, owner: &'a LoopOwner) -> Result<Option<EngineInUse<'a>>, BorrowError> {
        let used = self.in_use.enter(owner)?;
        Ok(used.map(|used| EngineInUse { engine: &self.engine, _used: used }))
    }

    /// Whether it is in use; on the loop's thread that is further up the stack.
    pub fn is_in_use(&self) -> bool {
        self.in_use.is_set()
    }

    /// 'native' or 'object'.
    pub const fn name(&self) -> &'static str {
        match self.engine {
            AnyEngine::NativeEngine(_) => "native",
            AnyEngine::ObjectEngine(_) => "object",
        }
    }

    /// Shows the garbage collector what is held.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.engine.visit(visit)
    }
}

impl std::ops::Deref for EngineInUse<'_> {
    type Target = AnyEngine;

    #[inline]
    fn deref(&self) -> &AnyEngine {
        self.engine
    }
}

/// Which engine connections get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// The native one where it is possible.
    Best,
    /// `WHORL_TLS_ENGINE=object`
    ObjectEngine,
}

fn choice() -> Choice {
    let object = OsString::from("object");
    if std::env::var_os("WHORL_TLS_ENGINE") == Some(object) { Choice::ObjectEngine } else { Choice::Best }
}

/// Makes an `ssl.SSLObject` of `context`, and the engine for it, which is used where `owner` is held.
///
/// # Errors
/// TypeError for what is no context; what `wrap_bio()` raises, as ValueError for a host name that is none.
pub fn connect<'py>(
    context: &Bound<'py, PyAny>,
    side: &TlsSide<'_, 'py>,
    owner: &Arc<LoopOwner>,
) -> PyResult<(EngineCell, Bound<'py, PyAny>)> {
    let py = context.py();
    let Ok(wrap_bio) = context.getattr(intern!(py, "wrap_bio")) else {
        let shown = context.repr()?;
        return Err(PyTypeError::new_err(format!(
            "sslcontext is expected to be an instance of ssl.SSLContext, got {shown}"
        )));
    };
    let memory_bio = memory_bio(py)?;
    let (incoming, outgoing) = (memory_bio.call0()?, memory_bio.call0()?);
    let keywords = PyDict::new(py);
    match side {
        TlsSide::Server => keywords.set_item(intern!(py, "server_side"), true)?,
        TlsSide::Client { hostname, .. } => keywords.set_item(intern!(py, "server_hostname"), *hostname)?,
    }
    let ssl_object = wrap_bio.call((&incoming, &outgoing), Some(&keywords))?;
    if let TlsSide::Client { resumption: Some(resumption), .. } = side {
        let certificate = own_certificate(&ssl_object, context)?;
        resumption.call_method1(intern!(py, "begin"), (&ssl_object, certificate))?;
    }
    let in_use = InUse::default();
    let native = match choice() {
        Choice::Best => NativeEngine::of(&ssl_object, context, &in_use, owner)?,
        Choice::ObjectEngine => None,
    };
    let engine = match native {
        Some(native) => AnyEngine::NativeEngine(native),
        None => AnyEngine::ObjectEngine(ObjectEngine::new(&ssl_object, &incoming, &outgoing)),
    };
    Ok((EngineCell { engine, in_use }, ssl_object))
}

fn memory_bio(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    TYPE.import(py, "ssl", "MemoryBIO")
}

/// Whether `error` only says that OpenSSL needs a message of the peer's.
pub fn wants_more(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    static WANT_READ: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static SYSCALL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    Ok(error.is_instance(py, WANT_READ.import(py, "ssl", "SSLWantReadError")?)
        || error.is_instance(py, SYSCALL.import(py, "ssl", "SSLSyscallError")?))
}

/// Whether `error` says that both sides have closed.
pub fn is_zero_return(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    Ok(error.is_instance(py, TYPE.import(py, "ssl", "SSLZeroReturnError")?))
}
