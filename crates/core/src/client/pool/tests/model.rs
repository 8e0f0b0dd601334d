//! The pool against a simple model of it: lists that are searched from end to end. The fuzz target uses this file as
//! well.

use super::{Checkout, Drained, Permit, Pool, PoolKey, PoolLimits, Released, WaiterId};

/// What may be done with a pool; places are counted round.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// With the key of that number.
    Checkout(u8),
    /// The permit in that place, with its connection or without.
    Release(u8, bool),
    Claim(u8),
    Cancel(u8),
    /// So many nanoseconds go by.
    Wait(u8),
    Expire,
    /// The peer closes the idle connection in that place.
    PeerCloses(u8),
    Close,
}

impl Operation {
    /// Any three bytes are an operation; closing is a rare one.
    pub const fn decode([kind, what, how]: [u8; 3]) -> Self {
        match kind {
            0..80 => Self::Checkout(what % 4),
            80..150 => Self::Release(what, how % 4 != 0),
            150..190 => Self::Claim(what),
            190..215 => Self::Cancel(what),
            215..235 => Self::Wait(what),
            235..245 => Self::Expire,
            245..254 => Self::PeerCloses(what),
            254..=255 if how < 64 => Self::Close,
            254..=255 => Self::Expire,
        }
    }
}

/// A waiter in the queue.
#[derive(Clone, Debug)]
struct ModelWaiter {
    waiter: WaiterId,
    key: u8,
    granted: Option<Option<u32>>,
}

/// A connection that lies idle.
#[derive(Clone, Copy, Debug)]
struct ModelIdle {
    key: u8,
    connection: u32,
    since: u64,
}

#[derive(Debug)]
pub struct Pair {
    pool: Pool<u8, u32>,
    keys: Vec<PoolKey<u8>>,
    limits: PoolLimits,
    now: u64,
    closed: bool,
    /// The permits that are out, each with its key and its connection.
    out: Vec<(Permit, u8, u32)>,
    /// In the order in which they came back.
    idle: Vec<ModelIdle>,
    /// In the order in which they came.
    waiters: Vec<ModelWaiter>,
    /// Waiter ids that are no longer valid.
    recycled: Vec<WaiterId>,
    connections: u32,
}

impl Pair {
    pub fn new(limits: PoolLimits) -> Self {
        Self {
            pool: Pool::new(limits),
            keys: (0..4).map(PoolKey::new).collect(),
            limits,
            now: 0,
            closed: false,
            out: Vec::new(),
            idle: Vec::new(),
            waiters: Vec::new(),
            recycled: Vec::new(),
            connections: 0,
        }
    }

