//! The memory that OpenSSL reads ciphertext from and writes it to: a BIO of our own in place of two `ssl.MemoryBIO`, so
//! that it reads what a socket brought from where it is, and what is to be sent is ours without a copy.
//!
//! The BIO owns the [`Pipe`] in a `Mutex`. It is free: a connection is used by one thread at a time, though `_ssl` comes to the
//! BIO without the interpreter's lock ([`super::guarded`]). A thread has the mutex for a copy of bytes, in which it calls neither
//! OpenSSL nor Python and does not attach. The collector never takes it.

use std::ffi::{c_char, c_int, c_long, c_void};
use std::mem::MaybeUninit;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::libssl::{Bio, LibSsl};

const FLAGS_READ: c_int = 0x01;
const FLAGS_RETRY: c_int = 0x08;
/// `BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY`
const FLAGS_ALL_RETRY: c_int = 0x0f;

const CTRL_PENDING: c_int = 10;
const CTRL_FLUSH: c_int = 11;
const CTRL_WPENDING: c_int = 13;

/// Both directions of one connection.
#[derive(Debug)]
pub struct Pipe {
    /// Ciphertext that came before and was not taken.
    held: Vec<u8>,
    /// How much of it has been taken since.
    taken: usize,
    /// Ciphertext that is lent for the length of one call; empty otherwise.
    lent: *const [u8],
    /// Ciphertext to be sent.
    outgoing: Vec<u8>,
}

// SAFETY: what is lent stays valid until `with_lent` takes it back, whichever thread reads it until then.
unsafe impl Send for Pipe {}

const NOTHING: *const [u8] = std::ptr::slice_from_raw_parts(std::ptr::null(), 0);

/// Opens `pipe`. No call of OpenSSL is made, and no Python runs, while it is open.
#[inline]
pub fn open(pipe: &Mutex<Pipe>) -> MutexGuard<'_, Pipe> {
    pipe.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `act` with `ciphertext` itself, not a copy, behind what waits in `pipe`; what is not taken of it is copied then.
#[inline]
pub fn with_lent<R>(pipe: &Mutex<Pipe>, ciphertext: &[u8], act: impl FnOnce() -> R) -> R {
    struct TakeBack<'a>(&'a Mutex<Pipe>);
    impl Drop for TakeBack<'_> {
        fn drop(&mut self) {
            open(self.0).take_back();
        }
    }
    open(pipe).lent = ciphertext;
    let _take_back = TakeBack(pipe);
    act()
}

impl Pipe {
    /// An empty one.
    pub const fn new() -> Self {
        Self { held: Vec::new(), taken: 0, lent: NOTHING, outgoing: Vec::new() }
    }

    /// Bytes that wait to be decrypted.
    pub const fn pending(&self) -> usize {
        self.held.len() - self.taken + self.lent.len()
    }

    const fn lent(&self) -> &[u8] {
        if self.lent.is_empty() {
            return &[];
        }
        // SAFETY: not empty, so `with_lent` has put a slice there that is valid until it takes it back; from then on `lent` is
        // empty. Nothing writes to it meanwhile.
        unsafe { &*self.lent }
    }

    /// Puts a copy of `ciphertext` behind what waits.
    pub fn feed(&mut self, ciphertext: &[u8]) {
        if self.taken == self.held.len() {
            self.held.clear();
            self.taken = 0;
        }
        self.held.extend_from_slice(ciphertext);
    }

    /// Forgets the memory lent, and keeps a copy of what was not taken of it.
    fn take_back(&mut self) {
        let rest = std::mem::replace(&mut self.lent, NOTHING);
        if rest.is_empty() {
            self.release_held();
        } else {
            // SAFETY: not empty, so it is what `with_lent` was given, which outlives this call.
            self.feed(unsafe { &*rest });
        }
    }

    /// Frees the memory of what was held, all of it being taken: a connection that is idle keeps none.
    pub fn release_held(&mut self) {
        if self.taken == self.held.len() && self.held.capacity() > 0 {
            self.held = Vec::new();
            self.taken = 0;
        }
    }

    fn take(&mut self, memory: &mut [MaybeUninit<u8>]) -> usize {
        let held = &self.held[self.taken..];
        if !held.is_empty() {
            let size = fill(memory, held);
            self.taken += size;
            return size;
        }
        let lent = self.lent();
        let size = fill(memory, lent);
        let rest: *const [u8] = &raw const lent[size..];
        self.lent = rest;
        size
    }

    /// Makes room for `size` bytes to be sent.
    pub fn reserve_outgoing(&mut self, size: usize) {
        self.outgoing.reserve(size);
    }

