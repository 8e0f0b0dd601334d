//! The engine that calls OpenSSL: `SSL_read_ex` and `SSL_write_ex` on the `SSL` of an `ssl.SSLObject`.

use std::ffi::c_int;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyType};
use pyo3::{PyTraverseError, PyVisit, ffi, intern};
use whorl_core::sched::LoopOwner;

use super::engine::{Decrypted, Encrypted, Engine, InUse, Stop};
use super::guarded::GuardedSslSocket;
use super::libssl::{LibSsl, Ssl, SslCtx};
use super::pipe::{self, Pipe};
use crate::buffer::LentMemory;
use crate::ffi::BytesWriter;

const ERROR_WANT_READ: c_int = 2;
const ERROR_WANT_WRITE: c_int = 3;
const ERROR_ZERO_RETURN: c_int = 6;

/// The most that one record holds, with what may wait of the next one's head.
const RECORD: usize = 16 * 1024 + 512;

/// The most that a record adds to its plaintext: head, nonce, content type, tag, padding (RFC 5246, RFC 8446).
const RECORD_OVERHEAD: usize = 100;

/// The plaintext of a full record, in bytes.
const RECORD_PLAINTEXT: usize = 16 * 1024;

/// Bytes of a SHA-256 digest.
const SHA256_SIZE: usize = 32;

/// The `SSL` of an `ssl.SSLObject`, with a [`Pipe`] for its BIO.
#[derive(Debug)]
pub struct NativeEngine {
    libssl: &'static LibSsl,
    /// `_ssl._SSLSocket`: owns the `SSL`.
    inner: Py<PyAny>,
    ssl: NonNull<Ssl>,
    /// Owned by the BIO, which the `SSL` owns.
    pipe: NonNull<Mutex<Pipe>>,
}

// SAFETY: both pointers are valid as long as `inner` is, on every thread. The pipe is behind a mutex. This engine is in OpenSSL
// with the `SSL` while no other thread is: it exists on builds with a global interpreter lock only (`NativeEngine::of`), and
// keeps that lock, as its methods have a token. The methods of `_ssl._SSLSocket` that only ask keep it as well. Those that give
// it up in there (`do_handshake`, `read`, `write`, `shutdown`, `pending`) are called with the engine in use, and the engine is
// used by one at a time (`engine::InUse`): by this engine itself, from `TlsProtocol`; and by the user through the `ssl.SSLObject`,
// which has a `GuardedSslSocket` in place of `inner`. That holds for all but a program that digs `inner` out of the guard or of
// the context's private methods.
unsafe impl Send for NativeEngine {}
// SAFETY: as above.
unsafe impl Sync for NativeEngine {}

fn ssl_object_type(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    TYPE.import(py, "ssl", "SSLObject")
}

fn ssl_context_type(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    TYPE.import(py, "_ssl", "_SSLContext")
}

fn ssl_socket_type(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    TYPE.import(py, "_ssl", "_SSLSocket")
}

/// The pointer at `offset` bytes from the head of `object`; none unless it could be one.
///
/// # Safety
/// The object has at least `offset` bytes and a pointer's size.
unsafe fn pointer_at<T>(object: &Bound<'_, PyAny>, offset: usize) -> Option<NonNull<T>> {
    // SAFETY: within the object, by the caller; object members are aligned for pointers.
    let pointer = unsafe { object.as_ptr().cast::<u8>().add(offset).cast::<*mut T>().read() };
    NonNull::new(pointer).filter(|pointer| pointer.addr().get() % align_of::<usize>() == 0)
}

