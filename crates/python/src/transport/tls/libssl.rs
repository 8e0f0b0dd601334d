//! The OpenSSL that the interpreter's `_ssl` has loaded: its functions, looked up at run time.
//!
//! They are looked up from `_ssl` itself: the dynamic linker then searches the libraries that `_ssl` was linked with, so what
//! is found is the one it uses, whatever other OpenSSL the process may have. Where `_ssl` is built into the interpreter, or
//! has OpenSSL linked into itself and hidden, nothing is found, and there is no native engine.

use std::ffi::{c_char, c_int, c_long, c_uint, c_void};
use std::sync::Mutex;

use libloading::os::unix::{Library, RTLD_LAZY};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::pipe;

/// `SSL`
#[repr(C)]
#[derive(Debug)]
pub struct Ssl {
    _opaque: [u8; 0],
}

/// `SSL_CTX`
#[repr(C)]
#[derive(Debug)]
pub struct SslCtx {
    _opaque: [u8; 0],
}

/// `X509`
#[repr(C)]
#[derive(Debug)]
pub struct X509 {
    _opaque: [u8; 0],
}

/// `EVP_MD`
#[repr(C)]
#[derive(Debug)]
pub struct EvpMd {
    _opaque: [u8; 0],
}

/// `BIO`
#[repr(C)]
#[derive(Debug)]
pub struct Bio {
    _opaque: [u8; 0],
}

/// `BIO_METHOD`
#[repr(C)]
#[derive(Debug)]
pub struct BioMethod {
    _opaque: [u8; 0],
}

type ReadFunction = unsafe extern "C" fn(*mut Bio, *mut c_char, c_int) -> c_int;
type WriteFunction = unsafe extern "C" fn(*mut Bio, *const c_char, c_int) -> c_int;
type CtrlFunction = unsafe extern "C" fn(*mut Bio, c_int, c_long, *mut c_void) -> c_long;
type DestroyFunction = unsafe extern "C" fn(*mut Bio) -> c_int;

/// `BIO_TYPE_SOURCE_SINK`
const SOURCE_SINK: c_int = 0x0400;

