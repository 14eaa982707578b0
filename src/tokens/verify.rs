//! Is this token good? The cache answers, else the store, read once for however many ask.
//!
//! # A revocation cannot be undone by a race
//! A lookup is cached only if it is still the one on record when it ends. Whoever revokes takes it off
//! the record, under the same lock, so that what a lookup read before the revocation is dropped and
//! those who waited for it look again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::cache::{Cache, Known, TokenFacts};
use super::recent::Recent;
use super::{PresentedToken, Settings, TokenClaim, TokenHash, TokenStore};
use crate::base::clock::{Clock, Now};
use crate::base::oauth::ClientId;

/// Whether the token is good cannot be told, because the store is away. Never to be read as "no".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token store is away")]
pub struct StoreAway;

/// What the cache could say without waiting.
#[derive(Debug)]
pub enum Verdict {
    /// The token is good.
    Good(Arc<TokenFacts>),
    /// It is unknown, expired or revoked.
    Bad,
    /// Ask [`Verifier::verify`].
    Unsure,
}

/// Called on what the verifier does, for metrics.
pub trait Watcher: Send + Sync {
    /// The cache was asked.
    fn looked_up(&self, verdict: &Verdict);
    /// The store was read; `ok` if it answered.
    fn store_read(&self, ok: bool);
    /// The store went away or came back.
    fn store_is_up(&self, up: bool);
}

/// How one lookup ended, for all who wait for it.
#[derive(Clone, Debug)]
enum Outcome {
    Found(Option<Arc<TokenFacts>>),
    StoreAway,
    /// Something changed while it ran: ask again.
    Superseded,
}

/// What somebody finds who wants to wait for a lookup.
enum Joined {
    Running(watch::Receiver<Option<Outcome>>),
    /// It has just ended with this.
    Ended(Option<Arc<TokenFacts>>),
}

struct Lookup {
    outcome: watch::Sender<Option<Outcome>>,
}

/// Tells good tokens from bad ones. Shared by every worker and the endpoints.
pub struct Verifier {
    cache: Cache,
    cache_ttl: Duration,
    store: Arc<dyn TokenStore>,
    /// Where lookups run, so that a caller that hangs up does not end one for the others.
    runtime: Handle,
    clock: Clock,
    watcher: Arc<dyn Watcher>,
    /// The lookups on record; held only for a moment, never across an await.
    lookups: Mutex<HashMap<TokenHash, Arc<Lookup>>>,
    /// Facts of an older generation are not believed.
    generation: AtomicU64,
    /// Counts what was forgotten: tables of workers belong to one epoch.
    epoch: AtomicU64,
    /// When the change feed was last heard from, in monotonic nanoseconds; zero: never.
    heard_nanos: AtomicU64,
    store_away: AtomicBool,
}

impl Verifier {
    /// A verifier over `store`; its lookups run on `runtime`.
    #[must_use]
    pub fn new(
        settings: &Settings,
        store: Arc<dyn TokenStore>,
        runtime: Handle,
        clock: Clock,
        watcher: Arc<dyn Watcher>,
    ) -> Arc<Self> {
        Arc::new(Self {
            cache: Cache::new(settings),
            cache_ttl: settings.cache_ttl,
            store,
            runtime,
            clock,
            watcher,
            lookups: Mutex::new(HashMap::new()),
            generation: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            heard_nanos: AtomicU64::new(0),
            store_away: AtomicBool::new(false),
        })
    }

    /// What is known without waiting: a plain call, no store read.
    #[must_use]
    pub fn cached(&self, token: &PresentedToken, now: Now) -> Verdict {
        let verdict = self.known(&token.hash, now);
        self.watcher.looked_up(&verdict);
        verdict
    }

    fn known(&self, hash: &TokenHash, now: Now) -> Verdict {
        match self.cache.look(hash, now.wall()) {
            Known::Good(facts) if self.still_believed(&facts, now) => Verdict::Good(facts),
            Known::Unknown => Verdict::Bad,
            Known::Good(_) | Known::Nothing => Verdict::Unsure,
        }
    }