    pub fn run(&mut self, operations: impl IntoIterator<Item = Operation>) {
        for operation in operations {
            self.apply(operation);
            self.check();
        }
        self.wind_up();
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Checkout(key) => self.checkout(key),
            Operation::Release(place, kept) => {
                if !self.out.is_empty() {
                    let (permit, key, connection) = self.out.remove(usize::from(place) % self.out.len());
                    assert_eq!(**self.pool.key(&permit), key);
                    let kept = kept.then_some(connection);
                    let released = self.pool.release(permit, kept, self.now);
                    self.released(key, kept, released);
                }
            }
            Operation::Claim(place) => self.claim(place),
            Operation::Cancel(place) => self.cancel(place),
            Operation::Wait(time) => self.now += u64::from(time),
            Operation::Expire => self.expire(),
            Operation::PeerCloses(place) => {
                let place = usize::from(place) % self.idle.len().max(1);
                let gone = self.idle.get(place).map(|idle| idle.connection);
                assert_eq!(self.pool.remove_idle(|connection| Some(*connection) == gone), gone);
                self.idle.retain(|idle| Some(idle.connection) != gone);
            }
            Operation::Close => self.close(),
        }
    }

    fn granted(&self) -> impl Iterator<Item = &ModelWaiter> {
        self.waiters.iter().filter(|waiter| waiter.granted.is_some())
    }

    fn acquired(&self) -> usize {
        self.out.len() + self.granted().count()
    }

    fn acquired_of(&self, key: u8) -> usize {
        self.out.iter().filter(|(_, other, _)| *other == key).count()
            + self.granted().filter(|waiter| waiter.key == key).count()
    }

    fn has_slot(&self, key: u8) -> bool {
        (self.limits.total == 0 || self.acquired() < self.limits.total)
            && (self.limits.per_host == 0 || self.acquired_of(key) < self.limits.per_host)
    }

    fn is_expired(&self, idle: &ModelIdle) -> bool {
        self.limits.keep_alive.is_some_and(|keep_alive| self.now >= idle.since + keep_alive)
    }

    /// The connection of that key that was used last, unless its time is over.
    fn take_idle(&mut self, key: u8) -> Option<u32> {
        let place = self.idle.iter().rposition(|idle| idle.key == key)?;
        if self.is_expired(&self.idle[place]) {
            return None;
        }
        Some(self.idle.remove(place).connection)
    }

    fn hold(&mut self, permit: Permit, key: u8, connection: Option<u32>) {
        let connection = connection.unwrap_or_else(|| {
            self.connections += 1;
            self.connections
        });
        assert!(self.out.iter().all(|(_, _, other)| *other != connection), "a connection for two");
        self.out.push((permit, key, connection));
    }

    fn checkout(&mut self, key: u8) {
        let checkout = self.pool.checkout(&self.keys[usize::from(key)], self.now);
        if self.closed {
            assert_eq!(checkout, Checkout::Closed);
        } else if self.has_slot(key) {
            let expected = self.take_idle(key);
            match (checkout, expected) {
                (Checkout::Reuse(permit, connection), Some(expected)) => {
                    assert_eq!(connection, expected);
                    self.hold(permit, key, Some(connection));
                }
                (Checkout::Open(permit), None) => self.hold(permit, key, None),
                (checkout, expected) => panic!("{checkout:?}, not {expected:?}"),
            }
        } else {
            let Checkout::Wait(waiter) = checkout else { panic!("{checkout:?} without a permit") };
            assert!(
                self.waiters.iter().all(|other| other.waiter != waiter) && !self.recycled.contains(&waiter)
            );
            self.waiters.push(ModelWaiter { waiter, key, granted: None });
        }
    }

    /// A permit has come back: the first of the queue that may use it gets it.
    fn released(&mut self, key: u8, kept: Option<u32>, released: Released<u32>) {
        if self.closed {
            assert_eq!(released, kept.map_or(Released::Free, Released::Close));
            return;
        }
        if let Some(connection) = kept {
            self.idle.push(ModelIdle { key, connection, since: self.now });
        }
        let next = (0..self.waiters.len())
            .find(|place| self.waiters[*place].granted.is_none() && self.has_slot(self.waiters[*place].key));
        match next {
            Some(place) => {
                assert_eq!(released, Released::Woken(self.waiters[place].waiter));
                self.waiters[place].granted = Some(self.take_idle(self.waiters[place].key));
            }
            None => assert_eq!(released, Released::Free),
        }
    }

    fn claim(&mut self, place: u8) {
        self.recycled.iter().for_each(|waiter| assert_eq!(self.pool.claim(*waiter), None));
        if self.waiters.is_empty() {
            return;
        }
        let place = usize::from(place) % self.waiters.len();
        let ModelWaiter { waiter, key, granted } = self.waiters[place];
        match (self.pool.claim(waiter), granted) {
            (None, None) => return,
            (Some(Checkout::Reuse(permit, connection)), Some(Some(expected))) => {
                assert_eq!(connection, expected);
                self.hold(permit, key, Some(connection));
            }
            (Some(Checkout::Open(permit)), Some(None)) => self.hold(permit, key, None),
            (claimed, granted) => panic!("{claimed:?}, not {granted:?}"),
        }
        self.waiters.remove(place);
        self.recycled.push(waiter);
    }

    fn cancel(&mut self, place: u8) {
        if self.waiters.is_empty() {
            if let Some(waiter) = self.recycled.first() {
                assert_eq!(self.pool.cancel(*waiter, self.now), Released::Free);
            }
            return;
        }
        let ModelWaiter { waiter, key, granted } =
            self.waiters.remove(usize::from(place) % self.waiters.len());
        self.recycled.push(waiter);
        let released = self.pool.cancel(waiter, self.now);
        match granted {
            Some(connection) => self.released(key, connection, released),
            None => assert_eq!(released, Released::Free),
        }
    }

    fn expire(&mut self) {
        let mut expired = Vec::new();
        self.pool.expire(self.now, &mut expired);
        let (over, alive) =
            std::mem::take(&mut self.idle).into_iter().partition(|idle| self.is_expired(idle));
        self.idle = alive;
        let over: Vec<ModelIdle> = over;
        assert_eq!(expired, over.iter().map(|idle| idle.connection).collect::<Vec<_>>());
    }

    fn close(&mut self) {
        let Drained { mut connections, waiters } = self.pool.close();
        let waiting = self.waiters.iter().filter(|waiter| waiter.granted.is_none());
        assert_eq!(waiters, waiting.map(|waiter| waiter.waiter).collect::<Vec<_>>());
        let mut expected: Vec<u32> = self.idle.iter().map(|idle| idle.connection).collect();
        expected.extend(self.granted().filter_map(|waiter| waiter.granted.flatten()));
        connections.sort_unstable();
        expected.sort_unstable();
        assert_eq!(connections, expected);
        self.recycled.extend(self.waiters.drain(..).map(|waiter| waiter.waiter));
        self.idle.clear();
        self.closed = true;
    }

    fn check(&self) {
        let PoolLimits { total, per_host, keep_alive } = self.limits;
        assert!(total == 0 || self.pool.acquired() <= total);
        assert_eq!(self.pool.acquired(), self.acquired());
        for (number, key) in self.keys.iter().enumerate() {
            let acquired = self.pool.acquired_of(key);
            assert!(per_host == 0 || acquired <= per_host);
            assert_eq!(acquired, self.acquired_of(number as u8));
        }
        assert_eq!(self.pool.waiting(), self.waiters.len());
        assert!(
            self.waiters.iter().all(|waiter| waiter.granted.is_some() || !self.has_slot(waiter.key)),
            "a waiter waits although a permit is free"
        );
        let mut idle: Vec<(u8, u32)> =
            self.pool.idle().map(|(key, connection)| (**key, *connection)).collect();
        let mut expected: Vec<(u8, u32)> = self.idle.iter().map(|idle| (idle.key, idle.connection)).collect();
        idle.sort_unstable();
        expected.sort_unstable();
        assert_eq!(idle, expected);
        let next = self.idle.first().and_then(|idle| Some(idle.since + keep_alive?));
        assert_eq!(self.pool.next_expiry(), next);
        assert_eq!(self.pool.is_closed(), self.closed);
    }

    /// All waiters and connections leave, and nothing is left.
    fn wind_up(&mut self) {
        while !self.out.is_empty() || !self.waiters.is_empty() {
            self.apply(Operation::Claim(0));
            self.apply(Operation::Cancel(0));
            self.apply(Operation::Release(0, true));
            self.check();
        }
        if !self.closed {
            self.close();
        }
        self.check();
        assert_eq!((self.pool.acquired(), self.pool.idle().count(), self.pool.waiting()), (0, 0, 0));
    }
}
