//! Clients for tests, and a store for them that lives in memory and can be held or taken away.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::{
    Client, ClientSecret, ClientStore, ClientStoreError, Origin, SecretDigest, SudoGrant,
    TenantGrant,
};
use crate::base::clock::UnixMillis;
use crate::base::oauth::{ClientId, Scopes};
use crate::base::secret::Secret;

/// A client of the file with this secret in clear.
pub(crate) fn file_client(id: &str, secret: &str, scopes: &str) -> Client {
    let digest = SecretDigest::Configured(Secret::new(secret.to_owned()));
    client(id, digest, scopes, Origin::File)
}

/// A client with this digest, allowed everything its scopes allow.
pub(crate) fn client(id: &str, digest: SecretDigest, scopes: &str, origin: Origin) -> Client {
    Client {
        id: ClientId::parse(id).unwrap(),
        secrets: vec![ClientSecret {
            digest,
            expires: None,
        }],
        scopes: Scopes::parse(scopes).unwrap(),
        tenants: TenantGrant::every(),
        sudo: SudoGrant::everybody(),
        rate_limits: Vec::new(),
        origin,
        created: None,
    }
}

/// Keeps clients in memory.
pub(crate) struct MemoryClients {
    clients: Mutex<BTreeMap<ClientId, Client>>,
    pub(crate) down: AtomicBool,
    pub(crate) reads: AtomicUsize,
    /// Reads wait here after they have read; open unless held.
    gate: Semaphore,
}

impl MemoryClients {
    pub(crate) fn new() -> Self {
        Self {
            clients: Mutex::default(),
            down: AtomicBool::new(false),
            reads: AtomicUsize::new(0),
            gate: Semaphore::new(1_000),
        }
    }

    pub(crate) fn put(&self, client: Client) {
        self.clients().insert(client.id.clone(), client);
    }

    pub(crate) fn take(&self, id: &ClientId) -> Option<Client> {
        self.clients().remove(id)
    }

    /// From now on a read, once it has seen what there is, waits to be let go.
    pub(crate) fn hold(&self) {
        self.gate.forget_permits(1_000);
    }

    pub(crate) fn let_go(&self, reads: usize) {
        self.gate.add_permits(reads);
    }

    fn clients(&self) -> std::sync::MutexGuard<'_, BTreeMap<ClientId, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read<T>(
        &self,
        look: impl FnOnce(&BTreeMap<ClientId, Client>) -> T,
    ) -> Result<T, ClientStoreError> {
        let seen = look(&self.clients());
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        if self.down.load(Ordering::SeqCst) {
            return Err(ClientStoreError::Unavailable("down".into()));
        }
        Ok(seen)
    }
}

#[async_trait]
impl ClientStore for MemoryClients {
    async fn insert(&self, client: &Client, _: UnixMillis) -> Result<(), ClientStoreError> {
        self.put(client.clone());
        Ok(())
    }

    async fn find(&self, id: &ClientId) -> Result<Option<Client>, ClientStoreError> {
        self.read(|clients| clients.get(id).cloned()).await
    }

    async fn list(&self) -> Result<Vec<Client>, ClientStoreError> {
        self.read(|clients| clients.values().cloned().collect())
            .await
    }

    async fn remove(&self, id: &ClientId, _: UnixMillis) -> Result<bool, ClientStoreError> {
        Ok(self.take(id).is_some())
    }

    async fn rotate_secret(
        &self,
        id: &ClientId,
        secret: &SecretDigest,
        others_end: UnixMillis,
        _: UnixMillis,
    ) -> Result<bool, ClientStoreError> {
        let mut clients = self.clients();
        let Some(client) = clients.get_mut(id) else {
            return Ok(false);
        };
        for old in &mut client.secrets {
            old.expires = Some(others_end);
        }
        client.secrets.push(ClientSecret {
            digest: secret.clone(),
            expires: None,
        });
        Ok(true)
    }
}
