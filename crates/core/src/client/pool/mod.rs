//! Which connection serves a request: the connection pool, without connections.
//!
//! A *permit* is the right to use one connection to one host. There are [`PoolLimits::total`] of them and
//! [`PoolLimits::per_host`] for each [`PoolKey`]; idle connections hold none, as in aiohttp. The caller holds its
//! [`Permit`] until [`Pool::release`]. A caller that finds none gets a [`WaiterId`] and waits. A released permit goes
//! at once to the waiter that has waited longest among those that may use it: no waiter overtakes another, and none
//! starves because of another host's limit.
//!
//! The pool drops neither a connection nor the last clone of a key by itself: it returns those to be closed to the caller,
//! and keeps the keys that it has no use for until [`Pool::take_unused_keys`].

mod key;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use slab::Slab;

use super::list::{Linked, Links, List};
pub use key::PoolKey;

/// How many connections there may be, and how long they stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Connections in use at once; 0 is no limit.
    pub total: usize,
    /// Connections in use at once with one key; 0 is no limit.
    pub per_host: usize,
    /// For how long a connection may be idle, in nanoseconds; `None` is no limit.
    pub keep_alive: Option<u64>,
}

impl Default for PoolLimits {
    /// aiohttp's: 100 connections, any number of them to one host, 15 seconds.
    fn default() -> Self {
        Self { total: 100, per_host: 0, keep_alive: Some(15_000_000_000) }
    }
}

/// A permit, from checkout to release. It belongs to the pool that gave it; one that is dropped is lost to the pool.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that is not released is lost"]
pub struct Permit {
    host: usize,
}

/// Names a waiter in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WaiterId {
    slot: usize,
    serial: u64,
}

/// The outcome of a request for a connection.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Checkout<C> {
    /// A permit, and an idle connection to use. If it turns out to be closed, the permit is good for a new one.
    Reuse(Permit, C),
    /// A permit, for a connection that the caller opens.
    Open(Permit),
    /// There is no permit: [`Released::Woken`] will name this waiter.
    Wait(WaiterId),
    /// The pool is closed.
    Closed,
}

/// What became of a permit that was given back.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Released<C> {
    /// No waiter is queued for it.
    Free,
    /// This waiter has it; [`Pool::claim`] fetches it.
    Woken(WaiterId),
    /// The pool is closed, and so must this connection be.
    Close(C),
}

/// What [`Pool::close`] leaves to its caller.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Drained<C> {
    /// Connections to close: the idle ones, and those that woken waiters have not claimed.
    pub connections: Vec<C>,
    /// The waiters that were queued.
    pub waiters: Vec<WaiterId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PoolPhase {
    Open,
    Closed,
}

/// Everything with one key. An entry lives as long as any of its lists has something in it or a permit is out.
#[derive(Debug)]
struct Host<K> {
    key: PoolKey<K>,
    /// Permits in use, or granted.
    acquired: usize,
    idle: List<OfHost>,
    waiters: List<OfHost>,
    /// The serial under which the host is entered in [`Pool::ready`].
    ready: Option<u64>,
}

/// The list of one host's entries.
#[derive(Debug)]
struct OfHost;
/// The list of all idle connections.
#[derive(Debug)]
struct OfPool;

#[derive(Debug)]
struct IdleEntry<C> {
    connection: C,
    host: usize,
    since: u64,
    in_host: Links,
    in_pool: Links,
}

impl<C> Linked<OfHost> for IdleEntry<C> {
    fn links(&mut self) -> &mut Links {
        &mut self.in_host
    }
}

impl<C> Linked<OfPool> for IdleEntry<C> {
    fn links(&mut self) -> &mut Links {
        &mut self.in_pool
    }
}

#[derive(Debug)]
struct WaiterEntry<C> {
    host: usize,
    serial: u64,
    stage: WaiterStage<C>,
    in_host: Links,
}

#[derive(Debug)]
enum WaiterStage<C> {
    /// In its host's list.
    Waits,
    /// Has a permit, and perhaps a connection, and is in no list.
    Granted(Option<C>),
}

impl<C> Linked<OfHost> for WaiterEntry<C> {
    fn links(&mut self) -> &mut Links {
        &mut self.in_host
    }
}

