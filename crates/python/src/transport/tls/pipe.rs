//! The memory that OpenSSL reads ciphertext from and writes it to: a BIO of our own in place of two `ssl.MemoryBIO`, so
//! that it reads what a socket brought from where it is, and what is to be sent is ours without a copy.

use std::ffi::{c_char, c_int, c_long, c_void};

use super::libssl::{Bio, LibSsl};

const FLAGS_READ: c_int = 0x01;
const FLAGS_RETRY: c_int = 0x08;
/// `BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY`
const FLAGS_ALL_RETRY: c_int = 0x0f;

const CTRL_PENDING: c_int = 10;
const CTRL_FLUSH: c_int = 11;
const CTRL_WPENDING: c_int = 13;

/// Both directions of one connection. Owned by the BIO, which frees it.
#[derive(Debug)]
pub struct Pipe {
    /// Ciphertext that came before and was not taken.
    held: Vec<u8>,
    /// How much of it has been taken since.
    taken: usize,
    /// Ciphertext that is lent for the length of one call.
    lent: *const u8,
    lent_size: usize,
    /// Ciphertext to be sent.
    outgoing: Vec<u8>,
}

impl Pipe {
    /// An empty one.
    pub const fn new() -> Self {
        Self { held: Vec::new(), taken: 0, lent: std::ptr::null(), lent_size: 0, outgoing: Vec::new() }
    }

    /// Bytes that wait to be decrypted.
    pub const fn pending(&self) -> usize {
        self.held.len() - self.taken + self.lent_size
    }

    /// Puts a copy of `ciphertext` behind what waits.
    pub fn feed(&mut self, ciphertext: &[u8]) {
        if self.taken == self.held.len() {
            self.held.clear();
            self.taken = 0;
        }
        self.held.extend_from_slice(ciphertext);
    }

    /// Puts `ciphertext` itself behind what waits, until [`Pipe::give_back`].
    ///
    /// # Safety
    /// `give_back` is called before the slice ends to be valid.
    pub const unsafe fn lend(&mut self, ciphertext: &[u8]) {
        self.lent = ciphertext.as_ptr();
        self.lent_size = ciphertext.len();
    }

    /// Forgets the memory lent, and keeps a copy of what was not taken of it.
    pub fn give_back(&mut self) {
        if self.lent_size > 0 {
            // SAFETY: lent by the contract of `lend`, and still valid by it.
            let rest = unsafe { std::slice::from_raw_parts(self.lent, self.lent_size) };
            self.lent_size = 0;
            self.feed(rest);
        } else if self.taken == self.held.len() && self.held.capacity() > 0 {
            // A connection that is idle keeps no memory for what it once held.
            self.held = Vec::new();
            self.taken = 0;
        }
        self.lent = std::ptr::null();
    }

    fn take(&mut self, memory: &mut [u8]) -> usize {
        let held = &self.held[self.taken..];
        if !held.is_empty() {
            let size = held.len().min(memory.len());
            memory[..size].copy_from_slice(&held[..size]);
            self.taken += size;
            return size;
        }
        let size = self.lent_size.min(memory.len());
        if size > 0 {
            // SAFETY: `lend` gave `lent_size` bytes at `lent`, valid until `give_back`; `size` is no more.
            unsafe {
                memory[..size].copy_from_slice(std::slice::from_raw_parts(self.lent, size));
                self.lent = self.lent.add(size);
            }
            self.lent_size -= size;
        }
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

/// The pipe of `bio`; null while it has none.
///
/// # Safety
/// `bio` is one of our method, alive.
unsafe fn pipe_of<'a>(libssl: &LibSsl, bio: *mut Bio) -> Option<&'a mut Pipe> {
    // SAFETY: the data of a BIO of our method is null or the pipe that it owns. OpenSSL calls one function of a BIO at a time,
    // and the engine lets go of its own reference before it calls OpenSSL.
    unsafe { (libssl.bio_get_data)(bio).cast::<Pipe>().as_mut() }
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
    // SAFETY: OpenSSL gives `size` bytes to write to; they may be uninitialised, and are only written.
    let memory = unsafe { std::slice::from_raw_parts_mut(memory.cast::<u8>(), wanted) };
    let taken = pipe.take(memory);
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
    // SAFETY: OpenSSL gives `size` bytes to read from.
    pipe.outgoing.extend_from_slice(unsafe { std::slice::from_raw_parts(memory.cast::<u8>(), given) });
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
        CTRL_PENDING => c_long::try_from(pipe.pending()).unwrap_or(c_long::MAX),
        CTRL_WPENDING => c_long::try_from(pipe.outgoing.len()).unwrap_or(c_long::MAX),
        _ => 0,
    }
}

/// `BIO_free`
///
/// # Safety
/// Called by OpenSSL for a BIO of our method.
pub unsafe extern "C" fn destroy(bio: *mut Bio) -> c_int {
    let Some(libssl) = LibSsl::loaded() else { return 0 };
    // SAFETY: called once, when the last reference to the BIO goes; the data is null or the box that it owns.
    unsafe {
        let pipe = (libssl.bio_get_data)(bio).cast::<Pipe>();
        (libssl.bio_set_data)(bio, std::ptr::null_mut());
        if !pipe.is_null() {
            drop(Box::from_raw(pipe));
        }
    }
    1
}