    /// The same through a worker's own table. What stands there was a good token; anything else goes on
    /// only if its checksum fits.
    #[must_use]
    pub fn cached_through(&self, recent: &Recent, claim: &TokenClaim<'_>, now: Now) -> Verdict {
        let epoch = self.epoch.load(Ordering::Acquire);
        if let Some(facts) = recent.get(claim.hash(), epoch)
            && now.wall() < facts.expires()
            && self.still_believed(&facts, now)
        {
            let verdict = Verdict::Good(facts);
            self.watcher.looked_up(&verdict);
            return verdict;
        }
        let Some(token) = claim.check() else {
            return Verdict::Bad;
        };
        let verdict = self.cached(&token, now);
        if let Verdict::Good(facts) = &verdict {
            recent.keep(token.hash, facts, epoch);
        }
        verdict
    }

    /// Facts are good for `cache_ttl` after they were last confirmed: by the read itself, or by a
    /// change feed that was heard from since (contract §4).
    fn still_believed(&self, facts: &TokenFacts, now: Now) -> bool {
        let confirmed = facts
            .read_nanos
            .max(self.heard_nanos.load(Ordering::Acquire));
        let age = Duration::from_nanos(now.mono_nanos.saturating_sub(confirmed));
        facts.generation == self.generation.load(Ordering::Acquire) && age <= self.cache_ttl
    }

    /// Whether the token is good, reading the store if the cache cannot tell. However many ask at
    /// once, the store is read once. May be dropped at any time; the read goes on for the others.
    ///
    /// # Errors
    /// [`StoreAway`] when the store cannot answer; that is never cached.
    pub async fn verify(
        self: &Arc<Self>,
        token: &PresentedToken,
        now: Now,
    ) -> Result<Option<Arc<TokenFacts>>, StoreAway> {
        match self.cached(token, now) {
            Verdict::Good(facts) => Ok(Some(facts)),
            Verdict::Bad => Ok(None),
            Verdict::Unsure => self.look_up(token.hash).await,
        }
    }

    /// The part of [`verify`](Self::verify) behind the cache.
    ///
    /// # Errors
    /// As there.
    pub async fn look_up(
        self: &Arc<Self>,
        hash: TokenHash,
    ) -> Result<Option<Arc<TokenFacts>>, StoreAway> {
        loop {
            let mut outcome = match self.join_lookup(hash) {
                Joined::Ended(facts) => return Ok(facts),
                Joined::Running(outcome) => outcome,
            };
            let ended = outcome
                .wait_for(Option::is_some)
                .await
                .map(|value| value.clone());
            match ended {
                Ok(Some(Outcome::Found(facts))) => return Ok(facts),
                Ok(Some(Outcome::Superseded)) => {}
                Ok(Some(Outcome::StoreAway) | None) | Err(_) => return Err(StoreAway),
            }
        }
    }

    /// Joins the lookup on record for `hash`, or puts one there and starts it.
    fn join_lookup(self: &Arc<Self>, hash: TokenHash) -> Joined {
        let mut lookups = self.lookups();
        if let Some(lookup) = lookups.get(&hash) {
            return Joined::Running(lookup.outcome.subscribe());
        }
        // One that ended since the caller looked into the cache has left its answer there, under this lock.
        match self.known(&hash, self.clock.now()) {
            Verdict::Good(facts) => return Joined::Ended(Some(facts)),
            Verdict::Bad => return Joined::Ended(None),
            Verdict::Unsure => {}
        }
        let (sender, receiver) = watch::channel(None);
        let lookup = Arc::new(Lookup { outcome: sender });
        lookups.insert(hash, Arc::clone(&lookup));
        let generation = self.generation.load(Ordering::Acquire);
        let run = OnRecord {
            verifier: Arc::clone(self),
            hash,
            lookup,
        };
        self.runtime.spawn(run.read_store(generation));
        Joined::Running(receiver)
    }

