//! Who is registered: the clients of the file over those of the store, in memory, and the check of
//! a presented secret.
//!
//! Looking a client up is a plain call on a snapshot, fit for the data plane. Reads of the store
//! that renew the snapshot happen one at a time, so that an answer from before a change can never
//! replace the one from after it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, MutexGuard};

use super::proof::{Prover, Unproven, rounds_of};
use super::{Client, ClientStore, ClientStoreError};
use crate::base::clock::UnixMillis;
use crate::base::oauth::ClientId;

/// Why nobody was authenticated. Tells neither the id nor the secret, nor which of them was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticateError {
    /// The client is unknown, or the secret is not one of its own, or no longer.
    #[error("the client is unknown or its secret is wrong")]
    Wrong,
    /// Nothing can be said: the store is away, or too many secrets wait to be checked.
    #[error("the clients cannot be looked up at the moment")]
    Unavailable,
}

type Clients = HashMap<ClientId, Arc<Client>>;

/// What is known at one moment.
#[derive(Clone, Default)]
struct Snapshot {
    file: Arc<Clients>,
    stored: Arc<Clients>,
    /// The work that every failed check costs: that of the costliest client.
    ceiling: u32,
}

impl Snapshot {
    fn new(file: Arc<Clients>, stored: Arc<Clients>) -> Self {
        let all = file.values().chain(stored.values());
        let ceiling = all.map(|client| rounds_of(client)).max().unwrap_or(0);
        Self {
            file,
            stored,
            // An empty registry refuses in no less time than one with a client.
            ceiling: ceiling.max(1),
        }
    }

    fn get(&self, id: &ClientId) -> Option<&Arc<Client>> {
        self.file.get(id).or_else(|| self.stored.get(id))
    }
}

/// All registered clients.
pub struct Registry {
    store: Arc<dyn ClientStore>,
    now_known: ArcSwap<Snapshot>,
    /// Held over each read of the store and the change of the snapshot that follows.
    reading: Mutex<()>,
    /// Whether something of the store is not in the snapshot, as far as this registry was told:
    /// before the first load, and after a read that failed or was given up.
    overdue: AtomicBool,
    prover: Prover,
}

impl Registry {
    /// Knows the clients of the file at once, those of the store after [`load`](Self::load).
    #[must_use]
    pub fn new(file: Vec<Client>, store: Arc<dyn ClientStore>) -> Self {
        let snapshot = Snapshot::new(Arc::new(by_id(file)), Arc::default());
        Self {
            store,
            now_known: ArcSwap::from_pointee(snapshot),
            reading: Mutex::new(()),
            overdue: AtomicBool::new(true),
            prover: Prover::new(),
        }
    }

    /// The client of this id, the file's before the store's. Waits for nothing and locks nothing.
    #[must_use]
    pub fn get(&self, id: &ClientId) -> Option<Arc<Client>> {
        self.now_known.load().get(id).cloned()
    }

    /// Whether clients of the store may be missing here, as far as this registry was told: then an
    /// unknown id proves nothing.
    #[must_use]
    pub fn may_lack_some(&self) -> bool {
        self.overdue.load(Ordering::Acquire)
    }

    /// Reads all clients of the store: at start, and when it cannot be told which have changed.
    ///
    /// # Errors
    /// When the store cannot answer; the old snapshot stays, and nobody is authenticated until a
    /// load succeeds.
    pub async fn load(&self) -> Result<(), ClientStoreError> {
        let reading = self.reading.lock().await;
        self.load_under(reading).await
    }

    /// Reads one client again after it was added, rotated or removed.
    ///
    /// # Errors
    /// When the store cannot answer; as for [`load`](Self::load).
    pub async fn refresh(&self, id: &ClientId) -> Result<(), ClientStoreError> {
        let _reading = self.reading.lock().await;
        let unfinished = Unfinished(&self.overdue);
        let found = self.store.find(id).await?;
        self.change(|known| {
            let mut stored = Clients::clone(&known.stored);
            match &found {
                Some(client) => stored.insert(id.clone(), Arc::new(client.clone())),
                None => stored.remove(id),
            };
            Snapshot::new(Arc::clone(&known.file), Arc::new(stored))
        });
        unfinished.done();
        Ok(())
    }

    /// Puts other clients in place of those of the file, all at once.
    pub fn replace_file_clients(&self, file: Vec<Client>) {
        let file = Arc::new(by_id(file));
        self.change(|known| Snapshot::new(Arc::clone(&file), Arc::clone(&known.stored)));
    }

    /// The client that `id` and `secret` prove. Takes milliseconds for a secret that somebody
    /// chose, off the threads that serve; an unknown id and a wrong secret read and take alike.
    ///
    /// # Errors
    /// [`AuthenticateError::Wrong`] when they prove nothing, [`AuthenticateError::Unavailable`] when
    /// that cannot be said.
    pub async fn authenticate(
        &self,
        id: &str,
        secret: &str,
        now: UnixMillis,
    ) -> Result<Arc<Client>, AuthenticateError> {
        self.catch_up().await?;
        let known = self.now_known.load_full();
        let client = ClientId::parse(id).ok().and_then(|id| known.get(&id));
        let proof = self
            .prover
            .prove(client.map(AsRef::as_ref), secret, known.ceiling, now)
            .await;
        match (proof, client) {
            (Ok(()), Some(client)) => Ok(Arc::clone(client)),
            (Ok(()), None) | (Err(Unproven::Wrong), _) => Err(AuthenticateError::Wrong),
            (Err(Unproven::Busy), _) => Err(AuthenticateError::Unavailable),
        }
    }

    /// Makes sure that no known change is missing, so that a secret that was rotated away while the
    /// store could not be read proves nothing. One caller reads; others are not made to queue
    /// behind a store that does not answer.
    async fn catch_up(&self) -> Result<(), AuthenticateError> {
        if !self.overdue.load(Ordering::Acquire) {
            return Ok(());
        }
        let unavailable = AuthenticateError::Unavailable;
        let reading = self.reading.try_lock().map_err(|_| unavailable)?;
        self.load_under(reading).await.map_err(|_| unavailable)
    }

    async fn load_under(&self, _reading: MutexGuard<'_, ()>) -> Result<(), ClientStoreError> {
        let unfinished = Unfinished(&self.overdue);
        let stored = Arc::new(by_id(self.store.list().await?));
        self.change(|known| Snapshot::new(Arc::clone(&known.file), Arc::clone(&stored)));
        unfinished.done();
        // Only a whole reading makes up for whatever was missed before.
        self.overdue.store(false, Ordering::Release);
        Ok(())
    }

    /// File and store change independently: neither overwrites what the other has just set.
    fn change(&self, next: impl Fn(&Snapshot) -> Snapshot) {
        self.now_known.rcu(|known| next(known));
    }
}

/// Says that the snapshot misses something, unless the reading comes to its end.
struct Unfinished<'a>(&'a AtomicBool);

impl Unfinished<'_> {
    fn done(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn by_id(clients: Vec<Client>) -> Clients {
    clients
        .into_iter()
        .map(|client| (client.id.clone(), Arc::new(client)))
        .collect()
}

#[cfg(test)]
#[path = "tests/registry.rs"]
mod tests;