/// Idle connections of type `C` and permits for them, by keys of type `K`. Times are nanoseconds of the caller's clock,
/// and never go back.
///
/// ```
/// use whorl_core::client::pool::{Checkout, PoolKey, PoolLimits, Pool, Released};
///
/// let mut pool = Pool::new(PoolLimits { total: 1, ..PoolLimits::default() });
/// let host = PoolKey::new("example.org:443");
/// let Checkout::Open(permit) = pool.checkout(&host, 0) else { panic!() };
/// let Checkout::Wait(waiter) = pool.checkout(&host, 0) else { panic!() };
/// assert_eq!(pool.release(permit, Some("a connection"), 1), Released::Woken(waiter));
/// let Some(Checkout::Reuse(permit, "a connection")) = pool.claim(waiter) else { panic!() };
/// assert_eq!(pool.release(permit, None, 2), Released::Free);
/// ```
#[derive(Debug)]
pub struct Pool<K, C> {
    limits: PoolLimits,
    phase: PoolPhase,
    by_key: HashMap<PoolKey<K>, usize, key::BuildIdentityHasher>,
    hosts: Slab<Host<K>>,
    idle: Slab<IdleEntry<C>>,
    /// All idle connections, the one that was used longest ago first.
    oldest: List<OfPool>,
    waiters: Slab<WaiterEntry<C>>,
    /// The hosts that have a waiter and are below their own limit, by the serial of their first waiter. It is empty
    /// while a permit is free.
    ready: BTreeSet<(u64, usize)>,
    acquired: usize,
    serial: u64,
    /// The keys of hosts that have been removed.
    unused_keys: Vec<PoolKey<K>>,
}

