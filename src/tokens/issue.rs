//! A token's birth: made, its hash handed to the store, the token itself given out once.

use std::time::Duration;

use super::{NewToken, StoreUnavailable, TokenId, TokenStore, format};
use crate::base::clock::UnixMillis;
use crate::base::oauth::{ClientId, Scopes};
use crate::base::secret::Secret;

/// A token that was just made.
#[derive(Debug)]
pub struct Issued {
    /// The token; shown once and kept nowhere.
    pub token: Secret,
    /// Its public number.
    pub id: TokenId,
    /// What it was given.
    pub scopes: Scopes,
    /// When it was made.
    pub issued: UnixMillis,
    /// From when on it is refused.
    pub expires: UnixMillis,
}

/// Why no token could be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// It could not be kept.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
    /// The system gave no random bytes.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

/// Makes an access token of `client_id` that lives for `ttl`. It is safely kept when this returns.
///
/// # Errors
/// When the store cannot keep it, or there is no randomness; then no token exists.
pub async fn issue(
    store: &dyn TokenStore,
    client_id: &ClientId,
    scopes: Scopes,
    ttl: Duration,
    now: UnixMillis,
) -> Result<Issued, IssueError> {
    let (token, hash) = format::new_access_token().map_err(|_| IssueError::NoRandomness)?;
    let expires = now.plus(ttl);
    let kept = NewToken { hash, client_id: client_id.clone(), scopes: scopes.clone(), issued: now, expires };
    let id = store.insert(kept).await?;
    Ok(Issued { token, id, scopes, issued: now, expires })
}
