//! Does a presented secret prove a client: without telling an unknown id from a wrong secret, and
//! without letting secrets that cost milliseconds to check hold up the threads that serve.
//!
//! A right secret is found as cheaply as its digest allows. Every failure costs the same work, that
//! of the costliest client, whoever was named: time tells nothing about which ids exist.

use std::num::NonZeroU32;
use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use moka::sync::Cache;
use tokio::sync::Semaphore;

use super::{Client, SecretDigest};
use crate::base::clock::UnixMillis;
use crate::base::secret::Secret;

/// PBKDF2 rounds up to which a check is done where it stands: some tens of microseconds.
const CHEAP_ROUNDS: u32 = 100;
/// Costly checks at one time.
const AT_ONCE: usize = 2;
/// Costly checks that may wait behind them: about half a second of work. More is a flood.
const WAITING: usize = 48;
/// Secrets remembered as verified.
const REMEMBERED: u64 = 1024;

/// Why a secret proved nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unproven {
    /// No such client, or not its secret.
    #[error("the client is unknown or its secret is wrong")]
    Wrong,
    /// Too many checks are waiting.
    #[error("too many secrets are waiting to be checked")]
    Busy,
}

/// Checks presented secrets.
pub(super) struct Prover {
    /// Of this process alone, so that what is remembered says nothing about a secret.
    key: hmac::Key,
    /// Costly secrets that were right, bound to the digest they were checked against: an entry of a
    /// secret that was rotated or removed can match nothing.
    verified: Cache<[u8; 32], ()>,
    lane: Arc<Semaphore>,
    queue: Arc<Semaphore>,
    /// What the checks that nobody's digest asks for are done with.
    dummy_salt: [u8; 16],
}

/// The rounds it takes to try every secret of a client in vain.
pub(super) fn rounds_of(client: &Client) -> u32 {
    let rounds = client.secrets.iter().map(|secret| rounds(&secret.digest));
    rounds.fold(0, u32::saturating_add)
}

fn rounds(digest: &SecretDigest) -> u32 {
    match digest {
        SecretDigest::Configured(_) => 0,
        SecretDigest::Hashed { iterations, .. } => iterations.get(),
    }
}

impl Prover {
    /// A prover with a key of its own.
    pub(super) fn new() -> Self {
        let mut key = [0; 32];
        let mut dummy_salt = [0; 16];
        let random = SystemRandom::new();
        // Without random bytes the memo stays keyed with zeros, and still holds no secret in clear;
        // nothing could be issued in such a process anyway.
        let _ = random
            .fill(&mut key)
            .and_then(|()| random.fill(&mut dummy_salt));
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            verified: Cache::new(REMEMBERED),
            lane: Arc::new(Semaphore::new(AT_ONCE)),
            queue: Arc::new(Semaphore::new(AT_ONCE + WAITING)),
            dummy_salt,
        }
    }

    /// Whether `presented` is a secret of `client` that holds at `now`. A failure, also for no
    /// client at all, takes `ceiling` rounds, which must be at least [`rounds_of`] any client.
    pub(super) async fn prove(
        &self,
        client: Option<&Client>,
        presented: &str,
        ceiling: u32,
        now: UnixMillis,
    ) -> Result<(), Unproven> {
        let (cheap, costly): (Vec<_>, Vec<_>) =
            live_digests(client, now).partition(|digest| rounds(digest) <= CHEAP_ROUNDS);
        let marks: Vec<_> = costly
            .iter()
            .map(|digest| self.mark(digest, presented))
            .collect();
        let remembered = |mark: &[u8; 32]| self.verified.contains_key(mark);
        // No early end: which of several secrets is right stays untold.
        let right = cheap
            .iter()
            .fold(false, |found, digest| found | digest.matches(presented));
        if right || marks.iter().flatten().any(remembered) {
            return Ok(());
        }
        let spent = cheap.iter().map(|digest| rounds(digest)).sum();
        let left = ceiling.saturating_sub(spent);
        let costly = costly.into_iter().cloned().collect();
        match self.try_costly(costly, presented, left).await? {
            Some(at) => {
                if let Some(mark) = marks.get(at).copied().flatten() {
                    self.verified.insert(mark, ());
                }
                Ok(())
            }
            None => Err(Unproven::Wrong),
        }
    }

    /// Tries the costly digests, then works off what is left of `rounds_left`; the position of the
    /// digest that matched.
    async fn try_costly(
        &self,
        digests: Vec<SecretDigest>,
        presented: &str,
        rounds_left: u32,
    ) -> Result<Option<usize>, Unproven> {
        let work = Work {
            digests,
            presented: Secret::new(presented.to_owned()),
            rounds_left,
            dummy_salt: self.dummy_salt,
        };
        if rounds_left <= CHEAP_ROUNDS {
            return Ok(work.run());
        }
        let _place = self.queue.try_acquire().map_err(|_| Unproven::Busy)?;
        let permit = Arc::clone(&self.lane).acquire_owned().await;
        let permit = permit.map_err(|_| Unproven::Busy)?;
        // The permit goes along: work whose caller went away still counts as running.
        tokio::task::spawn_blocking(move || {
            let found = work.run();
            drop(permit);
            found
        })
        .await
        .map_err(|_| Unproven::Busy)
    }

    /// What is remembered of a secret that was right: a keyed hash over secret and digest, which
    /// no one outside this process can compute. `None` for what is not stored.
    fn mark(&self, digest: &SecretDigest, presented: &str) -> Option<[u8; 32]> {
        let stored = digest.to_stored()?;
        let mut context = hmac::Context::with_key(&self.key);
        context.update(stored.as_bytes());
        // Stored digests hold no NUL, so the two parts cannot be shifted against each other.
        context.update(&[0]);
        context.update(presented.as_bytes());
        let mut mark = [0; 32];
        mark.copy_from_slice(context.sign().as_ref());
        Some(mark)
    }
}

fn live_digests(client: Option<&Client>, now: UnixMillis) -> impl Iterator<Item = &SecretDigest> {
    client
        .into_iter()
        .flat_map(|client| &client.secrets)
        .filter(move |secret| secret.expires.is_none_or(|end| now < end))
        .map(|secret| &secret.digest)
}

/// One attempt's costly part.
struct Work {
    digests: Vec<SecretDigest>,
    presented: Secret,
    rounds_left: u32,
    dummy_salt: [u8; 16],
}

impl Work {
    fn run(self) -> Option<usize> {
        let mut left = self.rounds_left;
        for (at, digest) in self.digests.iter().enumerate() {
            if digest.matches(self.presented.expose()) {
                return Some(at);
            }
            left = left.saturating_sub(rounds(digest));
        }
        if let Some(iterations) = NonZeroU32::new(left) {
            let dummy = SecretDigest::Hashed {
                salt: self.dummy_salt,
                iterations,
                hash: [0; 32],
            };
            // The result is nobody's; the optimizer must not see that.
            let _ = std::hint::black_box(dummy.matches(self.presented.expose()));
        }
        None
    }
}
