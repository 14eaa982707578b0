//! Time as a parameter: the system's clock, and one that tests set by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01T00:00:00 UTC; what the stores keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// This instant moved forward by `span`; saturates at the end of time.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// How long after `earlier` this instant is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let millis = self.0.saturating_sub(earlier.0).max(0);
        Duration::from_millis(millis.unsigned_abs())
    }
}

/// One reading of both clocks, taken once for a request.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Wall-clock time in microseconds since the Unix epoch: for expiry and log lines.
    pub wall_micros: i64,
    /// Nanoseconds since the process started, never going back: for limits and durations.
    pub mono_nanos: u64,
}

impl Now {
    /// The wall-clock part in the unit of the stores.
    #[must_use]
    pub fn wall(self) -> UnixMillis {
        UnixMillis(self.wall_micros.div_euclid(1000))
    }

    /// How long after `earlier` this reading was taken.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.mono_nanos.saturating_sub(earlier.mono_nanos))
    }
}

/// A reading of the clock that never goes back, in nanoseconds since the process started.
pub type MonoNanos = u64;

/// Where the time comes from. Clones share one source.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System { start: Instant },
    Manual { micros: Arc<AtomicI64>, start: i64 },
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System {
            start: Instant::now(),
        })
    }

    /// A clock that stands at `start` until [`advance`](Self::advance) moves it.
    #[must_use]
    pub fn manual(start: UnixMillis) -> Self {
        let micros = start.0.saturating_mul(1000);
        Self(Source::Manual {
            micros: Arc::new(AtomicI64::new(micros)),
            start: micros,
        })
    }

    /// Moves a manual clock forward; the system's clock is not moved.
    pub fn advance(&self, span: Duration) {
        if let Source::Manual { micros, .. } = &self.0 {
            let span = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
            micros.fetch_add(span, Ordering::SeqCst);
        }
    }

    /// Reads both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        Now {
            wall_micros: self.wall_micros(),
            mono_nanos: self.mono_nanos(),
        }
    }

    fn wall_micros(&self) -> i64 {
        match &self.0 {
            Source::System { .. } => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX)),
            Source::Manual { micros, .. } => micros.load(Ordering::SeqCst),
        }
    }

    /// Reads the clock that durations are measured by.
    #[must_use]
    pub fn mono_nanos(&self) -> MonoNanos {
        match &self.0 {
            Source::System { start } => {
                u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
            }
            Source::Manual { micros, start } => {
                let since = micros.load(Ordering::SeqCst).saturating_sub(*start);
                since.max(0).unsigned_abs() * 1000
            }
        }
    }

    /// How long ago `earlier` was read.
    #[must_use]
    pub fn since(&self, earlier: MonoNanos) -> Duration {
        Duration::from_nanos(self.mono_nanos().saturating_sub(earlier))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_both_readings_alike() {
        let clock = Clock::manual(UnixMillis(1_000));
        let before = clock.now();
        clock.advance(Duration::from_secs(5));
        let after = clock.now();
        assert_eq!(after.wall(), UnixMillis(6_000));
        assert_eq!(after.since(before), Duration::from_secs(5));
    }

    #[test]
    fn adding_a_span_saturates_instead_of_wrapping() {
        assert_eq!(UnixMillis(5).plus(Duration::MAX), UnixMillis(i64::MAX));
        assert_eq!(UnixMillis(5).since(UnixMillis(9)), Duration::ZERO);
    }
}