/// The `SSL` of `inner`, a `_ssl._SSLSocket` made by `context`.
///
/// CPython 3.11 to 3.14 lay both out so: `PyObject_HEAD; PyObject *Socket; SSL *ssl;` and `PyObject_HEAD; SSL_CTX *ctx;`
/// (Modules/_ssl.c). That it holds is seen from OpenSSL's answer: the context of the one is the other.
fn ssl_of(libssl: &LibSsl, inner: &Bound<'_, PyAny>, context: &Bound<'_, PyAny>) -> Option<NonNull<Ssl>> {
    let head = size_of::<ffi::PyObject>();
    let pointer = size_of::<usize>();
    let known = (3, 11)..=(3, 14);
    let version = inner.py().version_info();
    if !known.contains(&(version.major, version.minor)) {
        return None;
    }
    let has = |object: &Bound<'_, PyAny>, size: usize| {
        // SAFETY: the type of a live object.
        let basic = unsafe { (*ffi::Py_TYPE(object.as_ptr())).tp_basicsize };
        usize::try_from(basic).is_ok_and(|basic| basic >= size)
    };
    if !has(inner, head + 2 * pointer) || !has(context, head + pointer) {
        return None;
    }
    // SAFETY: both are that long. `SSL_get_SSL_CTX` reads from the first pointer: for the versions above it is an `SSL`.
    unsafe {
        let ssl = pointer_at::<Ssl>(inner, head + pointer)?;
        let ctx = pointer_at::<SslCtx>(context, head)?;
        ((libssl.ssl_get_ssl_ctx)(ssl.as_ptr()) == ctx.as_ptr()).then_some(ssl)
    }
}

/// An `ssl_object`, down to OpenSSL's.
struct NativeSsl<'py> {
    libssl: &'static LibSsl,
    inner: Bound<'py, PyAny>,
    ssl: NonNull<Ssl>,
}

impl<'py> NativeSsl<'py> {
    /// Of `ssl_object`, a new one of `context`; none where OpenSSL cannot be reached, or where the class is a user's.
    fn of(ssl_object: &Bound<'py, PyAny>, context: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let py = ssl_object.py();
        if !ssl_object.get_type().is(ssl_object_type(py)?) || !context.is_instance(ssl_context_type(py)?)? {
            return Ok(None);
        }
        let Some(libssl) = LibSsl::get(py) else { return Ok(None) };
        let inner = ssl_object.getattr(intern!(py, "_sslobj"))?;
        if !inner.get_type().is(ssl_socket_type(py)?) {
            return Ok(None);
        }
        Ok(ssl_of(libssl, &inner, context).map(|ssl| Self { libssl, inner, ssl }))
    }
}

/// The SHA-256 digest of the certificate that a new `ssl_object` of `context` shows its peer, empty if it shows none; none
/// where OpenSSL cannot be reached.
///
/// # Errors
/// Of a foreign context.
pub fn own_certificate<'py>(
    ssl_object: &Bound<'py, PyAny>,
    context: &Bound<'_, PyAny>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let py = ssl_object.py();
    let Some(NativeSsl { libssl, ssl, .. }) = NativeSsl::of(ssl_object, context)? else { return Ok(None) };
    let mut digest = [0; SHA256_SIZE];
    let mut size = 0;
    // SAFETY: a live `SSL`, which no other thread has yet; it owns the certificate. A SHA-256 digest has that many bytes.
    let is_known = unsafe {
        let certificate = (libssl.ssl_get_certificate)(ssl.as_ptr());
        if certificate.is_null() {
            return Ok(Some(PyBytes::new(py, b"")));
        }
        (libssl.x509_digest)(certificate, (libssl.evp_sha256)(), digest.as_mut_ptr(), &raw mut size) != 0
    };
    Ok(is_known.then(|| PyBytes::new(py, &digest)))
}

