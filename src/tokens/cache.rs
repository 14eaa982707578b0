//! What was last learned of tokens, bounded: good ones and unknown ones apart, so that made-up
//! tokens cannot push out good ones. Keeps facts, never decisions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use moka::Expiry;

use super::{Settings, TokenHash, TokenRecord};
use crate::base::clock::{Now, UnixMillis};
use crate::base::oauth::{ClientId, Scopes};

/// What is known of a live token, with the header values that follow from it alone.
#[derive(Debug)]
pub struct TokenFacts {
    record: TokenRecord,
    client_id_value: HeaderValue,
    token_id_value: HeaderValue,
    scope_value: HeaderValue,
    /// When it was read from the store, in monotonic nanoseconds.
    pub(super) read_nanos: u64,
    /// Which generation of the cache it belongs to.
    pub(super) generation: u64,
    /// How long it still lived when it was read.
    life: Duration,
}

impl TokenFacts {
    /// Facts of `record` as read at `now`. `None` when a member cannot stand in a header, which
    /// [`ClientId`] and [`Scopes`] rule out for what was stored through them.
    pub(super) fn of(record: TokenRecord, generation: u64, now: Now) -> Option<Self> {
        Some(Self {
            client_id_value: HeaderValue::from_str(record.client_id.as_str()).ok()?,
            token_id_value: HeaderValue::from(record.id.0),
            scope_value: HeaderValue::from_str(&record.scopes.to_string()).ok()?,
            read_nanos: now.mono_nanos,
            generation,
            life: record.expires.since(now.wall()),
            record,
        })
    }

    /// The public record.
    #[must_use]
    pub fn record(&self) -> &TokenRecord {
        &self.record
    }

    /// The client it belongs to.
    #[must_use]
    pub fn client_id(&self) -> &ClientId {
        &self.record.client_id
    }

    /// What it was given; what counts is what its client still has of it.
    #[must_use]
    pub fn scopes(&self) -> &Scopes {
        &self.record.scopes
    }

    /// The client id as a header value.
    #[must_use]
    pub fn client_id_value(&self) -> &HeaderValue {
        &self.client_id_value
    }

    /// The public number as a header value.
    #[must_use]
    pub fn token_id_value(&self) -> &HeaderValue {
        &self.token_id_value
    }

    /// All its scopes as a header value.
    #[must_use]
    pub fn scope_value(&self) -> &HeaderValue {
        &self.scope_value
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
    unknown: moka::sync::Cache<TokenHash, ()>,
}

impl Cache {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            good: moka::sync::Cache::builder()
                .max_capacity(settings.cache_capacity)
                .expire_after(AtTokenExpiry)
                .build(),
            unknown: moka::sync::Cache::builder()
                .max_capacity(settings.cache_capacity)
                .time_to_live(settings.negative_cache_ttl)
                .build(),
        }
    }

    /// `now` ends entries whose token ended meanwhile, whatever the cache's own clock says.
    pub(super) fn look(&self, hash: &TokenHash, now: UnixMillis) -> Known {
        if let Some(facts) = self.good.get(hash) {
            return if now < facts.record.expires {
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
            None => self.unknown.insert(hash, ()),
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
