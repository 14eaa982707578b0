//! A token store for tests that lives in memory and can be taken away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{NewToken, Revocation, StoreUnavailable, TokenHash, TokenId, TokenRecord, TokenStore};
use crate::base::clock::UnixMillis;
use crate::base::oauth::ClientId;

/// Keeps tokens in memory.
#[derive(Default)]
pub(crate) struct MemoryTokens {
    kept: Mutex<Vec<(TokenHash, TokenRecord)>>,
    pub(crate) down: AtomicBool,
}

impl MemoryTokens {
    fn kept(&self) -> Result<MutexGuard<'_, Vec<(TokenHash, TokenRecord)>>, StoreUnavailable> {
        if self.down.load(Ordering::SeqCst) {
            return Err(StoreUnavailable("down".into()));
        }
        Ok(self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl TokenStore for MemoryTokens {
    async fn insert(&self, token: NewToken) -> Result<TokenId, StoreUnavailable> {
        let mut kept = self.kept()?;
        let id = TokenId(i64::try_from(kept.len()).unwrap() + 1);
        let record = TokenRecord {
            id,
            client_id: token.client_id,
            scopes: token.scopes,
            issued: token.issued,
            expires: token.expires,
            revoked: None,
        };
        kept.push((token.hash, record));
        Ok(id)
    }

    async fn find(&self, hash: &TokenHash) -> Result<Option<TokenRecord>, StoreUnavailable> {
        let kept = self.kept()?;
        let found = kept.iter().find(|(own, _)| own == hash);
        Ok(found.map(|(_, record)| record.clone()))
    }

    async fn find_by_id(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreUnavailable> {
        let kept = self.kept()?;
        let found = kept.iter().find(|(_, record)| record.id == id);
        Ok(found.map(|(_, record)| record.clone()))
    }

    async fn list(
        &self,
        client_id: Option<&ClientId>,
        all: bool,
        now: UnixMillis,
        before: Option<TokenId>,
        limit: u32,
    ) -> Result<Vec<TokenRecord>, StoreUnavailable> {
        let kept = self.kept()?;
        let records = kept.iter().rev().map(|(_, record)| record);
        let meant = records
            .filter(|record| client_id.is_none_or(|id| record.client_id == *id))
            .filter(|record| all || record.is_live(now))
            .filter(|record| before.is_none_or(|id| record.id < id));
        Ok(meant.take(limit as usize).cloned().collect())
    }

    async fn revoke(
        &self,
        which: Revocation,
        now: UnixMillis,
    ) -> Result<Vec<TokenHash>, StoreUnavailable> {
        let mut kept = self.kept()?;
        let mut ended = Vec::new();
        for (hash, record) in kept.iter_mut().filter(|(_, record)| record.is_live(now)) {
            let meant = match &which {
                Revocation::Hash(one) => hash == one,
                Revocation::Id(id) => record.id == *id,
                Revocation::Client(id) => record.client_id == *id,
                Revocation::IssuedBefore(time) => record.issued < *time,
            };
            if meant {
                record.revoked = Some(now);
                ended.push(*hash);
            }
        }
        Ok(ended)
    }

    async fn prune(&self, _: UnixMillis, _: u32) -> Result<u64, StoreUnavailable> {
        Ok(0)
    }
}
