//! What was last learned of tokens, bounded: good ones and unknown ones apart, so that made-up
//! tokens cannot push out good ones. Keeps facts, never decisions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use http::HeaderValue;
use moka::Expiry;

use super::{Settings, TokenHash, TokenId, TokenRecord};
use crate::base::clock::{Now, UnixMillis};
use crate::base::oauth::{ClientId, Scopes};

/// What is known of a live token: little, so that many fit; what tokens have in common is kept once.
#[derive(Debug)]
pub struct TokenFacts {
    id: TokenId,
    expires: UnixMillis,
    /// When it was read from the store, in monotonic nanoseconds.
    pub(super) read_nanos: u64,
    /// Which generation of the cache it belongs to.
    pub(super) generation: u64,
    /// How long it still lived when it was read.
    life: Duration,
    grant: Arc<Grant>,
}

/// What all tokens of one client with the same scopes have in common, with the header values that
/// follow from it.
#[derive(Debug)]
struct Grant {
    client_id: ClientId,
    scopes: Scopes,
    client_id_value: HeaderValue,
    scope_value: HeaderValue,
}

impl TokenFacts {
    /// The public number.
    #[must_use]
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// From when on it is refused.
    #[must_use]
    pub fn expires(&self) -> UnixMillis {
        self.expires
    }

    /// The client it belongs to.
    #[must_use]
    pub fn client_id(&self) -> &ClientId {
        &self.grant.client_id
    }

    /// What it was given; what counts is what its client still has of it.
    #[must_use]
    pub fn scopes(&self) -> &Scopes {
        &self.grant.scopes
    }

    /// The client id as a header value.
    #[must_use]
    pub fn client_id_value(&self) -> &HeaderValue {
        &self.grant.client_id_value
    }

    /// All its scopes as a header value.
    #[must_use]
    pub fn scope_value(&self) -> &HeaderValue {
        &self.grant.scope_value
    }
}

/// The grants of all cached tokens, each once.
#[derive(Default)]
pub(super) struct Grants(Mutex<HashMap<(ClientId, String), Weak<Grant>>>);

impl Grants {
    /// Grants that no token has any more are swept out when there are more than so many.
    const SWEEP_AT: usize = 1024;

    /// Facts of `record` as read at `now`. `None` when a member cannot stand in a header, which
    /// [`ClientId`] and [`Scopes`] rule out for what was stored through them.
    pub(super) fn facts(
        &self,
        record: TokenRecord,
        generation: u64,
        now: Now,
    ) -> Option<TokenFacts> {
        Some(TokenFacts {
            id: record.id,
            expires: record.expires,
            read_nanos: now.mono_nanos,
            generation,
            life: record.expires.since(now.wall()),
            grant: self.grant(record.client_id, record.scopes)?,
        })
    }

    fn grant(&self, client_id: ClientId, scopes: Scopes) -> Option<Arc<Grant>> {
        let key = (client_id.clone(), scopes.to_string());
        // A panic while the lock was held leaves at worst a grant that is made again.
        let mut grants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(grant) = grants.get(&key).and_then(Weak::upgrade) {
            return Some(grant);
        }
        if grants.len() >= Self::SWEEP_AT && grants.len().is_power_of_two() {
            grants.retain(|_, grant| grant.strong_count() > 0);
        }
        let grant = Arc::new(Grant {
            client_id_value: HeaderValue::from_str(client_id.as_str()).ok()?,
            scope_value: HeaderValue::from_str(&key.1).ok()?,
            client_id,
            scopes,
        });
        grants.insert(key, Arc::downgrade(&grant));
        Some(grant)
    }
}

/// Ends an entry when its token ends.
struct AtTokenExpiry;

impl Expiry<TokenHash, Arc<TokenFacts>> for AtTokenExpiry {
    fn expire_after_create(
        &self,
        _: &TokenHash,
        facts: &Arc<TokenFacts>,
        _: Instant,
    ) -> Option<Duration> {
        Some(facts.life)
    }
}

/// What the cache says of a token.
#[derive(Debug)]
pub(super) enum Known {
    /// Good when last read; whether that is still to be trusted the verifier decides.
    Good(Arc<TokenFacts>),
    /// The store did not know it, or knew it as ended.
    Unknown,
    /// Nothing is known.
    Nothing,
}

pub(super) struct Cache {
    good: moka::sync::Cache<TokenHash, Arc<TokenFacts>>,
    pub(super) grants: Grants,
    unknown: moka::sync::Cache<TokenHash, ()>,
}

impl Cache {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            good: moka::sync::Cache::builder()
                .max_capacity(settings.cache_capacity)
                .expire_after(AtTokenExpiry)
                .build(),
            grants: Grants::default(),
            unknown: moka::sync::Cache::builder()
                .max_capacity(settings.cache_capacity)
                .time_to_live(settings.negative_cache_ttl)
                .build(),
        }
    }

    /// `now` ends entries whose token ended meanwhile, whatever the cache's own clock says.
    pub(super) fn look(&self, hash: &TokenHash, now: UnixMillis) -> Known {
        if let Some(facts) = self.good.get(hash) {
            return if now < facts.expires {
                Known::Good(facts)
            } else {
                Known::Unknown
            };
        }
        if self.unknown.contains_key(hash) {
            Known::Unknown
        } else {
            Known::Nothing
        }
    }

    pub(super) fn keep(&self, hash: TokenHash, facts: Option<Arc<TokenFacts>>) {
        match facts {
            Some(facts) => self.good.insert(hash, facts),
            None => {
                // Good ones are asked first: what was good must not outlive the store's "no".
                self.good.invalidate(&hash);
                self.unknown.insert(hash, ());
            }
        }
    }

    pub(super) fn forget(&self, hash: &TokenHash) {
        self.good.invalidate(hash);
        self.unknown.invalidate(hash);
    }

    pub(super) fn forget_client(&self, client_id: &ClientId) {
        for (hash, facts) in &self.good {
            if facts.client_id() == client_id {
                self.good.invalidate(&*hash);
            }
        }
    }

    pub(super) fn forget_all(&self) {
        self.good.invalidate_all();
        self.unknown.invalidate_all();
    }

    pub(super) fn entries(&self) -> u64 {
        // The count is brought up to date only with the cache's own housekeeping.
        self.good.run_pending_tasks();
        self.good.entry_count()
    }
}
