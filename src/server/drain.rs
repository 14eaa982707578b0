//! Winding down: first every answer asks for its connection to be closed, then listeners stop and what is
//! in flight may finish until a deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// The one switch that listeners and connections watch. Clones share it.
#[derive(Clone, Debug)]
pub struct Drain(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    draining: AtomicBool,
    stop: watch::Sender<Option<Stop>>,
    /// Whether `stop` holds one: spares every poll of a connection the lock.
    stopping: AtomicBool,
}

/// Listeners are to close, and requests to end by the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    /// When it was said first.
    pub(super) since: Instant,
    /// When what is left is aborted.
    pub(super) deadline: Instant,
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Drain {
    /// Not draining.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            draining: AtomicBool::new(false),
            stop: watch::Sender::new(None),
            stopping: AtomicBool::new(false),
        }))
    }

    /// From now on every answer closes its connection; new connections are still served.
    pub fn begin(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Ends it: what waits in the listeners' queues is accepted and served, then they close, idle
    /// connections close at once, requests in flight may finish until `deadline`. Said again, the earlier
    /// deadline holds.
    pub fn stop(&self, deadline: Instant) {
        self.begin();
        self.0.stop.send_modify(|stop| {
            let (since, deadline) = match *stop {
                Some(before) => (before.since, before.deadline.min(deadline)),
                None => (Instant::now(), deadline),
            };
            *stop = Some(Stop { since, deadline });
            self.0.stopping.store(true, Ordering::Relaxed);
        });
    }

    /// Whether [`begin`](Self::begin) or [`stop`](Self::stop) was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// Whether the deadline has passed: what still runs is cut off.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stopping()
            .is_some_and(|stop| stop.deadline <= Instant::now())
    }

    pub(super) fn stopping(&self) -> Option<Stop> {
        if !self.0.stopping.load(Ordering::Relaxed) {
            return None;
        }
        *self.0.stop.borrow()
    }

    /// Every later call of [`stop`](Self::stop), and one that came before.
    pub(super) fn watch(&self) -> watch::Receiver<Option<Stop>> {
        let mut stop = self.0.stop.subscribe();
        if self.stopping().is_some() {
            stop.mark_changed();
        }
        stop
    }

    /// Resolves once [`stop`](Self::stop) was called.
    pub(super) async fn stopped(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.stop.subscribe().wait_for(Option::is_some).await;
    }

    /// Resolves once the deadline has passed.
    pub(super) async fn over(&self) {
        let mut stop = self.0.stop.subscribe();
        loop {
            let deadline = stop.borrow_and_update().map(|stop| stop.deadline);
            match deadline {
                None => drop(stop.changed().await),
                Some(deadline) => tokio::select! {
                    () = sleep_until(deadline) => return,
                    _ = stop.changed() => {}
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_stop_can_only_shorten_the_first() {
        let drain = Drain::new();
        let now = Instant::now();
        drain.stop(now + Duration::from_secs(30));
        drain.stop(now + Duration::from_secs(60));
        assert!(drain.is_draining());
        drain.over().await;
        assert_eq!(now.elapsed().as_secs(), 30);

        let drain = Drain::new();
        let now = Instant::now();
        drain.stop(now + Duration::from_secs(30));
        let over = tokio::spawn({
            let drain = drain.clone();
            async move { drain.over().await }
        });
        tokio::task::yield_now().await;
        drain.stop(now);
        over.await.unwrap();
        assert_eq!(now.elapsed().as_secs(), 0);
    }
}
