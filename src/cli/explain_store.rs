//! A store that holds nothing: what `explain` looks into where no store was made yet.

use async_trait::async_trait;

use crate::base::clock::UnixMillis;
use crate::base::oauth::ClientId;
use crate::clients::{Client, ClientStore, ClientStoreError, SecretDigest};
use crate::tokens::{
    NewToken, Revocation, StoreUnavailable, TokenHash, TokenId, TokenRecord, TokenStore,
};

/// Finds nothing, keeps nothing.
pub(super) struct NoStore;

const NOTHING_IS_KEPT: &str = "there is no store";

#[async_trait]
impl TokenStore for NoStore {
    async fn insert(&self, _: NewToken) -> Result<TokenId, StoreUnavailable> {
        Err(StoreUnavailable(NOTHING_IS_KEPT.into()))
    }

    async fn find(&self, _: &TokenHash) -> Result<Option<TokenRecord>, StoreUnavailable> {
        Ok(None)
    }

    async fn find_by_id(&self, _: TokenId) -> Result<Option<TokenRecord>, StoreUnavailable> {
        Ok(None)
    }

    async fn list(
        &self,
        _: Option<&ClientId>,
        _: bool,
        _: UnixMillis,
        _: Option<TokenId>,
        _: u32,
    ) -> Result<Vec<TokenRecord>, StoreUnavailable> {
        Ok(Vec::new())
    }

    async fn revoke(
        &self,
        _: Revocation,
        _: UnixMillis,
    ) -> Result<Vec<TokenHash>, StoreUnavailable> {
        Ok(Vec::new())
    }

    async fn prune(&self, _: UnixMillis, _: u32) -> Result<u64, StoreUnavailable> {
        Ok(0)
    }
}

#[async_trait]
impl ClientStore for NoStore {
    async fn insert(&self, _: &Client, _: UnixMillis) -> Result<(), ClientStoreError> {
        Err(ClientStoreError::Unavailable(NOTHING_IS_KEPT.into()))
    }

    async fn find(&self, _: &ClientId) -> Result<Option<Client>, ClientStoreError> {
        Ok(None)
    }

    async fn list(&self) -> Result<Vec<Client>, ClientStoreError> {
        Ok(Vec::new())
    }

    async fn remove(&self, _: &ClientId, _: UnixMillis) -> Result<bool, ClientStoreError> {
        Ok(false)
    }

    async fn rotate_secret(
        &self,
        _: &ClientId,
        _: &SecretDigest,
        _: UnixMillis,
        _: UnixMillis,
    ) -> Result<bool, ClientStoreError> {
        Ok(false)
    }
}