impl NativeEngine {
    /// The engine of `ssl_object`, a new one of `context`; none where OpenSSL cannot be reached, where the user's class has
    /// methods of its own that are to be called, or on a free-threaded build: CPython locks each of its SSL objects there,
    /// with a lock that is not ours to take.
    pub fn of(
        ssl_object: &Bound<'_, PyAny>,
        context: &Bound<'_, PyAny>,
        in_use: &InUse,
        owner: &Arc<LoopOwner>,
    ) -> PyResult<Option<Self>> {
        let py = ssl_object.py();
        if cfg!(Py_GIL_DISABLED) {
            return Ok(None);
        }
        let Some(NativeSsl { libssl, inner, ssl }) = NativeSsl::of(ssl_object, context)? else {
            return Ok(None);
        };
        let Some((bio, pipe)) = libssl.new_pipe() else { return Ok(None) };
        let guarded =
            GuardedSslSocket::new(libssl, inner.clone().unbind(), ssl, in_use.clone(), Arc::clone(owner));
        ssl_object.setattr(intern!(py, "_sslobj"), Bound::new(py, guarded)?)?;
        // SAFETY: a live `SSL` that nothing was read from or written to yet; it takes the one reference to the BIO, for both
        // directions, and frees the two it had.
        unsafe { (libssl.ssl_set_bio)(ssl.as_ptr(), bio, bio) };
        Ok(NonNull::new(pipe).map(|pipe| Self { libssl, inner: inner.unbind(), ssl, pipe }))
    }

    /// The pipe, to be opened while OpenSSL is not called.
    const fn pipe(&self) -> &Mutex<Pipe> {
        // SAFETY: the BIO owns the pipe, the `SSL` the BIO, and `inner` the `SSL`; there are none but shared references to it.
        unsafe { self.pipe.as_ref() }
    }

    /// Whether there is something that `SSL_read_ex` could work on.
    fn has_input(&self) -> bool {
        // SAFETY: the `SSL` is alive, as `inner` is, and this thread's.
        pipe::open(self.pipe()).pending() > 0 || unsafe { (self.libssl.ssl_pending)(self.ssl.as_ptr()) } > 0
    }

    /// One `SSL_read_ex`.
    ///
    /// # Safety
    /// `memory` has `size` writable bytes.
    unsafe fn read(&self, py: Python<'_>, memory: *mut u8, size: usize) -> Result<usize, Stop> {
        let mut count = 0;
        // SAFETY: the `SSL` is alive and this thread's; the memory is the caller's promise. The queue of errors is
        // emptied first, as `SSL_get_error` asks.
        let (result, error) = unsafe {
            (self.libssl.err_clear_error)();
            let result = (self.libssl.ssl_read_ex)(self.ssl.as_ptr(), memory.cast(), size, &raw mut count);
            if result > 0 {
                return Ok(count);
            }
            (result, (self.libssl.ssl_get_error)(self.ssl.as_ptr(), result))
        };
        debug_assert!(result <= 0);
        Err(match error {
            ERROR_WANT_READ | ERROR_WANT_WRITE => Stop::Empty,
            ERROR_ZERO_RETURN => Stop::Closed,
            _ => Stop::Failed(self.explain(py)),
        })
    }

    /// The exception for the error that OpenSSL has queued, in `_ssl`'s own words: a connection that has failed fails every
    /// further read, and the object, asked for one, finds the first error in the queue and raises it.
    #[cold]
    fn explain(&self, py: Python<'_>) -> PyErr {
        match self.inner.bind(py).call_method1(intern!(py, "read"), (1,)) {
            Err(error) => error,
            Ok(_) => PyRuntimeError::new_err("OpenSSL reported an error and went on"),
        }
    }

    fn decrypt_waiting<'py>(&self, py: Python<'py>) -> PyResult<Decrypted<Option<Bound<'py, PyBytes>>>> {
        let mut capacity = pipe::open(self.pipe()).pending();
        // SAFETY: the `SSL` is alive and this thread's.
        if unsafe { (self.libssl.ssl_has_pending)(self.ssl.as_ptr()) } != 0 {
            // A part of a record, or of its plaintext, is inside OpenSSL.
            capacity += RECORD;
        }
        if capacity == 0 {
            return Ok(Decrypted { data: None, stop: Stop::Empty });
        }
        let mut bytes = BytesWriter::new(py, capacity)?;
        let mut filled = 0;
        let stop = loop {
            if filled == capacity {
                break if self.has_input() { Stop::Full } else { Stop::Empty };
            }
            // SAFETY: the object has `capacity` bytes, of which `filled` are written.
            match unsafe { self.read(py, bytes.as_mut_ptr().add(filled), capacity - filled) } {
                Ok(count) => filled += count,
                Err(stop) => break stop,
            }
            if !self.has_input() {
                break Stop::Empty;
            }
        };
        // SAFETY: `filled` is the sum of what `SSL_read_ex` says it has written, each time behind what it had written before.
        let data = if filled == 0 { None } else { Some(unsafe { bytes.finish(filled) }?) };
        Ok(Decrypted { data, stop })
    }
}

