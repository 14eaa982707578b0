//! Every open connection, across all workers: how many there are, how many from one address, and which
//! one is idle the longest when room is needed.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::slot::Slot;

/// How many of the longest idle are remembered by one look at all: under a flood of new connections the
/// look costs this much less for each.
const VICTIMS: usize = 64;

/// The registry. Requests on a connection never take its lock, only a connection's beginning and end do.
#[derive(Debug)]
pub struct Connections {
    max: usize,
    max_per_ip: usize,
    base: Instant,
    table: Mutex<Table>,
    /// Told when a place may have become free.
    freed: Notify,
    /// How many wait to be told.
    waiting: AtomicUsize,
    open: AtomicUsize,
    accepted: AtomicU64,
    closed_for_room: AtomicU64,
    refused_per_ip: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    slots: Vec<Option<Arc<Slot>>>,
    free: Vec<usize>,
    per_ip: HashMap<IpAddr, usize>,
    /// The longest idle at the last look, the longest last. One that has moved since is passed over.
    victims: Vec<(u64, Arc<Slot>)>,
}

/// Why a connection got no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// Its address has as many as it may have.
    PerIp,
    /// All places are taken, and a request is in flight on each.
    Busy,
}

impl Connections {
    /// Room for `max` connections, `max_per_ip` of them from one address (zero: no bound of its own).
    #[must_use]
    pub fn new(max: usize, max_per_ip: usize) -> Arc<Self> {
        Arc::new(Self {
            max: max.max(1),
            max_per_ip,
            base: Instant::now(),
            table: Mutex::default(),
            freed: Notify::new(),
            waiting: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            closed_for_room: AtomicU64::new(0),
            refused_per_ip: AtomicU64::new(0),
        })
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections served since the start.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Idle connections closed to make room for new ones.
    #[must_use]
    pub fn closed_for_room(&self) -> u64 {
        self.closed_for_room.load(Ordering::Relaxed)
    }

    /// Connections closed at once because their address had too many.
    #[must_use]
    pub fn refused_per_ip(&self) -> u64 {
        self.refused_per_ip.load(Ordering::Relaxed)
    }

    /// A place for a connection from `ip`, if need be that of the longest idle one.
    pub(super) fn try_admit(
        self: &Arc<Self>,
        ip: IpAddr,
        watch_bytes: bool,
    ) -> Result<Lease, NoPlace> {
        let ip = (self.max_per_ip > 0).then(|| per_ip_key(ip));
        let mut table = self.table();
        if let Some(ip) = ip {
            // Judged first: who is refused must not cost another its connection.
            if table.per_ip.get(&ip).copied().unwrap_or(0) >= self.max_per_ip {
                self.refused_per_ip.fetch_add(1, Ordering::Relaxed);
                return Err(NoPlace::PerIp);
            }
        }
        if self.open.load(Ordering::Relaxed) < self.max {
            self.open.fetch_add(1, Ordering::Relaxed);
        } else if table.close_longest_idle() {
            // The place changes hands: the number of open ones stays.
            self.closed_for_room.fetch_add(1, Ordering::Relaxed);
        } else {
            return Err(NoPlace::Busy);
        }
        self.accepted.fetch_add(1, Ordering::Relaxed);
        if let Some(ip) = ip {
            *table.per_ip.entry(ip).or_default() += 1;
        }
        let slot = Arc::new(Slot::new(self.base).watching_bytes(watch_bytes));
        let index = table.insert(&slot);
        drop(table);
        Ok(Lease {
            connections: Arc::clone(self),
            slot,
            index,
            ip,
        })
    }

    /// Like [`try_admit`](Self::try_admit), but waits until a place is free or can be freed. `None`: the
    /// address has too many. Dropping the future takes no place.
    pub(super) async fn admit(self: &Arc<Self>, ip: IpAddr, watch_bytes: bool) -> Option<Lease> {
        let _waiting = Waiting::new(&self.waiting);
        loop {
            // Listening begins before the look: what becomes free in between is not missed.
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            match self.try_admit(ip, watch_bytes) {
                Ok(lease) => return Some(lease),
                Err(NoPlace::PerIp) => return None,
                Err(NoPlace::Busy) => freed.await,
            }
        }
    }

    /// Closes the longest idle connection when something else than places has run out.
    pub(super) fn close_longest_idle(&self) {
        if self.table().close_longest_idle() {
            self.closed_for_room.fetch_add(1, Ordering::Relaxed);
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Lets every connection look at its state again.
    pub(super) fn wake_all(&self) {
        for slot in self.table().slots.iter().flatten() {
            slot.waker().wake();
        }
    }

    /// A connection has become idle.
    pub(super) fn became_idle(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
    }

    /// How many are idle now.
    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        let table = self.table();
        let idle = |slot: &&Arc<Slot>| slot.idle_since().is_some();
        table.slots.iter().flatten().filter(idle).count()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn insert(&mut self, slot: &Arc<Slot>) -> usize {
        let entry = Some(Arc::clone(slot));
        if let Some(index) = self.free.pop()
            && let Some(place) = self.slots.get_mut(index)
        {
            *place = entry;
            return index;
        }
        self.slots.push(entry);
        self.slots.len() - 1
    }

    fn close_longest_idle(&mut self) -> bool {
        // Twice: those remembered may all have moved since.
        for _ in 0..2 {
            while let Some((since, slot)) = self.victims.pop() {
                if slot.close_if_idle_since(since) {
                    return true;
                }
            }
            self.look_for_victims();
        }
        false
    }

    fn look_for_victims(&mut self) {
        let mut idle: Vec<(u64, &Arc<Slot>)> = self
            .slots
            .iter()
            .flatten()
            .filter_map(|slot| Some((slot.idle_since()?, slot)))
            .collect();
        if idle.len() > VICTIMS {
            idle.select_nth_unstable_by_key(VICTIMS, |(since, _)| *since);
            idle.truncate(VICTIMS);
        }
        idle.sort_unstable_by_key(|(since, _)| std::cmp::Reverse(*since));
        self.victims = idle
            .into_iter()
            .map(|(since, slot)| (since, Arc::clone(slot)))
            .collect();
    }
}

/// The address a connection is counted under: an IPv6 host has its whole /64.
fn per_ip_key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
    }
}

/// The place of one connection, given back when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    connections: Arc<Connections>,
    slot: Arc<Slot>,
    index: usize,
    ip: Option<IpAddr>,
}

