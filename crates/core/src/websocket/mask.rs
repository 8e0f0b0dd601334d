//! Masking (RFC 6455, section 5.3): each byte is combined with the byte of a key of four, by exclusive or.

/// The key as it falls on eight bytes, the first of which is byte `offset` of the payload.
fn word(key: [u8; 4], offset: usize) -> u64 {
    u64::from_ne_bytes(std::array::from_fn(|index| key[offset.wrapping_add(index) % 4]))
}

/// Masks or unmasks `bytes`, which begin at byte `offset` of their frame's payload.
pub fn apply(key: [u8; 4], offset: usize, bytes: &mut [u8]) {
    let word = word(key, offset);
    // Eight bytes at a time, which the compiler makes into vectors.
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for eight in words {
        *eight = (u64::from_ne_bytes(*eight) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(word.to_ne_bytes()) {
        *byte ^= key;
    }
}

/// Writes `from`, masked, to as many bytes of `to`: one pass in place of a copy and a pass over it.
pub fn copy(key: [u8; 4], from: &[u8], to: &mut [u8]) {
    let word = word(key, 0);
    let (words, rest) = from.as_chunks::<8>();
    let (to_words, to_rest) = to.as_chunks_mut::<8>();
    for (eight, to) in words.iter().zip(to_words) {
        *to = (u64::from_ne_bytes(*eight) ^ word).to_ne_bytes();
    }
    for ((byte, to), key) in rest.iter().zip(to_rest).zip(word.to_ne_bytes()) {
        *to = byte ^ key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, byte by byte.
    fn by_definition(key: [u8; 4], offset: usize, bytes: &[u8]) -> Vec<u8> {
        bytes.iter().enumerate().map(|(at, byte)| byte ^ key[(offset + at) % 4]).collect()
    }

    proptest! {
        #[test]
        fn it_is_the_definition_at_any_offset_and_length(
            key: [u8; 4],
            offset in 0_usize..9,
            bytes in prop::collection::vec(any::<u8>(), 0..70),
        ) {
            let mut masked = bytes.clone();
            apply(key, offset, &mut masked);
            prop_assert_eq!(&masked, &by_definition(key, offset, &bytes));
            apply(key, offset, &mut masked);
            prop_assert_eq!(&masked, &bytes);
            let mut copied = vec![0; bytes.len()];
            copy(key, &bytes, &mut copied);
            prop_assert_eq!(copied, by_definition(key, 0, &bytes));
        }
    }
}
