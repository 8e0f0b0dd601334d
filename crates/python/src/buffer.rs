//! Memory of Python objects, by the buffer protocol.

use std::os::fd::{AsRawFd, BorrowedFd};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use rustix::io::Errno;
use rustix::net::SendFlags;
use whorl_core::sched::assert_nothing_open;

use crate::fd::last_errno;

/// Memory that an object lends: it and its size stay as they are until this is dropped.
///
/// What is in there may change at any time, as the object's user may write to it: on a free-threaded interpreter at the same
/// moment, and on any by code that has detached (`recv_into()` of another socket). So no Rust reference is made to it: the kernel
/// reads and writes it by its address, and everything else copies.
///
/// # Data races
///
/// A copy at the moment of such a write is a data race, which the memory models of Rust and C leave undefined. It cannot be made
/// defined from this side: the other access is one of CPython's or of an extension's, and not atomic. The race is the program's,
/// which uses one piece of memory on two threads without a lock; `bytes(bytearray)` has it, and so have PyO3's `PyBuffer` and
/// numpy. What is done here is that a race stays one of bytes: they are copied once, in one direction, and not read where
/// they lie. Every byte is a value, so the copy has some of each version.
pub struct LentMemory {
    // In a box: an exporter may point into the structure.
    view: Box<ffi::Py_buffer>,
}

// SAFETY: a view may be used and released on any thread that is attached to the interpreter, and `drop` attaches. Another thread
// that has the object can do no more to the memory than it can without the view.
unsafe impl Send for LentMemory {}

impl std::fmt::Debug for LentMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LentMemory").field("len", &self.len()).finish()
    }
}

impl LentMemory {
    fn get(object: &Bound<'_, PyAny>, flags: std::ffi::c_int) -> PyResult<Self> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: attached; `view` is released in `drop`, and only if this succeeds.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, flags) } < 0 {
            return Err(PyErr::fetch(object.py()));
        }
        Ok(Self { view })
    }

    /// Memory to read from.
    ///
    /// # Errors
    /// TypeError for what is not bytes-like, BufferError for what does not lie in one piece.
    pub fn readable(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::get(object, ffi::PyBUF_SIMPLE)
    }

    /// Memory to write to.
    ///
    /// # Errors
    /// As [`LentMemory::readable`], and BufferError or TypeError for what is read-only.
    pub fn writable(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::get(object, ffi::PyBUF_WRITABLE)
    }

    /// Shows the garbage collector the object that lends: the view is a reference to it.
    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let lender = (&raw const self.view.obj).cast::<Option<Py<PyAny>>>();
        // SAFETY: null or an object, by a reference that the view owns until it is released, in `drop`. `Py` is one pointer to
        // an object (`repr(transparent)`), with or without `Option`.
        visit.call(unsafe { &*lender })
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        usize::try_from(self.view.len).unwrap_or(0)
    }

    /// `recv` into memory made by [`LentMemory::writable`]; it never blocks.
    ///
    /// # Errors
    /// What the kernel says; EFAULT for memory that is only to be read.
    pub fn recv(&mut self, fd: BorrowedFd<'_>) -> Result<usize, Errno> {
        if self.view.readonly != 0 {
            return Err(Errno::FAULT);
        }
        // SAFETY: the kernel writes at most `len` bytes at `buf`, which are writable and held by the view.
        let size = unsafe { libc::recv(fd.as_raw_fd(), self.view.buf, self.len(), libc::MSG_DONTWAIT) };
        size_or_errno(size)
    }

    /// `send` of everything from the byte `from` on; it never blocks, and raises no signal.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn send(&self, fd: BorrowedFd<'_>, from: usize) -> Result<usize, Errno> {
        let from = from.min(self.len());
        let flags = (SendFlags::DONTWAIT | SendFlags::NOSIGNAL).bits().cast_signed();
        // SAFETY: `from` is within the view or at its end, and the kernel reads what is left of it.
        let size = unsafe {
            libc::send(fd.as_raw_fd(), self.view.buf.cast::<u8>().add(from).cast(), self.len() - from, flags)
        };
        size_or_errno(size)
    }

    /// A copy of the bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut copy = Vec::with_capacity(self.len());
        if self.len() > 0 {
            // SAFETY: `len` bytes, held by the view, go to as many that were just made. That no other thread writes to them
            // meanwhile is the program's part, see the type.
            unsafe {
                std::ptr::copy_nonoverlapping(self.view.buf.cast(), copy.as_mut_ptr(), self.len());
                copy.set_len(self.len());
            }
        }
        copy
    }

    /// Copies `data` to the memory from the byte `from` on; how many bytes fit. None fit into memory that is only to be read.
    pub fn fill(&mut self, from: usize, data: &[u8]) -> usize {
        let (address, room) = self.room(from);
        let size = room.min(data.len());
        // SAFETY: `room` bytes from `address` on are held by the view and writable; `data` is the content of a bytes object, which
        // does not change, or memory of ours, so the two do not overlap. That no other thread uses the view's memory meanwhile is
        // the program's part, see the type.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), address, size) };
        size
    }

    /// The writable memory from the byte `from` on, for OpenSSL: its address, and how many bytes there are.
    pub fn room(&mut self, from: usize) -> (*mut u8, usize) {
        let len = if self.view.readonly == 0 { self.len() } else { 0 };
        let from = from.min(len);
        (self.view.buf.cast::<u8>().wrapping_add(from), len - from)
    }
}

fn size_or_errno(size: isize) -> Result<usize, Errno> {
    usize::try_from(size).map_err(|_| last_errno())
}

impl Drop for LentMemory {
    #[expect(clippy::disallowed_methods, reason = "a destructor is given no token")]
    fn drop(&mut self) {
        // The exporter may be a class of Python's (`__release_buffer__`).
        assert_nothing_open();
        // SAFETY: made by `PyObject_GetBuffer` and released once, while attached.
        Python::attach(|_| unsafe { ffi::PyBuffer_Release(&raw mut *self.view) });
    }
}
