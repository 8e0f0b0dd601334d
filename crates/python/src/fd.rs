//! Descriptors by their numbers.
//!
//! What the loop reads and writes belongs to objects that the program has as well: a `socket.socket`, a file, a number that was
//! given to `add_reader()`. The program may close any number at any time, on any thread, by `os.close()` or a second object of
//! the same number. So a descriptor is kept as its number, and lent to one system call at a time.

use std::os::fd::{BorrowedFd, RawFd};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use whorl_core::output::Output;

/// Lends the descriptor `fd` to `call`, which makes a system call on it.
///
/// # Errors
/// EBADF for a negative number; what `call` returns, which is EBADF for a number that names nothing.
#[inline]
pub fn lend<R>(fd: RawFd, call: impl FnOnce(BorrowedFd<'_>) -> Result<R, Errno>) -> Result<R, Errno> {
    if fd < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: not -1, which is all that the type asks for as a value. That the descriptor stays open while it is borrowed cannot be
    // promised (see the module), and no code relies on it: the borrow ends with `call`, in which `rustix` and `libc` hand the
    // number to the kernel and do nothing else with it. The kernel checks it. A number that is closed gets EBADF; one that was
    // given away again names another file, which is then read or written, as it is by the `os.read()` of a program that has the
    // wrong number. The program that closed what is not its own to close has broken I/O safety (Rust RFC 3128), by a call of
    // Python's that needs nothing of ours.
    call(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// EBADF for a number that names no open descriptor.
///
/// Without a `BorrowedFd`, as the question is whether there is one.
///
/// # Errors
/// As said.
pub fn check_open(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: F_GETFD takes any number and touches no memory.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 { Err(last_errno()) } else { Ok(()) }
}

/// One `recv` into `output`, which never blocks.
///
/// # Errors
/// That of the system call.
pub fn receive_into(fd: RawFd, output: &mut Output<'_>) -> Result<(), Errno> {
    let received = lend(fd, |fd| {
        rustix::net::recv(fd, output.rest(), RecvFlags::DONTWAIT)
            .map(|((received, _rest), _size)| received.len())
    })?;
    // SAFETY: the kernel has written so many bytes to the beginning of the rest.
    unsafe { output.advance(received) };
    Ok(())
}

/// The error of the system call that has just failed.
pub fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