impl Lease {
    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    pub(super) fn connections(&self) -> &Connections {
        &self.connections
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut table = self.connections.table();
        if let Some(place) = table.slots.get_mut(self.index) {
            *place = None;
            table.free.push(self.index);
        }
        if let Some(ip) = self.ip
            && let Some(count) = table.per_ip.get_mut(&ip)
        {
            *count -= 1;
            if *count == 0 {
                table.per_ip.remove(&ip);
            }
        }
        if self.slot.give_up_place() {
            self.connections.open.fetch_sub(1, Ordering::Relaxed);
        }
        drop(table);
        self.connections.became_idle();
    }
}

/// Counts one that waits for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::super::slot::{Phase, RequestBody};
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    async fn open(connections: &Arc<Connections>, from: &str) -> Lease {
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        connections.try_admit(ip(from), false).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_limit_the_longest_idle_gives_its_place() {
        let connections = Connections::new(3, 0);
        let busy = open(&connections, "192.0.2.1").await;
        assert!(busy.slot().begin(RequestBody::Done));
        let old = open(&connections, "192.0.2.1").await;
        let young = open(&connections, "192.0.2.1").await;
        let new = open(&connections, "192.0.2.1").await;
        assert!(old.slot().is_closing());
        assert!(!old.slot().begin(RequestBody::Done));
        for other in [&busy, &young, &new] {
            assert!(!other.slot().is_closing());
        }
        assert_eq!((connections.open(), connections.closed_for_room()), (3, 1));
        drop(old);
        assert_eq!(connections.open(), 3);
        drop((busy, young, new));
        assert_eq!((connections.open(), connections.accepted()), (0, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_served_since_the_last_look_is_passed_over() {
        let connections = Connections::new(3, 0);
        let first = open(&connections, "192.0.2.1").await;
        let second = open(&connections, "192.0.2.1").await;
        let third = open(&connections, "192.0.2.1").await;
        let _new = open(&connections, "192.0.2.1").await; // the look: second and third are remembered
        assert!(second.slot().begin(RequestBody::Done));
        second.slot().enter(Phase::Idle);
        assert!(second.slot().settle().became_idle);
        let _newer = open(&connections, "192.0.2.1").await;
        assert!(first.slot().is_closing() && third.slot().is_closing());
        assert!(!second.slot().is_closing());
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_are_busy_a_new_one_waits_until_one_is_idle_or_gone() {
        let connections = Connections::new(1, 0);
        let busy = open(&connections, "192.0.2.1").await;
        assert!(busy.slot().begin(RequestBody::Done));
        let mut next = Box::pin(connections.admit(ip("192.0.2.2"), false));
        assert!((&mut next).now_or_never().is_none());
        busy.slot().enter(Phase::Idle);
        assert!(busy.slot().settle().became_idle);
        busy.connections().became_idle();
        let next = next.await.unwrap();
        assert!(busy.slot().is_closing());
        assert!(next.slot().begin(RequestBody::Done));
        let mut third = Box::pin(connections.admit(ip("192.0.2.2"), false));
        assert!((&mut third).now_or_never().is_none());
        drop(next);
        assert!(third.await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_has_no_more_than_its_share_and_costs_others_nothing() {
        let connections = Connections::new(2, 1);
        let one = open(&connections, "2001:db8::1").await;
        let other = open(&connections, "::ffff:192.0.2.1").await;
        for same in ["2001:db8::2", "192.0.2.1"] {
            let refused = connections.try_admit(ip(same), false);
            assert_eq!(refused.map(|_| ()), Err(NoPlace::PerIp), "{same}");
        }
        assert!(!one.slot().is_closing() && !other.slot().is_closing());
        assert_eq!(connections.refused_per_ip(), 2);
        drop(one);
        let _again = open(&connections, "2001:db8::2").await;
    }
}
