//! What a token is, from birth to refusal: its forms, how one is made, how one is recognised.
//! Knows nothing of clients' grants, of HTTP or of where tokens are kept; whoever keeps them
//! implements [`TokenStore`]. Read `verify.rs` first.

pub mod cache;
pub mod format;
pub mod issue;
pub mod recent;
#[cfg(test)]
pub(crate) mod tests_support;
pub mod verify;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::base::clock::UnixMillis;
use crate::base::oauth::{ClientId, Scopes};

pub use format::{PresentedToken, TokenClaim, TokenHash};

/// What `[tokens]` of the configuration says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Life of an access token whose issuer names none.
    pub access_token_ttl: Duration,
    /// Scopes of a client that names none.
    pub default_scope: Scopes,
    /// Most tokens kept in memory.
    pub cache_capacity: u64,
    /// How long a cached token is good after it was last confirmed.
    pub cache_ttl: Duration,
    /// How long an unknown token is remembered as unknown.
    pub negative_cache_ttl: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            access_token_ttl: Duration::from_secs(12 * 3600),
            default_scope: Scopes::parse("sudo").unwrap_or_default(),
            cache_capacity: 100_000,
            cache_ttl: Duration::from_secs(30),
            negative_cache_ttl: Duration::from_secs(5),
        }
    }
}

/// The public number of a token: what operators and backends name it by. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub i64);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A token to be kept: everything but its public number, which the store gives.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What is kept in place of the token.
    pub hash: TokenHash,
    /// The client it belongs to.
    pub client_id: ClientId,
    /// What it was given; what counts is what its client still has of it.
    pub scopes: Scopes,
    /// When it was made.
    pub issued: UnixMillis,
    /// From when on it is refused.
    pub expires: UnixMillis,
}

/// A token as the store keeps it: never the token itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its public number.
    pub id: TokenId,
    /// The client it belongs to.
    pub client_id: ClientId,
    /// What it was given.
    pub scopes: Scopes,
    /// When it was made.
    pub issued: UnixMillis,
    /// From when on it is refused.
    pub expires: UnixMillis,
    /// When it was revoked, if it was.
    pub revoked: Option<UnixMillis>,
}

impl TokenRecord {
    /// Whether the token is good at `now`: not revoked and not yet expired.
    #[must_use]
    pub fn is_live(&self, now: UnixMillis) -> bool {
        self.revoked.is_none() && now < self.expires
    }
}

/// Which tokens a revocation means.
#[derive(Clone, Debug)]
pub enum Revocation {
    /// The one with this hash.
    Hash(TokenHash),
    /// The one with this public number.
    Id(TokenId),
    /// All of this client.
    Client(ClientId),
    /// All that were issued before this instant.
    IssuedBefore(UnixMillis),
}

/// What keeping tokens can fail with. Says nothing about HTTP.
#[derive(Debug, thiserror::Error)]
#[error("the token store cannot answer: {0}")]
pub struct StoreUnavailable(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Where tokens are kept.
///
/// Every method may be dropped at any await; what was begun is then either wholly done or not at all.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// Keeps a new token, safely on disk when this returns, and gives its public number.
    async fn insert(&self, token: NewToken) -> Result<TokenId, StoreUnavailable>;

    /// The token with this hash, whatever its state; `None` when there never was one or it was pruned.
    async fn find(&self, hash: &TokenHash) -> Result<Option<TokenRecord>, StoreUnavailable>;

    /// The token with this public number.
    async fn find_by_id(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreUnavailable>;

    /// All tokens of `client_id`, or of everybody, the newest first; those that are no longer good at
    /// `now` only with `all`. At most `limit`, with public numbers below `before`.
    async fn list(
        &self,
        client_id: Option<&ClientId>,
        all: bool,
        now: UnixMillis,
        before: Option<TokenId>,
        limit: u32,
    ) -> Result<Vec<TokenRecord>, StoreUnavailable>;

    /// Revokes every live token that `which` means, safely on disk when this returns, and gives the
    /// hashes of those it ended; none means that there was nothing to revoke.
    async fn revoke(
        &self,
        which: Revocation,
        now: UnixMillis,
    ) -> Result<Vec<TokenHash>, StoreUnavailable>;

    /// Deletes at most `limit` tokens that ended before `before`, and says how many went.
    async fn prune(&self, before: UnixMillis, limit: u32) -> Result<u64, StoreUnavailable>;
}