    fn lookups(&self) -> MutexGuard<'_, HashMap<TokenHash, Arc<Lookup>>> {
        // A panic while the lock was held leaves at worst a lookup that is read again.
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets one token: the next request that shows it reads the store. To be called after the
    /// store's change and before it is acknowledged.
    pub fn forget(&self, hash: &TokenHash) {
        let mut lookups = self.lookups();
        lookups.remove(hash);
        self.cache.forget(hash);
        self.begin_epoch();
    }

    /// After something was taken out of the cache: whoever read it there before reads an epoch that is
    /// over.
    fn begin_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Forgets every token of one client.
    pub fn forget_client(&self, client_id: &ClientId) {
        let mut lookups = self.lookups();
        lookups.clear();
        self.cache.forget_client(client_id);
        self.begin_epoch();
    }

    /// Forgets everything.
    pub fn forget_all(&self) {
        let mut lookups = self.lookups();
        lookups.clear();
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.cache.forget_all();
        self.begin_epoch();
    }

    /// The change feed answered: what changed before `asked` has been applied, so everything cached
    /// is confirmed as of then.
    pub fn heard(&self, asked: Now) {
        self.heard_nanos
            .fetch_max(asked.mono_nanos, Ordering::AcqRel);
        self.store_answered(true);
    }

    /// The store was asked something and answered or did not.
    pub fn store_answered(&self, answered: bool) {
        if self.store_away.swap(!answered, Ordering::AcqRel) == answered {
            self.watcher.store_is_up(answered);
        }
    }

    /// Whether the store is known to be away.
    #[must_use]
    pub fn store_is_away(&self) -> bool {
        self.store_away.load(Ordering::Acquire)
    }

    /// How many good tokens are cached.
    #[must_use]
    pub fn cached_tokens(&self) -> u64 {
        self.cache.entries()
    }
}

/// A lookup that runs. Dropped on whatever way out, it leaves the record and tells who waits.
struct OnRecord {
    verifier: Arc<Verifier>,
    hash: TokenHash,
    lookup: Arc<Lookup>,
}

impl OnRecord {
    async fn read_store(self, generation: u64) {
        let verifier = &self.verifier;
        let found = verifier.store.find(&self.hash).await;
        verifier.watcher.store_read(found.is_ok());
        verifier.store_answered(found.is_ok());
        match found {
            Ok(record) => {
                let now = verifier.clock.now();
                let facts = record
                    .filter(|record| record.is_live(now.wall()))
                    .and_then(|record| verifier.cache.grants.facts(record, generation, now))
                    .map(Arc::new);
                self.end(Outcome::Found(facts));
            }
            Err(error) => {
                tracing::warn!(error = %error, "a token could not be looked up");
                self.end(Outcome::StoreAway);
            }
        }
    }

    fn end(&self, outcome: Outcome) {
        let mut lookups = self.verifier.lookups();
        let on_record = lookups
            .get(&self.hash)
            .is_some_and(|current| Arc::ptr_eq(current, &self.lookup));
        let outcome = match outcome {
            Outcome::Found(_) if !on_record => Outcome::Superseded,
            outcome => outcome,
        };
        if on_record {
            lookups.remove(&self.hash);
            if let Outcome::Found(facts) = &outcome {
                self.verifier.cache.keep(self.hash, facts.clone());
            }
        }
        drop(lookups);
        self.lookup.outcome.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(outcome);
            }
            first
        });
    }
}

impl Drop for OnRecord {
    /// Also when the read panicked: nobody waits for ever, and the next one reads again.
    fn drop(&mut self) {
        self.end(Outcome::StoreAway);
    }
}

#[cfg(test)]
#[path = "tests/verify.rs"]
mod tests;
