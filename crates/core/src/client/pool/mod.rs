//! Which connection serves a request: the connection pool, without connections.
//!
//! A *slot* is the right to use one connection to one host. There are [`Limits::total`] of them and
//! [`Limits::per_host`] for each [`Key`]; idle connections hold none, as in aiohttp. Whoever has a slot holds a [`Lease`]
//! until [`Pool::release`]. Who finds none gets a [`Ticket`] and waits; a slot that comes free goes at once to whoever has
//! waited longest among those who may use it, so nobody overtakes and nobody starves behind another host's limit.
//!
//! The pool drops no connection by itself: those that are to be closed are handed to the caller. It does drop keys.

mod key;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use slab::Slab;

use super::list::{Linked, Links, List};
pub use key::Key;

/// How many connections there may be, and how long they stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in use at once; 0 is no limit.
    pub total: usize,
    /// Connections in use at once with one key; 0 is no limit.
    pub per_host: usize,
    /// For how long a connection may be idle, in nanoseconds; `None` is for ever.
    pub keep_alive: Option<u64>,
}

impl Default for Limits {
    /// aiohttp's: 100 connections, any number of them to one host, 15 seconds.
    fn default() -> Self {
        Self { total: 100, per_host: 0, keep_alive: Some(15_000_000_000) }
    }
}

/// A slot, from checkout to release. It belongs to the pool that gave it; one that is dropped is lost to the pool.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a slot that is not released is lost"]
pub struct Lease {
    host: usize,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    place: usize,
    serial: u64,
}

/// The answer to a request for a connection.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Checkout<C> {
    /// A slot, and an idle connection to use. If it turns out to be closed, the slot is good for a new one.
    Reuse(Lease, C),
    /// A slot, for a connection that the caller opens.
    Open(Lease),
    /// There is no slot: [`Released::Woken`] will name this ticket.
    Wait(Ticket),
    /// The pool is closed.
    Closed,
}

/// What became of a slot that was given back.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Released<C> {
    /// Nobody waits for it.
    Free,
    /// This waiter has it; [`Pool::claim`] fetches it.
    Woken(Ticket),
    /// The pool is closed, and so must this connection be.
    Close(C),
}

/// What [`Pool::close`] leaves to its caller.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Drained<C> {
    /// Connections to close: the idle ones, and those whose waiters have not fetched them.
    pub connections: Vec<C>,
    /// Those who wait in vain.
    pub waiters: Vec<Ticket>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Closed,
}

/// Everything with one key. An entry lives as long as any of its lists has something in it or a slot is out.
#[derive(Debug)]
struct Host<K> {
    key: Key<K>,
    /// Slots in use, or granted.
    acquired: usize,
    idle: List<OfHost>,
    waiters: List<OfHost>,
    /// As what the host is entered in [`Pool::ready`].
    ready: Option<u64>,
}

/// The list of one host's entries.
#[derive(Debug)]
struct OfHost;
/// The list of all idle connections.
#[derive(Debug)]
struct OfPool;

#[derive(Debug)]
struct Idle<C> {
    connection: C,
    host: usize,
    since: u64,
    in_host: Links,
    in_pool: Links,
}

impl<C> Linked<OfHost> for Idle<C> {
    fn links(&mut self) -> &mut Links {
        &mut self.in_host
    }
}

impl<C> Linked<OfPool> for Idle<C> {
    fn links(&mut self) -> &mut Links {
        &mut self.in_pool
    }
}

#[derive(Debug)]
struct Waiter<C> {
    host: usize,
    serial: u64,
    stage: Stage<C>,
    in_host: Links,
}

#[derive(Debug)]
enum Stage<C> {
    /// In its host's list.
    Waits,
    /// Has a slot, and perhaps a connection, and is in no list.
    Granted(Option<C>),
}

impl<C> Linked<OfHost> for Waiter<C> {
    fn links(&mut self) -> &mut Links {
        &mut self.in_host
    }
}