impl<K: Eq + Hash, C> Pool<K, C> {
    /// An empty pool.
    #[must_use]
    pub fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            phase: PoolPhase::Open,
            by_key: HashMap::default(),
            hosts: Slab::new(),
            idle: Slab::new(),
            oldest: List::default(),
            waiters: Slab::new(),
            ready: BTreeSet::new(),
            acquired: 0,
            serial: 0,
            unused_keys: Vec::new(),
        }
    }

    /// The keys that the pool has removed since the last call, for the caller to drop where a destructor may run.
    pub fn take_unused_keys(&mut self) -> Vec<PoolKey<K>> {
        std::mem::take(&mut self.unused_keys)
    }

    /// Requests a connection: an idle one, the one that was used last first, or a permit for a new one, or a place in
    /// the queue.
    pub fn checkout(&mut self, key: &PoolKey<K>, now: u64) -> Checkout<C> {
        if self.phase == PoolPhase::Closed {
            return Checkout::Closed;
        }
        let host = match self.by_key.get(key) {
            Some(host) => *host,
            None => self.enter_host(key),
        };
        if self.is_full() || self.is_host_full(host) {
            return Checkout::Wait(self.queue(host));
        }
        self.acquire(host);
        match self.take_idle(host, now) {
            Some(connection) => Checkout::Reuse(Permit { host }, connection),
            None => Checkout::Open(Permit { host }),
        }
    }

    /// Another idle connection for a permit whose first one turned out to be closed.
    pub fn another(&mut self, permit: &Permit, now: u64) -> Option<C> {
        self.take_idle(permit.host, now)
    }

    /// Gives a permit back, with its connection if that can be used again, or `None` if it was closed or never opened.
    pub fn release(&mut self, permit: Permit, connection: Option<C>, now: u64) -> Released<C> {
        let host = permit.host;
        let entry = &mut self.hosts[host];
        entry.acquired -= 1;
        self.acquired -= 1;
        if self.phase == PoolPhase::Closed {
            self.remove_if_unused(host);
            return connection.map_or(Released::Free, Released::Close);
        }
        if let Some(connection) = connection {
            self.put_idle(host, connection, now);
        }
        self.update_ready(host);
        let woken = self.grant(now);
        self.remove_if_unused(host);
        woken.map_or(Released::Free, Released::Woken)
    }

    /// Claims the grant of a woken waiter. `None` as long as it has to wait, and for an id that was claimed or
    /// cancelled before, or whose pool is closed.
    pub fn claim(&mut self, id: WaiterId) -> Option<Checkout<C>> {
        let waiter = self.waiters.get(id.slot).filter(|waiter| waiter.serial == id.serial)?;
        if matches!(waiter.stage, WaiterStage::Waits) {
            return None;
        }
        let WaiterEntry { host, stage, .. } = self.waiters.remove(id.slot);
        match stage {
            WaiterStage::Granted(Some(connection)) => Some(Checkout::Reuse(Permit { host }, connection)),
            WaiterStage::Granted(None) => Some(Checkout::Open(Permit { host })),
            WaiterStage::Waits => None,
        }
    }

    /// Takes a waiter out of the queue. If it had been woken, its grant goes to the next.
    pub fn cancel(&mut self, id: WaiterId, now: u64) -> Released<C> {
        match self.claim(id) {
            Some(Checkout::Reuse(permit, connection)) => return self.release(permit, Some(connection), now),
            Some(Checkout::Open(permit)) => return self.release(permit, None, now),
            Some(Checkout::Wait(_) | Checkout::Closed) | None => {}
        }
        if self.waiters.get(id.slot).is_some_and(|waiter| waiter.serial == id.serial) {
            let host = self.waiters[id.slot].host;
            self.hosts[host].waiters.unlink(&mut self.waiters, id.slot);
            self.waiters.remove(id.slot);
            self.update_ready(host);
            self.remove_if_unused(host);
        }
        Released::Free
    }

    /// Takes out the idle connections that have expired, into `out`.
    pub fn expire(&mut self, now: u64, out: &mut Vec<C>) {
        while let Some(slot) = self.oldest.first().filter(|slot| self.is_expired(*slot, now)) {
            out.push(self.remove_idle_at(slot));
        }
    }

    /// When the next idle connection's time is over.
    #[must_use]
    pub fn next_expiry(&self) -> Option<u64> {
        let keep_alive = self.limits.keep_alive?;
        Some(self.idle[self.oldest.first()?].since.saturating_add(keep_alive))
    }

    /// Takes out the idle connection for which `is_it` is true, as its peer has closed it. It checks each in turn.
    pub fn remove_idle(&mut self, mut is_it: impl FnMut(&C) -> bool) -> Option<C> {
        let (slot, _) = self.idle.iter().find(|(_, idle)| is_it(&idle.connection))?;
        Some(self.remove_idle_at(slot))
    }

    /// Closes the pool: it serves no more checkouts. Permits that are out are released as before.
    pub fn close(&mut self) -> Drained<C> {
        self.phase = PoolPhase::Closed;
        let mut drained = Drained { connections: Vec::new(), waiters: Vec::new() };
        while let Some(slot) = self.oldest.first() {
            drained.connections.push(self.remove_idle_at(slot));
        }
        self.ready.clear();
        for (slot, waiter) in std::mem::take(&mut self.waiters) {
            let host = &mut self.hosts[waiter.host];
            host.waiters = List::default();
            host.ready = None;
            match waiter.stage {
                WaiterStage::Waits => drained.waiters.push(WaiterId { slot, serial: waiter.serial }),
                WaiterStage::Granted(connection) => {
                    host.acquired -= 1;
                    self.acquired -= 1;
                    drained.connections.extend(connection);
                }
            }
        }
        drained.waiters.sort_unstable_by_key(|waiter| waiter.serial);
        let unused: Vec<_> =
            self.hosts.iter().filter(|(_, host)| host.acquired == 0).map(|(slot, _)| slot).collect();
        for host in unused {
            self.remove_host(host);
        }
        drained
    }

    /// Whether [`Pool::close`] has been called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == PoolPhase::Closed
    }

    /// The limits.
    #[must_use]
    pub const fn limits(&self) -> &PoolLimits {
        &self.limits
    }

    /// How many permits are in use, those of woken waiters included.
    #[must_use]
    pub const fn acquired(&self) -> usize {
        self.acquired
    }

    /// How many permits of one key are in use.
    #[must_use]
    pub fn acquired_of(&self, key: &PoolKey<K>) -> usize {
        self.by_key.get(key).map_or(0, |host| self.hosts[*host].acquired)
    }

    /// The key of a permit.
    #[must_use]
    pub fn key(&self, permit: &Permit) -> &PoolKey<K> {
        &self.hosts[permit.host].key
    }

    /// How many waiters there are, woken ones included.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// The idle connections with their keys, in no order.
    pub fn idle(&self) -> impl Iterator<Item = (&PoolKey<K>, &C)> {
        self.idle.iter().map(|(_, idle)| (&self.hosts[idle.host].key, &idle.connection))
    }

    fn is_full(&self) -> bool {
        self.limits.total != 0 && self.acquired >= self.limits.total
    }

    fn is_host_full(&self, host: usize) -> bool {
        self.limits.per_host != 0 && self.hosts[host].acquired >= self.limits.per_host
    }

    fn is_expired(&self, slot: usize, now: u64) -> bool {
        let since = self.idle[slot].since;
        self.limits.keep_alive.is_some_and(|keep_alive| now >= since.saturating_add(keep_alive))
    }

    fn enter_host(&mut self, key: &PoolKey<K>) -> usize {
        let host = self.hosts.insert(Host {
            key: key.clone(),
            acquired: 0,
            idle: List::default(),
            waiters: List::default(),
            ready: None,
        });
        self.by_key.insert(key.clone(), host);
        host
    }

    /// Removes a host if nothing is left of it.
    fn remove_if_unused(&mut self, host: usize) {
        let entry = &self.hosts[host];
        if entry.acquired == 0 && entry.idle.first().is_none() && entry.waiters.first().is_none() {
            self.remove_host(host);
        }
    }

    fn remove_host(&mut self, host: usize) {
        let key = self.hosts.remove(host).key;
        self.by_key.remove(&key);
        self.unused_keys.push(key);
    }

    fn acquire(&mut self, host: usize) {
        self.acquired += 1;
        self.hosts[host].acquired += 1;
    }

    fn put_idle(&mut self, host: usize, connection: C, since: u64) {
        let links = Links::default();
        let slot = self.idle.insert(IdleEntry { connection, host, since, in_host: links, in_pool: links });
        self.hosts[host].idle.push(&mut self.idle, slot);
        self.oldest.push(&mut self.idle, slot);
    }

    /// The idle connection that was used last. If its time is over so is that of all others, which are left to
    /// [`Pool::expire`].
    fn take_idle(&mut self, host: usize, now: u64) -> Option<C> {
        let slot = self.hosts[host].idle.last()?;
        if self.is_expired(slot, now) {
            return None;
        }
        Some(self.unlink_idle(slot).connection)
    }

    fn unlink_idle(&mut self, slot: usize) -> IdleEntry<C> {
        let host = self.idle[slot].host;
        self.hosts[host].idle.unlink(&mut self.idle, slot);
        self.oldest.unlink(&mut self.idle, slot);
        self.idle.remove(slot)
    }

    fn remove_idle_at(&mut self, slot: usize) -> C {
        let idle = self.unlink_idle(slot);
        self.remove_if_unused(idle.host);
        idle.connection
    }

    fn queue(&mut self, host: usize) -> WaiterId {
        let serial = self.serial;
        self.serial += 1;
        let in_host = Links::default();
        let slot = self.waiters.insert(WaiterEntry { host, serial, stage: WaiterStage::Waits, in_host });
        self.hosts[host].waiters.push(&mut self.waiters, slot);
        self.update_ready(host);
        WaiterId { slot, serial }
    }

    /// Gives a free permit, if there is one, to the waiter that has waited longest among those that may use it.
    fn grant(&mut self, now: u64) -> Option<WaiterId> {
        if self.is_full() {
            return None;
        }
        let (serial, host) = *self.ready.first()?;
        let slot = self.hosts[host].waiters.first()?;
        self.hosts[host].waiters.unlink(&mut self.waiters, slot);
        self.acquire(host);
        self.update_ready(host);
        let connection = self.take_idle(host, now);
        self.waiters[slot].stage = WaiterStage::Granted(connection);
        Some(WaiterId { slot, serial })
    }

    /// Enters a host among those that wait for nothing but a permit, or strikes it off.
    fn update_ready(&mut self, host: usize) {
        let first = self.hosts[host].waiters.first();
        let now = first.filter(|_| !self.is_host_full(host)).map(|slot| self.waiters[slot].serial);
        let before = std::mem::replace(&mut self.hosts[host].ready, now);
        if now == before {
            return;
        }
        if let Some(serial) = before {
            self.ready.remove(&(serial, host));
        }
        if let Some(serial) = now {
            self.ready.insert((serial, host));
        }
    }
}