macro_rules! library {
    ($($field:ident = $symbol:literal: $type:ty;)*) => {
        /// The functions that are used. Signatures are those of OpenSSL 1.1.1 to 3.x, <https://docs.openssl.org/>.
        #[derive(Debug)]
        pub struct LibSsl {
            $(#[doc = concat!("`", $symbol, "`")] pub $field: $type,)*
            method: *mut BioMethod,
        }

        impl LibSsl {
            /// # Safety
            /// The symbols of `library` are those of OpenSSL, and it stays loaded.
            unsafe fn look_up(library: &Library) -> Option<Self> {
                // SAFETY: by the caller, each symbol has the type that OpenSSL documents for it, which is the field's.
                unsafe {
                    Some(Self {
                        $($field: *library.get::<$type>(concat!($symbol, "\0").as_bytes()).ok()?,)*
                        method: std::ptr::null_mut(),
                    })
                }
            }
        }
    };
}

library! {
    ssl_read_ex = "SSL_read_ex": unsafe extern "C" fn(*mut Ssl, *mut c_void, usize, *mut usize) -> c_int;
    ssl_write_ex = "SSL_write_ex": unsafe extern "C" fn(*mut Ssl, *const c_void, usize, *mut usize) -> c_int;
    ssl_get_error = "SSL_get_error": unsafe extern "C" fn(*const Ssl, c_int) -> c_int;
    ssl_get_ssl_ctx = "SSL_get_SSL_CTX": unsafe extern "C" fn(*const Ssl) -> *mut SslCtx;
    ssl_pending = "SSL_pending": unsafe extern "C" fn(*const Ssl) -> c_int;
    ssl_has_pending = "SSL_has_pending": unsafe extern "C" fn(*const Ssl) -> c_int;
    ssl_set_bio = "SSL_set_bio": unsafe extern "C" fn(*mut Ssl, *mut Bio, *mut Bio);
    ssl_get_certificate = "SSL_get_certificate": unsafe extern "C" fn(*const Ssl) -> *mut X509;
    x509_digest = "X509_digest": unsafe extern "C" fn(*const X509, *const EvpMd, *mut u8, *mut c_uint) -> c_int;
    evp_sha256 = "EVP_sha256": unsafe extern "C" fn() -> *const EvpMd;
    err_clear_error = "ERR_clear_error": unsafe extern "C" fn();
    bio_new = "BIO_new": unsafe extern "C" fn(*const BioMethod) -> *mut Bio;
    bio_get_data = "BIO_get_data": unsafe extern "C" fn(*mut Bio) -> *mut c_void;
    bio_set_data = "BIO_set_data": unsafe extern "C" fn(*mut Bio, *mut c_void);
    bio_set_init = "BIO_set_init": unsafe extern "C" fn(*mut Bio, c_int);
    bio_set_flags = "BIO_set_flags": unsafe extern "C" fn(*mut Bio, c_int);
    bio_clear_flags = "BIO_clear_flags": unsafe extern "C" fn(*mut Bio, c_int);
    bio_get_new_index = "BIO_get_new_index": unsafe extern "C" fn() -> c_int;
    bio_meth_new = "BIO_meth_new": unsafe extern "C" fn(c_int, *const c_char) -> *mut BioMethod;
    bio_meth_set_read = "BIO_meth_set_read": unsafe extern "C" fn(*mut BioMethod, ReadFunction) -> c_int;
    bio_meth_set_write = "BIO_meth_set_write": unsafe extern "C" fn(*mut BioMethod, WriteFunction) -> c_int;
    bio_meth_set_ctrl = "BIO_meth_set_ctrl": unsafe extern "C" fn(*mut BioMethod, CtrlFunction) -> c_int;
    bio_meth_set_destroy = "BIO_meth_set_destroy": unsafe extern "C" fn(*mut BioMethod, DestroyFunction) -> c_int;
}

// SAFETY: functions and a pointer to a method table that nothing changes once it is made; OpenSSL may be called from every
// thread.
unsafe impl Send for LibSsl {}
// SAFETY: as above.
unsafe impl Sync for LibSsl {}

static LIBSSL: PyOnceLock<Option<LibSsl>> = PyOnceLock::new();
/// The same for OpenSSL's callbacks, which have no token of the interpreter.
static LOADED: std::sync::OnceLock<&'static LibSsl> = std::sync::OnceLock::new();

impl LibSsl {
    /// The library, if it can be reached.
    pub fn get(py: Python<'_>) -> Option<&'static Self> {
        LIBSSL.get_or_init(py, || Self::open(py)).as_ref()
    }

    /// The library, within a callback of it.
    #[inline]
    pub fn loaded() -> Option<&'static Self> {
        LOADED.get().copied()
    }

    fn open(py: Python<'_>) -> Option<Self> {
        let path: std::path::PathBuf = py.import("_ssl").ok()?.getattr("__file__").ok()?.extract().ok()?;
        // SAFETY: the module is imported, so nothing is loaded and no initialiser runs.
        let library = unsafe { Library::open(Some(path), RTLD_LAZY | libc::RTLD_NOLOAD) }.ok()?;
        // SAFETY: these names belong to OpenSSL in the libraries that `_ssl` is linked with. An extension module is never
        // unloaded, and neither are they.
        let mut this = unsafe { Self::look_up(&library) }?;
        this.method = this.make_method()?;
        Some(this)
    }

    fn make_method(&self) -> Option<*mut BioMethod> {
        // SAFETY: plain calls as OpenSSL documents them; the name is a constant, the functions have the types it asks for.
        unsafe {
            let method = (self.bio_meth_new)(SOURCE_SINK | (self.bio_get_new_index)(), c"whorl".as_ptr());
            if method.is_null() {
                return None;
            }
            let all_set = (self.bio_meth_set_read)(method, pipe::read) != 0
                && (self.bio_meth_set_write)(method, pipe::write) != 0
                && (self.bio_meth_set_ctrl)(method, pipe::ctrl) != 0
                && (self.bio_meth_set_destroy)(method, pipe::destroy) != 0;
            all_set.then_some(method)
        }
    }

    /// A BIO that owns a pipe, and the pipe.
    pub fn new_pipe(&'static self) -> Option<(*mut Bio, *mut Mutex<pipe::Pipe>)> {
        let _same_one = LOADED.get_or_init(|| self);
        // SAFETY: the method is never freed.
        let bio = unsafe { (self.bio_new)(self.method) };
        if bio.is_null() {
            return None;
        }
        let pipe = Box::into_raw(Box::new(Mutex::new(pipe::Pipe::new())));
        // SAFETY: a new BIO of our method; it owns the box from here on, see `pipe::destroy`.
        unsafe {
            (self.bio_set_data)(bio, pipe.cast());
            (self.bio_set_init)(bio, 1);
        }
        Some((bio, pipe))
    }
}