impl Engine for NativeEngine {
    fn feed(&self, _py: Python<'_>, ciphertext: &[u8]) -> PyResult<()> {
        pipe::open(self.pipe()).feed(ciphertext);
        Ok(())
    }

    fn decrypt<'py>(
        &self,
        py: Python<'py>,
        ciphertext: &[u8],
    ) -> PyResult<Decrypted<Option<Bound<'py, PyBytes>>>> {
        pipe::with_lent(self.pipe(), ciphertext, || self.decrypt_waiting(py))
    }

    fn decrypt_into(&self, py: Python<'_>, memory: &mut LentMemory) -> PyResult<Decrypted<usize>> {
        let mut filled = 0;
        loop {
            let (address, room) = memory.room(filled);
            if room == 0 {
                let stop = if self.has_input() { Stop::Full } else { Stop::Empty };
                return Ok(Decrypted { data: filled, stop });
            }
            // SAFETY: the view holds `room` writable bytes there until `memory` is dropped.
            match unsafe { self.read(py, address, room) } {
                Ok(count) => filled += count,
                Err(stop) => {
                    pipe::open(self.pipe()).release_held();
                    return Ok(Decrypted { data: filled, stop });
                }
            }
        }
    }

    fn encrypt(&self, py: Python<'_>, plaintext: &[u8]) -> PyResult<Encrypted> {
        let records = plaintext.len() / RECORD_PLAINTEXT + 1;
        pipe::open(self.pipe()).reserve_outgoing(plaintext.len() + records * RECORD_OVERHEAD);
        let mut done = 0;
        while done < plaintext.len() {
            let rest = &plaintext[done..];
            let mut count = 0;
            // SAFETY: the `SSL` is alive and this thread's; a slice has the bytes it says. The queue of errors is emptied
            // first, as `SSL_get_error` asks.
            let error = unsafe {
                (self.libssl.err_clear_error)();
                let result = (self.libssl.ssl_write_ex)(
                    self.ssl.as_ptr(),
                    rest.as_ptr().cast(),
                    rest.len(),
                    &raw mut count,
                );
                if result > 0 {
                    done += count;
                    continue;
                }
                (self.libssl.ssl_get_error)(self.ssl.as_ptr(), result)
            };
            return match error {
                ERROR_WANT_READ | ERROR_WANT_WRITE => Ok(Encrypted::Part(done)),
                _ => Err(self.explain(py)),
            };
        }
        Ok(Encrypted::All)
    }

    fn take_outgoing(&self, _py: Python<'_>) -> PyResult<Vec<u8>> {
        Ok(pipe::open(self.pipe()).take_outgoing())
    }

    fn pending(&self, _py: Python<'_>) -> PyResult<usize> {
        // SAFETY: the `SSL` is alive and this thread's.
        let decrypted = unsafe { (self.libssl.ssl_pending)(self.ssl.as_ptr()) };
        Ok(pipe::open(self.pipe()).pending() + usize::try_from(decrypted).unwrap_or(0))
    }

    fn handshake<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.inner.bind(py).call_method0(intern!(py, "do_handshake"))
    }

    fn shutdown<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.inner.bind(py).call_method0(intern!(py, "shutdown"))
    }

    fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.inner)
    }
}
