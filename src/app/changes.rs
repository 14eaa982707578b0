//! What others changed in the store, applied here: caches forget, the registry reads again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Mutex;

use crate::base::clock::Clock;
use crate::base::oauth::ClientId;
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
                // Once, with its reason; what follows from it the verifier tells.
                if !self.verifier.store_is_away() {
                    tracing::error!(%error, "the store cannot be heard");
                }
                self.verifier.store_answered(false);
                return Err(error);
            }
        };
        // Nothing is awaited until all of it is forgotten, and what is to be read is on record: whoever
        // gives up waiting for this, a command's time-out for one, loses no revocation.
        let to_read = self.forget(changes);
        self.read_clients(to_read).await;
        if self.clients_overdue.load(Ordering::Acquire) {
            return Err(StoreUnavailable("changed clients could not be read".into()));
        }
        self.verifier.heard(asked);
        Ok(())
    }

    /// For the regular round: a failure is told once, by the store's state.
    pub(super) async fn catch_up_or_warn(&self) {
        if let Err(error) = self.catch_up().await {
            tracing::debug!(%error, "the store was not heard");
        }
    }

    /// Ends what is cached of what changed. Gives the clients to read again, or none when all must be,
    /// and puts on record that they must.
    fn forget(&self, changes: Vec<Change>) -> Vec<ClientId> {
        let mut to_read = Vec::new();
        let mut all = self.clients_overdue.load(Ordering::Acquire);
        for change in changes {
            match change {
                Change::Token(hash) => self.verifier.forget(&hash),
                Change::Client(id) => {
                    self.verifier.forget_client(&id);
                    to_read.push(id);
                }
                Change::Everything => {
                    self.verifier.forget_all();
                    all = true;
                }
            }
        }
        if all {
            to_read.clear();
        }
        self.clients_overdue
            .store(all || !to_read.is_empty(), Ordering::Release);
        to_read
    }

    /// Reads these clients again, or all that there are when none is named and some are overdue.
    async fn read_clients(&self, to_read: Vec<ClientId>) {
        if to_read.is_empty() {
            if self.clients_overdue.load(Ordering::Acquire) {
                self.read_all_clients().await;
            }
            return;
        }
        for id in to_read {
            if let Err(error) = self.clients.refresh(&id).await {
                tracing::warn!(%error, client = id.as_str(), "a changed client could not be read");
                return;
            }
        }
        self.clients_overdue.store(false, Ordering::Release);
    }

    async fn read_all_clients(&self) {
        let read = self.clients.load().await;
        if let Err(error) = &read {
            tracing::warn!(%error, "the clients could not be read again");
        }
        self.clients_overdue.store(read.is_err(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;
    use tokio::runtime::Handle;

    use super::*;
    use crate::base::clock::UnixMillis;
    use crate::base::oauth::Scopes;
    use crate::clients::tests_support::MemoryClients;
    use crate::tokens::issue::issue;
    use crate::tokens::tests_support::MemoryTokens;
    use crate::tokens::verify::{Verdict, Watcher};
    use crate::tokens::{PresentedToken, Revocation, Settings, TokenStore};

    struct Once(std::sync::Mutex<Vec<Change>>);

    #[async_trait]
    impl ChangeFeed for Once {
        async fn poll(&self) -> Result<Vec<Change>, StoreUnavailable> {
            Ok(std::mem::take(&mut *self.0.lock().unwrap()))
        }
    }

    struct Nobody;

    impl Watcher for Nobody {
        fn looked_up(&self, _: &Verdict) {}
        fn store_read(&self, _: bool) {}
        fn store_is_up(&self, _: bool) {}
    }

    #[tokio::test]
    async fn a_round_that_is_given_up_loses_no_revocation() {
        let clock = Clock::manual(UnixMillis(1_800_000_000_000));
        let now = clock.now();
        let tokens = Arc::new(MemoryTokens::default());
        let stored = Arc::new(MemoryClients::new());
        let clients = Arc::new(Registry::new(Vec::new(), stored.clone()));
        clients.load().await.unwrap();
        let verifier = Verifier::new(
            &Settings::default(),
            tokens.clone(),
            Handle::current(),
            clock.clone(),
            Arc::new(Nobody),
        );
        let id = ClientId::parse("demo").unwrap();
        let issued = issue(
            &*tokens,
            &id,
            Scopes::default(),
            Duration::from_secs(60),
            now.wall(),
        )
        .await
        .unwrap();
        let token = PresentedToken::parse(issued.token.expose()).unwrap();
        assert!(verifier.verify(&token, now).await.unwrap().is_some());
        tokens
            .revoke(Revocation::Hash(token.hash), now.wall())
            .await
            .unwrap();

        let other = ClientId::parse("other").unwrap();
        let told = vec![Change::Client(other), Change::Token(token.hash)];
        let feed = Arc::new(Once(std::sync::Mutex::new(told)));
        let changes = Changes::new(feed, Arc::clone(&verifier), clients, clock.clone());
        // The client cannot be read now: the round waits, and whoever asked for it gives up.
        stored.hold();
        let given_up = tokio::time::timeout(Duration::from_millis(20), changes.catch_up()).await;
        assert!(given_up.is_err());
        assert!(verifier.verify(&token, now).await.unwrap().is_none());

        // What was not read is still owed, and made up for by the next round.
        stored.down.store(true, Ordering::SeqCst);
        stored.let_go(10);
        changes.catch_up().await.unwrap_err();
        stored.down.store(false, Ordering::SeqCst);
        changes.catch_up().await.unwrap();
    }
}