    /// Takes what is to be sent.
    pub fn take_outgoing(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outgoing)
    }
}

/// Copies as much of `source` as there is room for; how much that was.
#[inline]
fn fill(memory: &mut [MaybeUninit<u8>], source: &[u8]) -> usize {
    for (to, from) in memory.iter_mut().zip(source) {
        to.write(*from);
    }
    memory.len().min(source.len())
}

/// The pipe of `bio`; none while it has none.
///
/// # Safety
/// `bio` is one of our method, and alive for `'a`.
unsafe fn pipe_of<'a>(libssl: &LibSsl, bio: *mut Bio) -> Option<&'a Mutex<Pipe>> {
    // SAFETY: the data of a BIO of our method is null or the pipe that it owns until `destroy`; there are none but shared
    // references to it.
    unsafe { (libssl.bio_get_data)(bio).cast::<Mutex<Pipe>>().as_ref() }
}

/// `BIO_read`
///
/// # Safety
/// Called by OpenSSL for a BIO of our method.
pub unsafe extern "C" fn read(bio: *mut Bio, memory: *mut c_char, size: c_int) -> c_int {
    let Some(libssl) = LibSsl::loaded() else { return -1 };
    // SAFETY: the BIO is of our method and alive, being called.
    unsafe { (libssl.bio_clear_flags)(bio, FLAGS_ALL_RETRY) };
    // SAFETY: as above.
    let Some(pipe) = (unsafe { pipe_of(libssl, bio) }) else { return -1 };
    let wanted = usize::try_from(size).unwrap_or(0);
    if memory.is_null() || wanted == 0 {
        return 0;
    }
    // SAFETY: OpenSSL gives `size` bytes for this call to write to, initialised or not.
    let memory = unsafe { std::slice::from_raw_parts_mut(memory.cast::<MaybeUninit<u8>>(), wanted) };
    let taken = open(pipe).take(memory);
    if taken == 0 {
        // SAFETY: as above.
        unsafe { (libssl.bio_set_flags)(bio, FLAGS_READ | FLAGS_RETRY) };
        return -1;
    }
    // No more than `size`, which is a c_int.
    c_int::try_from(taken).unwrap_or(-1)
}

/// `BIO_write`
///
/// # Safety
/// Called by OpenSSL for a BIO of our method.
pub unsafe extern "C" fn write(bio: *mut Bio, memory: *const c_char, size: c_int) -> c_int {
    let Some(libssl) = LibSsl::loaded() else { return -1 };
    // SAFETY: the BIO is of our method and alive, being called.
    unsafe { (libssl.bio_clear_flags)(bio, FLAGS_ALL_RETRY) };
    // SAFETY: as above.
    let Some(pipe) = (unsafe { pipe_of(libssl, bio) }) else { return -1 };
    let given = usize::try_from(size).unwrap_or(0);
    if memory.is_null() || given == 0 {
        return 0;
    }
    // SAFETY: OpenSSL gives `size` bytes for this call to read from.
    let ciphertext = unsafe { std::slice::from_raw_parts(memory.cast::<u8>(), given) };
    open(pipe).outgoing.extend_from_slice(ciphertext);
    size
}

/// `BIO_ctrl`
///
/// # Safety
/// Called by OpenSSL for a BIO of our method.
pub unsafe extern "C" fn ctrl(
    bio: *mut Bio,
    command: c_int,
    _number: c_long,
    _pointer: *mut c_void,
) -> c_long {
    let Some(libssl) = LibSsl::loaded() else { return 0 };
    // SAFETY: the BIO is of our method and alive, being called.
    let Some(pipe) = (unsafe { pipe_of(libssl, bio) }) else { return 0 };
    match command {
        CTRL_FLUSH => 1,
        CTRL_PENDING => c_long::try_from(open(pipe).pending()).unwrap_or(c_long::MAX),
        CTRL_WPENDING => c_long::try_from(open(pipe).outgoing.len()).unwrap_or(c_long::MAX),
        _ => 0,
    }
}

/// `BIO_free`
///
/// # Safety
/// Called by OpenSSL for a BIO of our method.
pub unsafe extern "C" fn destroy(bio: *mut Bio) -> c_int {
    let Some(libssl) = LibSsl::loaded() else { return 0 };
    // SAFETY: called once, when the last reference to the BIO goes, and with it the engine's claim to the pipe; the data is
    // null or the box that the BIO owns.
    unsafe {
        let pipe = (libssl.bio_get_data)(bio).cast::<Mutex<Pipe>>();
        (libssl.bio_set_data)(bio, std::ptr::null_mut());
        if !pipe.is_null() {
            drop(Box::from_raw(pipe));
        }
    }
    1
}