/// Idle connections of type `C` and slots for them, by keys of type `K`. Times are nanoseconds of the caller's clock, and
/// never go back.
///
/// ```
/// use whorl_core::client::pool::{Checkout, Key, Limits, Pool, Released};
///
/// let mut pool = Pool::new(Limits { total: 1, ..Limits::default() });
/// let host = Key::new("example.org:443");
/// let Checkout::Open(lease) = pool.checkout(&host, 0) else { panic!() };
/// let Checkout::Wait(ticket) = pool.checkout(&host, 0) else { panic!() };
/// assert_eq!(pool.release(lease, Some("a connection"), 1), Released::Woken(ticket));
/// let Some(Checkout::Reuse(lease, "a connection")) = pool.claim(ticket) else { panic!() };
/// assert_eq!(pool.release(lease, None, 2), Released::Free);
/// ```
#[derive(Debug)]
pub struct Pool<K, C> {
    limits: Limits,
    phase: Phase,
    places: HashMap<Key<K>, usize, key::BuildIdentityHasher>,
    hosts: Slab<Host<K>>,
    idle: Slab<Idle<C>>,
    /// All idle connections, the one that was used longest ago first.
    oldest: List<OfPool>,
    waiters: Slab<Waiter<C>>,
    /// The hosts for which somebody waits although they are below their own limit, by who has waited longest. It is empty
    /// while a slot is free.
    ready: BTreeSet<(u64, usize)>,
    acquired: usize,
    serial: u64,
}

