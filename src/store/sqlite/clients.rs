//! Clients in SQLite.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Failure, Sqlite, changes, tokens, unreadable};
use crate::base::clock::UnixMillis;
use crate::base::oauth::{ClientId, Scopes};
use crate::clients::{
    Client, ClientSecret, ClientStore, ClientStoreError, Origin, SecretDigest, SudoGrant,
    TenantGrant,
};
use crate::store::Change;

const COLUMNS: &str = "id, scopes, tenants, sudo, rate_limits, created";

fn away(failure: Failure) -> ClientStoreError {
    ClientStoreError::Unavailable(Box::new(failure))
}

fn json<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    serde_json::Value::from_iter(texts).to_string()
}

fn texts(row: &Row<'_>, at: usize, column: &'static str) -> rusqlite::Result<Vec<String>> {
    serde_json::from_str(row.get_ref(at)?.as_str()?)
        .map_err(|error| unreadable(column, error.to_string()))
}

/// All but the secrets.
fn client(row: &Row<'_>) -> rusqlite::Result<Client> {
    let id = ClientId::parse(row.get_ref(0)?.as_str()?).map_err(|why| unreadable("id", why))?;
    let scopes =
        Scopes::parse(row.get_ref(1)?.as_str()?).map_err(|why| unreadable("scopes", why))?;
    let (tenants, sudo) = (texts(row, 2, "tenants")?, texts(row, 3, "sudo")?);
    Ok(Client {
        id,
        secrets: Vec::new(),
        scopes,
        tenants: TenantGrant::parse(tenants.iter().map(String::as_str))
            .map_err(|why| unreadable("tenants", why))?,
        sudo: SudoGrant::parse(sudo.iter().map(String::as_str))
            .map_err(|why| unreadable("sudo", why))?,
        rate_limits: texts(row, 4, "rate_limits")?,
        origin: Origin::Store,
        created: Some(UnixMillis(row.get(5)?)),
    })
}

fn with_secrets(connection: &Connection, mut client: Client) -> rusqlite::Result<Client> {
    client.secrets = connection
        .prepare_cached(
            "SELECT digest, expires FROM client_secrets WHERE client_id = ?1 ORDER BY id",
        )?
        .query_map([client.id.as_str()], |row| {
            Ok(ClientSecret {
                digest: SecretDigest::from_stored(row.get_ref(0)?.as_str()?)
                    .ok_or_else(|| unreadable("digest", "another form"))?,
                expires: row.get::<_, Option<i64>>(1)?.map(UnixMillis),
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(client)
}

fn add_secret(
    connection: &Connection,
    id: &ClientId,
    digest: &str,
    expires: Option<UnixMillis>,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO client_secrets (client_id, digest, expires) VALUES (?1, ?2, ?3)",
        )?
        .execute(params![id.as_str(), digest, expires.map(|at| at.0)])?;
    Ok(())
}

/// A secret in clear is never stored.
fn stored(digest: &SecretDigest) -> Result<String, ClientStoreError> {
    digest.to_stored().ok_or_else(|| {
        ClientStoreError::Unavailable("a secret of the configuration is never stored".into())
    })
}

fn told(connection: &Connection, id: &ClientId, now: UnixMillis) -> rusqlite::Result<()> {
    changes::record(connection, &[Change::Client(id.clone())], now)
}

#[async_trait]
impl ClientStore for Sqlite {
    async fn insert(&self, client: &Client, now: UnixMillis) -> Result<(), ClientStoreError> {
        let secrets = client
            .secrets
            .iter()
            .map(|secret| Ok((stored(&secret.digest)?, secret.expires)))
            .collect::<Result<Vec<_>, ClientStoreError>>()?;
        let client = client.clone();
        let added = self.writer.run(move |connection| {
            let added = connection
                .prepare_cached(
                    "INSERT INTO clients (id, scopes, tenants, sudo, rate_limits, created) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO NOTHING",
                )?
                .execute(params![
                    client.id.as_str(),
                    client.scopes.to_string(),
                    json(client.tenants.patterns()),
                    json(client.sudo.patterns()),
                    json(client.rate_limits.iter().map(String::as_str)),
                    now.0,
                ])?;
            if added == 0 {
                return Ok(false);
            }
            for (digest, expires) in &secrets {
                add_secret(connection, &client.id, digest, *expires)?;
            }
            // What is left of an earlier client of this id, one of the file say, is not its own.
            tokens::end_client(connection, &client.id, now)?;
            told(connection, &client.id, now)?;
            Ok(true)
        });
        if added.await.map_err(away)? {
            Ok(())
        } else {
            Err(ClientStoreError::Exists)
        }
    }

    async fn find(&self, id: &ClientId) -> Result<Option<Client>, ClientStoreError> {
        let id = id.clone();
        self.readers
            .run(move |connection| {
                // One snapshot: a rotation between the two reads would show half of itself.
                let snapshot = connection.unchecked_transaction()?;
                let found = snapshot
                    .prepare_cached(&format!("SELECT {COLUMNS} FROM clients WHERE id = ?1"))?
                    .query_row([id.as_str()], client)
                    .optional()?;
                found
                    .map(|client| with_secrets(&snapshot, client))
                    .transpose()
            })
            .await
            .map_err(away)
    }

    async fn list(&self) -> Result<Vec<Client>, ClientStoreError> {
        self.readers
            .run(|connection| {
                let snapshot = connection.unchecked_transaction()?;
                let found: Vec<Client> = snapshot
                    .prepare_cached(&format!("SELECT {COLUMNS} FROM clients ORDER BY id"))?
                    .query_map([], client)?
                    .collect::<Result<_, _>>()?;
                found
                    .into_iter()
                    .map(|client| with_secrets(&snapshot, client))
                    .collect()
            })
            .await
            .map_err(away)
    }

    async fn remove(&self, id: &ClientId, now: UnixMillis) -> Result<bool, ClientStoreError> {
        let id = id.clone();
        self.writer
            .run(move |connection| {
                let gone = connection
                    .prepare_cached("DELETE FROM clients WHERE id = ?1")?
                    .execute([id.as_str()])?;
                if gone == 0 {
                    return Ok(false);
                }
                tokens::end_client(connection, &id, now)?;
                told(connection, &id, now)?;
                Ok(true)
            })
            .await
            .map_err(away)
    }

    async fn rotate_secret(
        &self,
        id: &ClientId,
        secret: &SecretDigest,
        others_end: UnixMillis,
        now: UnixMillis,
    ) -> Result<bool, ClientStoreError> {
        let digest = stored(secret)?;
        let id = id.clone();
        self.writer
            .run(move |connection| {
                let there = connection
                    .prepare_cached("SELECT 1 FROM clients WHERE id = ?1")?
                    .exists([id.as_str()])?;
                if !there {
                    return Ok(false);
                }
                // None lives longer by it than it would have.
                connection
                    .prepare_cached(
                        "UPDATE client_secrets SET expires = ?2 \
                         WHERE client_id = ?1 AND (expires IS NULL OR expires > ?2)",
                    )?
                    .execute(params![id.as_str(), others_end.0])?;
                connection
                    .prepare_cached(
                        "DELETE FROM client_secrets WHERE client_id = ?1 AND expires <= ?2",
                    )?
                    .execute(params![id.as_str(), now.0])?;
                add_secret(connection, &id, &digest, None)?;
                told(connection, &id, now)?;
                Ok(true)
            })
            .await
            .map_err(away)
    }
}
