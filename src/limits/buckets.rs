//! Where a limit keeps what each key has spent, bounded.
//!
//! governor's own stores can neither give a cell back nor keep what was spent when a rate changes, so
//! it is given this one: the theoretical arrival time (the instant at which a bucket is full again) of
//! each key, in nanoseconds since the process started. That number means the same under any rate.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use governor::clock::Clock;
use governor::nanos::Nanos;
use governor::state::StateStore;

/// Locks apart, so that workers seldom meet.
const SHARDS: usize = 16;
/// Buckets that new keys of a full shard share.
const OVERFLOW_BUCKETS: usize = 16;
/// A full shard looks for idle keys at most this often.
const SWEEP_PAUSE_NANOS: u64 = 1_000_000_000;

thread_local! {
    /// The instant of the request that is being decided on this thread.
    static REQUEST_NANOS: Cell<u64> = const { Cell::new(0) };
}

/// The clock governor reads: the request's own instant, so that deciding reads no clock.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestClock;

impl RequestClock {
    pub(super) fn set(mono_nanos: u64) {
        REQUEST_NANOS.with(|cell| cell.set(mono_nanos));
    }
}

impl Clock for RequestClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(REQUEST_NANOS.with(Cell::get))
    }
}

/// A key, hashed under a random key of the process: nobody can choose whom to collide with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct BucketKey(pub(super) u64);

/// The key is a hash already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[derive(Default)]
struct Shard {
    /// Key to theoretical arrival time.
    full_at: HashMap<u64, u64, BuildHasherDefault<AsItIs>>,
    overflow: [u64; OVERFLOW_BUCKETS],
    overflowed: u64,
    next_sweep: u64,
}

impl Shard {
    /// A key whose bucket is full again has nothing to remember.
    fn sweep(&mut self, now: u64) {
        self.full_at.retain(|_, full_at| *full_at > now);
        if self.full_at.capacity() > 4 * self.full_at.len().max(64) {
            self.full_at.shrink_to_fit();
        }
    }

    /// The cell that holds `key`'s arrival time. When all of `max` keys are live, new ones share
    /// overflow buckets, so that inventing keys never buys a fresh burst.
    fn cell(&mut self, key: u64, max: usize, now: u64) -> &mut u64 {
        if self.full_at.len() >= max && !self.full_at.contains_key(&key) {
            if now >= self.next_sweep {
                self.next_sweep = now.saturating_add(SWEEP_PAUSE_NANOS);
                self.sweep(now);
            }
            if self.full_at.len() >= max {
                self.overflowed += 1;
                let bucket = usize::try_from(key >> 32).unwrap_or(0) % OVERFLOW_BUCKETS;
                return &mut self.overflow[bucket];
            }
        }
        self.full_at.entry(key).or_insert(0)
    }
}

/// The buckets of one limit. Clones share them; they outlive changes of its rate.
#[derive(Clone)]
pub(super) struct Buckets {
    shards: Arc<[Mutex<Shard>; SHARDS]>,
    max_keys_per_shard: usize,
}

impl Buckets {
    pub(super) fn new(max_keys: usize) -> Self {
        Self {
            shards: Arc::new(std::array::from_fn(|_| Mutex::new(Shard::default()))),
            max_keys_per_shard: max_keys.div_ceil(SHARDS).max(1),
        }
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        // The low bits choose the shard, the map uses the others as well.
        let index = usize::try_from(key % SHARDS as u64).unwrap_or(0);
        self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back what one passed check took.
    pub(super) fn refund(&self, key: BucketKey, cell_nanos: u64, now: u64) {
        let mut shard = self.shard(key.0);
        let full_at = shard.cell(key.0, self.max_keys_per_shard, now);
        *full_at = full_at.saturating_sub(cell_nanos);
    }

    /// Forgets keys whose buckets are full again.
    pub(super) fn sweep(&self, now: u64) {
        for shard in self.shards.iter() {
            shard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .sweep(now);
        }
    }

    /// How many keys are kept apart, and how often a key had to share a bucket.
    pub(super) fn size(&self) -> (usize, u64) {
        self.shards
            .iter()
            .fold((0, 0), |(keys, overflowed), shard| {
                let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
                (keys + shard.full_at.len(), overflowed + shard.overflowed)
            })
    }
}

impl StateStore for Buckets {
    type Key = BucketKey;

    fn measure_and_replace<T, F, E>(&self, key: &BucketKey, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let now = REQUEST_NANOS.with(Cell::get);
        let mut shard = self.shard(key.0);
        let full_at = shard.cell(key.0, self.max_keys_per_shard, now);
        // An arrival time in the past, also that of a new key, is a full bucket.
        let (outcome, next) = decide(Some(Nanos::from((*full_at).max(now))))?;
        *full_at = next.as_u64();
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spends one cell worth 10 ns of a bucket of two.
    fn spend(buckets: &Buckets, key: u64, now: u64) -> bool {
        RequestClock::set(now);
        buckets
            .measure_and_replace(&BucketKey(key), |full_at| {
                let full_at = full_at.map_or(now, Nanos::as_u64).max(now);
                if full_at > now + 10 {
                    Err(())
                } else {
                    Ok(((), Nanos::from(full_at + 10)))
                }
            })
            .is_ok()
    }

    #[test]
    fn churning_keys_never_buys_a_fresh_burst() {
        let buckets = Buckets::new(SHARDS); // one key a shard
        let same_shard = |n: u64| n << 4;
        assert!(spend(&buckets, same_shard(1), 1));
        let passed = (2..1_000)
            .filter(|n| spend(&buckets, same_shard(*n), 1))
            .count();
        assert!(passed <= 2 * OVERFLOW_BUCKETS, "{passed} passed");
        assert_eq!(buckets.size().0, 1);
        assert!(buckets.size().1 > 0);
    }

    #[test]
    fn idle_keys_make_room_for_new_ones() {
        let buckets = Buckets::new(SHARDS);
        assert!(spend(&buckets, 16, 1));
        let later = 2 * SWEEP_PAUSE_NANOS;
        assert!(spend(&buckets, 32, later));
        assert_eq!(buckets.size(), (1, 0));
        buckets.sweep(later + 11);
        assert_eq!(buckets.size().0, 0);
    }

    #[test]
    fn a_refund_gives_back_exactly_what_was_taken() {
        let buckets = Buckets::new(100);
        assert!(spend(&buckets, 1, 100) && spend(&buckets, 1, 100) && !spend(&buckets, 1, 100));
        buckets.refund(BucketKey(1), 10, 100);
        assert!(spend(&buckets, 1, 100) && !spend(&buckets, 1, 100));
    }
}
