//! Registered clients: who they are, how they prove it, what they may do. Knows nothing of tokens
//! or HTTP; whoever keeps clients implements [`ClientStore`]. Read `registry.rs` first.

pub mod grants;
mod proof;
pub mod registry;
pub mod secret;
#[cfg(test)]
pub(crate) mod tests_support;

use async_trait::async_trait;

use crate::base::clock::UnixMillis;
use crate::base::oauth::{ClientId, Scopes};

pub use grants::{SudoGrant, TenantGrant};
pub use secret::SecretDigest;

/// Where a client is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `[[clients]]` of the configuration; shadows one of the same id in the store.
    File,
    /// Added by command or API.
    Store,
}

/// A secret that a client may present, and until when.
#[derive(Clone, Debug)]
pub struct ClientSecret {
    /// What is kept of it.
    pub digest: SecretDigest,
    /// From when on it is refused; `None`: never. Set when a secret was rotated with an overlap.
    pub expires: Option<UnixMillis>,
}

/// A registered client.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its identifier.
    pub id: ClientId,
    /// What it may prove itself with; several while a rotation overlaps.
    pub secrets: Vec<ClientSecret>,
    /// The scopes it has, in the spelling it was given.
    pub scopes: Scopes,
    /// The tenants it may act in.
    pub tenants: TenantGrant,
    /// Whom it may act as, if it has the scope for it.
    pub sudo: SudoGrant,
    /// Names of limits that apply to its requests beside those of the route.
    pub rate_limits: Vec<String>,
    /// Where it is written down.
    pub origin: Origin,
    /// When it was added to the store; `None` for one of the file.
    pub created: Option<UnixMillis>,
}

/// What keeping clients can fail with.
#[derive(Debug, thiserror::Error)]
pub enum ClientStoreError {
    /// A client of this id is there already.
    #[error("a client of this id is in the store already")]
    Exists,
    /// The store cannot answer.
    #[error("the client store cannot answer: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Where clients that are not in the file are kept. Whatever returns `Ok` is safely on disk.
#[async_trait]
pub trait ClientStore: Send + Sync {
    /// Keeps a new client. Tokens that are left of an earlier client of its id are revoked: they are
    /// not its own.
    ///
    /// # Errors
    /// [`ClientStoreError::Exists`] when the id is taken.
    async fn insert(&self, client: &Client, now: UnixMillis) -> Result<(), ClientStoreError>;

    /// The client of this id.
    async fn find(&self, id: &ClientId) -> Result<Option<Client>, ClientStoreError>;

    /// All clients, by id.
    async fn list(&self) -> Result<Vec<Client>, ClientStoreError>;

    /// Removes a client and revokes its tokens in one transaction; `false` when there was none.
    async fn remove(&self, id: &ClientId, now: UnixMillis) -> Result<bool, ClientStoreError>;

    /// Adds a secret; those it had end at `others_end`. `false` when there is no such client.
    async fn rotate_secret(
        &self,
        id: &ClientId,
        secret: &SecretDigest,
        others_end: UnixMillis,
        now: UnixMillis,
    ) -> Result<bool, ClientStoreError>;
}
