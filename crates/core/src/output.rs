//! Memory that is being filled: which part of it is initialised.
//!
//! Decoders write into memory that was not zeroed before. What they have written is counted here, so that one place says
//! why the holder of the memory may read it.

use std::mem::MaybeUninit;
use std::ptr;

/// Memory to write to, from its beginning on.
#[derive(Debug)]
pub struct Output<'a> {
    /// The first `written` bytes are initialised.
    memory: &'a mut [MaybeUninit<u8>],
    written: usize,
}

impl Output<'_> {
    /// How many bytes have been written.
    #[must_use]
    pub const fn written(&self) -> usize {
        self.written
    }

    /// How many more bytes there is space for.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.memory.len() - self.written
    }

    /// The rest of the memory.
    pub fn rest(&mut self) -> &mut [MaybeUninit<u8>] {
        &mut self.memory[self.written..]
    }

    /// Counts `count` bytes more as written.
    ///
    /// # Safety
    /// The first `count` bytes of [`Output::rest`] are initialised.
    pub unsafe fn advance(&mut self, count: usize) {
        self.written += count.min(self.room());
    }

    /// Writes as much of `data` as there is space for, and returns how much that was.
    pub fn extend(&mut self, data: &[u8]) -> usize {
        let count = data.len().min(self.room());
        for (place, byte) in self.rest().iter_mut().zip(data) {
            place.write(*byte);
        }
        // SAFETY: so many were written above.
        unsafe { self.advance(count) };
        count
    }

    /// Has `write` write to at most `most` bytes, which are zeroed first, and say how many it has written.
    pub fn write_zeroed<E>(
        &mut self,
        most: usize,
        write: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let count = most.min(self.room());
        let places = &mut self.rest()[..count];
        places.fill(MaybeUninit::new(0));
        // SAFETY: a `MaybeUninit<u8>` has the layout of a `u8`, and all of them were written just now.
        let zeroed = unsafe { &mut *(ptr::from_mut(places) as *mut [u8]) };
        let written = write(zeroed)?.min(count);
        // SAFETY: no more than was zeroed.
        unsafe { self.advance(written) };
        Ok(written)
    }
}

/// Has `act` fill `memory`: how many bytes at its beginning are initialised then, and what `act` returns.
pub fn fill<R>(memory: &mut [MaybeUninit<u8>], act: impl FnOnce(&mut Output<'_>) -> R) -> (usize, R) {
    let start = memory.as_ptr();
    let mut output = Output { memory, written: 0 };
    let result = act(&mut output);
    // An output of other memory, put in its place, says nothing about this one.
    let written = if ptr::eq(output.memory.as_ptr(), start) { output.written } else { 0 };
    (written, result)
}

/// Has `act` append to `vec`, at most `most` bytes.
pub fn fill_vec<R>(vec: &mut Vec<u8>, most: usize, act: impl FnOnce(&mut Output<'_>) -> R) -> R {
    vec.reserve(most);
    let before = vec.len();
    let (written, result) = fill(&mut vec.spare_capacity_mut()[..most], act);
    // SAFETY: the spare capacity begins at `before`, and its first `written` bytes are initialised.
    unsafe { vec.set_len(before + written) };
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_written() {
        let mut memory = [MaybeUninit::uninit(); 8];
        let (written, rest) = fill(&mut memory, |output| {
            assert_eq!(output.extend(b"abc"), 3);
            let done: Result<usize, ()> = output.write_zeroed(2, |zeroed| {
                assert_eq!(zeroed, [0, 0]);
                zeroed[0] = b'd';
                Ok(1)
            });
            assert_eq!(done, Ok(1));
            assert_eq!(output.write_zeroed(9, |_zeroed| Err("no")), Err("no"));
            assert_eq!((output.written(), output.room()), (4, 4));
            assert_eq!(output.extend(b"efghi"), 4);
            output.room()
        });
        assert_eq!((written, rest), (8, 0));
        // SAFETY: all of them were written.
        let bytes = memory.map(|byte| unsafe { byte.assume_init() });
        assert_eq!(&bytes, b"abcdefgh");
    }

    #[test]
    fn other_memory_says_nothing_about_this() {
        let other: &'static mut [MaybeUninit<u8>] = Box::leak(Box::new([MaybeUninit::new(1); 4]));
        let mut memory = [MaybeUninit::uninit(); 8];
        let (written, ()) = fill(&mut memory, |output| {
            *output = Output { memory: other, written: 4 };
        });
        assert_eq!(written, 0);
    }

    #[test]
    fn appends_to_a_vec() {
        let mut vec = b"ab".to_vec();
        assert_eq!(fill_vec(&mut vec, 3, |output| output.extend(b"cdefg")), 3);
        assert_eq!(vec, b"abcde");
        fill_vec(&mut vec, 0, |output| assert_eq!(output.room(), 0));
        assert_eq!(vec, b"abcde");
    }
}
