//! The key by which connections are distinguished, hashed once.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

/// One for the process, so that equal keys of all pools hash alike. Random, as hosts may come from strangers.
static HASHING: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The settings that must be equal for a request to use a connection: host, port, TLS, proxy. It is hashed when it is
/// made; a clone is a reference to the same.
pub struct PoolKey<K>(Arc<Hashed<K>>);

struct Hashed<K> {
    hash: u64,
    value: K,
}

impl<K: Hash> PoolKey<K> {
    /// The key of that value.
    #[must_use]
    pub fn new(value: K) -> Self {
        Self(Arc::new(Hashed { hash: HASHING.hash_one(&value), value }))
    }
}

impl<K> Clone for PoolKey<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Deref for PoolKey<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.0.value
    }
}

impl<K: Eq> PartialEq for PoolKey<K> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.hash == other.0.hash && self.0.value == other.0.value)
    }
}

impl<K: Eq> Eq for PoolKey<K> {}

impl<K> Hash for PoolKey<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl<K: fmt::Debug> fmt::Debug for PoolKey<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.value.fmt(f)
    }
}

/// Hands on the hash that a [`PoolKey`] has.
#[derive(Default)]
pub(super) struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        // Keys write one number; this is for completeness.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}

/// Builds [`IdentityHasher`].
pub(super) type BuildIdentityHasher = BuildHasherDefault<IdentityHasher>;