impl<K: Eq + Hash, C> Pool<K, C> {
    /// An empty pool.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            phase: Phase::Open,
            places: HashMap::default(),
            hosts: Slab::new(),
            idle: Slab::new(),
            oldest: List::default(),
            waiters: Slab::new(),
            ready: BTreeSet::new(),
            acquired: 0,
            serial: 0,
        }
    }

    /// Asks for a connection: an idle one, the one that was used last first, or a slot for a new one, or a place in the
    /// queue.
    pub fn checkout(&mut self, key: &Key<K>, now: u64) -> Checkout<C> {
        if self.phase == Phase::Closed {
            return Checkout::Closed;
        }
        let host = match self.places.get(key) {
            Some(host) => *host,
            None => self.enter_host(key),
        };
        if self.is_full() || self.is_host_full(host) {
            return Checkout::Wait(self.queue(host));
        }
        self.acquire(host);
        match self.take_idle(host, now) {
            Some(connection) => Checkout::Reuse(Lease { host }, connection),
            None => Checkout::Open(Lease { host }),
        }
    }

    /// Asks for an idle connection and nothing else: `None` if there is none, or no slot.
    pub fn checkout_idle(&mut self, key: &Key<K>, now: u64) -> Option<(Lease, C)> {
        let host = *self.places.get(key)?;
        if self.phase == Phase::Closed || self.is_full() || self.is_host_full(host) {
            return None;
        }
        let connection = self.take_idle(host, now)?;
        self.acquire(host);
        Some((Lease { host }, connection))
    }

    /// Another idle connection for a slot whose own turned out to be closed.
    pub fn another(&mut self, lease: &Lease, now: u64) -> Option<C> {
        self.take_idle(lease.host, now)
    }

    /// Gives a slot back, with its connection if that can be used again, or `None` if it was closed or never opened.
    pub fn release(&mut self, lease: Lease, connection: Option<C>, now: u64) -> Released<C> {
        let host = lease.host;
        let entry = &mut self.hosts[host];
        entry.acquired -= 1;
        self.acquired -= 1;
        if self.phase == Phase::Closed {
            self.forget_unused(host);
            return connection.map_or(Released::Free, Released::Close);
        }
        if let Some(connection) = connection {
            self.put_idle(host, connection, now);
        }
        self.update_ready(host);
        let woken = self.grant(now);
        self.forget_unused(host);
        woken.map_or(Released::Free, Released::Woken)
    }

    /// Fetches what a woken waiter was given. `None` as long as it has to wait, and for a ticket that was claimed or
    /// cancelled before, or whose pool is closed.
    pub fn claim(&mut self, ticket: Ticket) -> Option<Checkout<C>> {
        let waiter = self.waiters.get(ticket.place).filter(|waiter| waiter.serial == ticket.serial)?;
        if matches!(waiter.stage, Stage::Waits) {
            return None;
        }
        let Waiter { host, stage, .. } = self.waiters.remove(ticket.place);
        match stage {
            Stage::Granted(Some(connection)) => Some(Checkout::Reuse(Lease { host }, connection)),
            Stage::Granted(None) => Some(Checkout::Open(Lease { host })),
            Stage::Waits => None,
        }
    }

    /// Takes a waiter out of the queue. If it had been woken, what it was given goes to the next.
    pub fn cancel(&mut self, ticket: Ticket, now: u64) -> Released<C> {
        match self.claim(ticket) {
            Some(Checkout::Reuse(lease, connection)) => return self.release(lease, Some(connection), now),
            Some(Checkout::Open(lease)) => return self.release(lease, None, now),
            Some(Checkout::Wait(_) | Checkout::Closed) | None => {}
        }
        if self.waiters.get(ticket.place).is_some_and(|waiter| waiter.serial == ticket.serial) {
            let host = self.waiters[ticket.place].host;
            self.hosts[host].waiters.unlink(&mut self.waiters, ticket.place);
            self.waiters.remove(ticket.place);
            self.update_ready(host);
            self.forget_unused(host);
        }
        Released::Free
    }

    /// Takes out the idle connections whose time is over, into `out`.
    pub fn expire(&mut self, now: u64, out: &mut Vec<C>) {
        while let Some(place) = self.oldest.first().filter(|place| self.is_expired(*place, now)) {
            out.push(self.remove_idle_at(place));
        }
    }

    /// When the next idle connection's time is over.
    #[must_use]
    pub fn next_expiry(&self) -> Option<u64> {
        let keep_alive = self.limits.keep_alive?;
        Some(self.idle[self.oldest.first()?].since.saturating_add(keep_alive))
    }

    /// Takes out the idle connection for which `is_it` says so, as its peer has closed it. It looks at each in turn.
    pub fn remove_idle(&mut self, mut is_it: impl FnMut(&C) -> bool) -> Option<C> {
        let (place, _) = self.idle.iter().find(|(_, idle)| is_it(&idle.connection))?;
        Some(self.remove_idle_at(place))
    }

    /// Closes the pool: nobody gets anything from it any more. Slots that are out come back as before.
    pub fn close(&mut self) -> Drained<C> {
        self.phase = Phase::Closed;
        let mut drained = Drained { connections: Vec::new(), waiters: Vec::new() };
        while let Some(place) = self.oldest.first() {
            drained.connections.push(self.remove_idle_at(place));
        }
        self.ready.clear();
        for (place, waiter) in std::mem::take(&mut self.waiters) {
            let host = &mut self.hosts[waiter.host];
            host.waiters = List::default();
            host.ready = None;
            match waiter.stage {
                Stage::Waits => drained.waiters.push(Ticket { place, serial: waiter.serial }),
                Stage::Granted(connection) => {
                    host.acquired -= 1;
                    self.acquired -= 1;
                    drained.connections.extend(connection);
                }
            }
        }
        drained.waiters.sort_unstable_by_key(|ticket| ticket.serial);
        self.hosts.retain(|_, host| host.acquired > 0);
        self.places.retain(|_, host| self.hosts.contains(*host));
        drained
    }

    /// Whether [`Pool::close`] has been called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// The limits.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many slots are in use, those of woken waiters included.
    #[must_use]
    pub const fn acquired(&self) -> usize {
        self.acquired
    }

    /// How many slots of one key are in use.
    #[must_use]
    pub fn acquired_of(&self, key: &Key<K>) -> usize {
        self.places.get(key).map_or(0, |host| self.hosts[*host].acquired)
    }

    /// The key of a lease.
    #[must_use]
    pub fn key(&self, lease: &Lease) -> &Key<K> {
        &self.hosts[lease.host].key
    }

    /// How many waiters there are, woken ones included.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// The idle connections with their keys, in no order.
    pub fn idle(&self) -> impl Iterator<Item = (&Key<K>, &C)> {
        self.idle.iter().map(|(_, idle)| (&self.hosts[idle.host].key, &idle.connection))
    }

    fn is_full(&self) -> bool {
        self.limits.total != 0 && self.acquired >= self.limits.total
    }

    fn is_host_full(&self, host: usize) -> bool {
        self.limits.per_host != 0 && self.hosts[host].acquired >= self.limits.per_host
    }

    fn is_expired(&self, place: usize, now: u64) -> bool {
        let since = self.idle[place].since;
        self.limits.keep_alive.is_some_and(|keep_alive| now >= since.saturating_add(keep_alive))
    }

    fn enter_host(&mut self, key: &Key<K>) -> usize {
        let host = self.hosts.insert(Host {
            key: key.clone(),
            acquired: 0,
            idle: List::default(),
            waiters: List::default(),
            ready: None,
        });
        self.places.insert(key.clone(), host);
        host
    }

    /// Drops a host's entry if nothing is left of it.
    fn forget_unused(&mut self, host: usize) {
        let entry = &self.hosts[host];
        if entry.acquired == 0 && entry.idle.first().is_none() && entry.waiters.first().is_none() {
            let entry = self.hosts.remove(host);
            self.places.remove(&entry.key);
        }
    }

    fn acquire(&mut self, host: usize) {
        self.acquired += 1;
        self.hosts[host].acquired += 1;
    }

    fn put_idle(&mut self, host: usize, connection: C, since: u64) {
        let links = Links::default();
        let place = self.idle.insert(Idle { connection, host, since, in_host: links, in_pool: links });
        self.hosts[host].idle.push(&mut self.idle, place);
        self.oldest.push(&mut self.idle, place);
    }

    /// The idle connection that was used last. If its time is over so is that of all others, which are left to
    /// [`Pool::expire`].
    fn take_idle(&mut self, host: usize, now: u64) -> Option<C> {
        let place = self.hosts[host].idle.last()?;
        if self.is_expired(place, now) {
            return None;
        }
        Some(self.unlink_idle(place).connection)
    }

    fn unlink_idle(&mut self, place: usize) -> Idle<C> {
        let host = self.idle[place].host;
        self.hosts[host].idle.unlink(&mut self.idle, place);
        self.oldest.unlink(&mut self.idle, place);
        self.idle.remove(place)
    }

    fn remove_idle_at(&mut self, place: usize) -> C {
        let idle = self.unlink_idle(place);
        self.forget_unused(idle.host);
        idle.connection
    }

    fn queue(&mut self, host: usize) -> Ticket {
        let serial = self.serial;
        self.serial += 1;
        let in_host = Links::default();
        let place = self.waiters.insert(Waiter { host, serial, stage: Stage::Waits, in_host });
        self.hosts[host].waiters.push(&mut self.waiters, place);
        self.update_ready(host);
        Ticket { place, serial }
    }

    /// Gives a free slot, if there is one, to whoever has waited longest of those who may use it.
    fn grant(&mut self, now: u64) -> Option<Ticket> {
        if self.is_full() {
            return None;
        }
        let (serial, host) = *self.ready.first()?;
        let place = self.hosts[host].waiters.first()?;
        self.hosts[host].waiters.unlink(&mut self.waiters, place);
        self.acquire(host);
        self.update_ready(host);
        let connection = self.take_idle(host, now);
        self.waiters[place].stage = Stage::Granted(connection);
        Some(Ticket { place, serial })
    }

    /// Enters a host among those that wait for nothing but a slot, or strikes it off.
    fn update_ready(&mut self, host: usize) {
        let first = self.hosts[host].waiters.first();
        let now = first.filter(|_| !self.is_host_full(host)).map(|place| self.waiters[place].serial);
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
