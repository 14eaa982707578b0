//! What others changed in the store, applied here: caches forget, the registry reads again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Mutex;

use crate::base::clock::Clock;
use crate::clients::registry::Registry;
use crate::store::{Change, ChangeFeed};
use crate::tokens::StoreUnavailable;
use crate::tokens::verify::Verifier;

/// Follows the change feed of the store.
pub(super) struct Changes {
    feed: Arc<dyn ChangeFeed>,
    verifier: Arc<Verifier>,
    clients: Arc<Registry>,
    clock: Clock,
    /// Held from the question until the answer is applied: whoever is told "nothing new" can rely on it.
    one_at_a_time: Mutex<()>,
    /// A change of clients could not be read: all are read again.
    clients_overdue: AtomicBool,
}

impl Changes {
    pub(super) fn new(
        feed: Arc<dyn ChangeFeed>,
        verifier: Arc<Verifier>,
        clients: Arc<Registry>,
        clock: Clock,
    ) -> Self {
        Self {
            feed,
            verifier,
            clients,
            clock,
            one_at_a_time: Mutex::new(()),
            clients_overdue: AtomicBool::new(false),
        }
    }

    /// Applies all that was committed before this call.
    ///
    /// # Errors
    /// When the store cannot tell. What is cached then lives for `cache_ttl` at most.
    pub(super) async fn catch_up(&self) -> Result<(), StoreUnavailable> {
        let _turn = self.one_at_a_time.lock().await;
        let asked = self.clock.now();
        let changes = match self.feed.poll().await {
            Ok(changes) => changes,
            Err(error) => {
                self.verifier.store_answered(false);
                return Err(error);
            }
        };
        for change in changes {
            self.apply(change).await;
        }
        if self.clients_overdue.load(Ordering::Acquire) {
            self.read_all_clients().await;
        }
        if !self.clients_overdue.load(Ordering::Acquire) {
            self.verifier.heard(asked);
        }
        Ok(())
    }

    /// For the regular round: a failure is told once, by the store's state.
    pub(super) async fn catch_up_or_warn(&self) {
        if let Err(error) = self.catch_up().await {
            tracing::debug!(%error, "the store was not heard");
        }
    }

    async fn apply(&self, change: Change) {
        match change {
            Change::Token(hash) => self.verifier.forget(&hash),
            Change::Client(id) => {
                self.verifier.forget_client(&id);
                if let Err(error) = self.clients.refresh(&id).await {
                    tracing::warn!(%error, client = id.as_str(), "a changed client could not be read");
                    self.clients_overdue.store(true, Ordering::Release);
                }
            }
            Change::Everything => {
                self.verifier.forget_all();
                self.read_all_clients().await;
            }
        }
    }

    async fn read_all_clients(&self) {
        let read = self.clients.load().await;
        if let Err(error) = &read {
            tracing::warn!(%error, "the clients could not be read again");
        }
        self.clients_overdue.store(read.is_err(), Ordering::Release);
    }
}
