//! Tokens in SQLite.

use async_trait::async_trait;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::{Failure, Sqlite, changes, unreadable};
use crate::base::clock::UnixMillis;
use crate::base::oauth::{ClientId, Scopes};
use crate::store::Change;
use crate::tokens::{
    NewToken, Revocation, StoreUnavailable, TokenHash, TokenId, TokenRecord, TokenStore,
};

const COLUMNS: &str = "id, client_id, scopes, issued, expires, revoked";
/// More revocations at once are told as "everything", so that the log stays short.
const TOLD_SINGLY: usize = 1_000;
/// Stands for all clients in `revoked_before`.
const EVERYBODY: &str = "";

fn away(failure: Failure) -> StoreUnavailable {
    StoreUnavailable(Box::new(failure))
}

fn record(row: &Row<'_>) -> rusqlite::Result<TokenRecord> {
    let client_id = row.get_ref(1)?.as_str()?;
    let scopes = row.get_ref(2)?.as_str()?;
    Ok(TokenRecord {
        id: TokenId(row.get(0)?),
        client_id: ClientId::parse(client_id).map_err(|why| unreadable("client_id", why))?,
        scopes: Scopes::parse(scopes).map_err(|why| unreadable("scopes", why))?,
        issued: UnixMillis(row.get(3)?),
        expires: UnixMillis(row.get(4)?),
        revoked: row.get::<_, Option<i64>>(5)?.map(UnixMillis),
    })
}

fn hash(row: &Row<'_>) -> rusqlite::Result<TokenHash> {
    row.get(0).map(TokenHash::from_bytes)
}

fn insert(connection: &Connection, token: &NewToken) -> rusqlite::Result<TokenId> {
    // A revocation that was committed while this token was on its way holds for it too.
    let revoked: Option<i64> = connection
        .prepare_cached(
            "SELECT max(at) FROM revoked_before WHERE client_id IN (?1, ?2) AND before > ?3",
        )?
        .query_row(
            params![token.client_id.as_str(), EVERYBODY, token.issued.0],
            |row| row.get(0),
        )?;
    connection
        .prepare_cached(
            "INSERT INTO tokens (hash, client_id, scopes, issued, expires, revoked) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING id",
        )?
        .query_row(
            params![
                token.hash.as_bytes(),
                token.client_id.as_str(),
                token.scopes.to_string(),
                token.issued.0,
                token.expires.0,
                revoked,
            ],
            |row| row.get(0).map(TokenId),
        )
}

/// Revokes the live tokens for which `condition` holds of `?2`.
fn end(
    connection: &Connection,
    condition: &str,
    value: Value,
    now: UnixMillis,
) -> rusqlite::Result<Vec<TokenHash>> {
    connection
        .prepare_cached(&format!(
            "UPDATE tokens SET revoked = ?1 \
             WHERE {condition} AND revoked IS NULL AND expires > ?1 RETURNING hash"
        ))?
        .query_map(params![now.0, value], hash)?
        .collect()
}

/// Has the revocation hold for tokens that were issued before `before` and are inserted later.
fn remember(
    connection: &Connection,
    client_id: &str,
    before: UnixMillis,
    now: UnixMillis,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO revoked_before (client_id, before, at) VALUES (?1, ?2, ?3) \
             ON CONFLICT (client_id) DO UPDATE SET before = max(before, excluded.before), \
             at = excluded.at",
        )?
        .execute(params![client_id, before.0, now.0])?;
    Ok(())
}

/// Revokes all tokens of a client. The caller tells of it: once for the client, not for each token.
pub(super) fn end_client(
    connection: &Connection,
    client_id: &ClientId,
    now: UnixMillis,
) -> rusqlite::Result<Vec<TokenHash>> {
    remember(connection, client_id.as_str(), now, now)?;
    let value = Value::Text(client_id.as_str().to_owned());
    end(connection, "client_id = ?2", value, now)
}

fn revoke(
    connection: &Connection,
    which: &Revocation,
    now: UnixMillis,
) -> rusqlite::Result<Vec<TokenHash>> {
    let ended = match which {
        Revocation::Hash(hash) => end(
            connection,
            "hash = ?2",
            Value::Blob(hash.as_bytes().to_vec()),
            now,
        )?,
        Revocation::Id(id) => end(connection, "id = ?2", Value::Integer(id.0), now)?,
        Revocation::Client(client_id) => end_client(connection, client_id, now)?,
        Revocation::IssuedBefore(before) => {
            // It means tokens that are there or on their way, not those of the future.
            remember(connection, EVERYBODY, (*before).min(now), now)?;
            end(connection, "issued < ?2", Value::Integer(before.0), now)?
        }
    };
    let told = match which {
        _ if ended.is_empty() => Vec::new(),
        Revocation::Client(client_id) => vec![Change::Client(client_id.clone())],
        _ if ended.len() > TOLD_SINGLY => vec![Change::Everything],
        _ => ended.iter().copied().map(Change::Token).collect(),
    };
    changes::record(connection, &told, now)?;
    Ok(ended)
}

#[async_trait]
impl TokenStore for Sqlite {
    async fn insert(&self, token: NewToken) -> Result<TokenId, StoreUnavailable> {
        self.writer
            .run(move |connection| insert(connection, &token))
            .await
            .map_err(away)
    }

    async fn find(&self, hash: &TokenHash) -> Result<Option<TokenRecord>, StoreUnavailable> {
        let hash = *hash;
        self.readers
            .run(move |connection| {
                connection
                    .prepare_cached(&format!("SELECT {COLUMNS} FROM tokens WHERE hash = ?1"))?
                    .query_row([hash.as_bytes()], record)
                    .optional()
            })
            .await
            .map_err(away)
    }

    async fn find_by_id(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreUnavailable> {
        self.readers
            .run(move |connection| {
                connection
                    .prepare_cached(&format!("SELECT {COLUMNS} FROM tokens WHERE id = ?1"))?
                    .query_row([id.0], record)
                    .optional()
            })
            .await
            .map_err(away)
    }

    async fn list(
        &self,
        client_id: Option<&ClientId>,
        all: bool,
        now: UnixMillis,
        before: Option<TokenId>,
        limit: u32,
    ) -> Result<Vec<TokenRecord>, StoreUnavailable> {
        let below = before.map_or(i64::MAX, |id| id.0);
        let mut sql = format!("SELECT {COLUMNS} FROM tokens WHERE id < ?1");
        let mut values = vec![Value::Integer(below), Value::Integer(i64::from(limit))];
        if let Some(client_id) = client_id {
            values.push(Value::Text(client_id.as_str().to_owned()));
            sql.push_str(" AND client_id = ?3");
        }
        if !all {
            values.push(Value::Integer(now.0));
            sql.push_str(&format!(
                " AND revoked IS NULL AND expires > ?{}",
                values.len()
            ));
        }
        sql.push_str(" ORDER BY id DESC LIMIT ?2");
        self.readers
            .run(move |connection| {
                connection
                    .prepare_cached(&sql)?
                    .query_map(params_from_iter(values), record)?
                    .collect()
            })
            .await
            .map_err(away)
    }

    async fn revoke(
        &self,
        which: Revocation,
        now: UnixMillis,
    ) -> Result<Vec<TokenHash>, StoreUnavailable> {
        self.writer
            .run(move |connection| revoke(connection, &which, now))
            .await
            .map_err(away)
    }

    async fn prune(&self, before: UnixMillis, limit: u32) -> Result<u64, StoreUnavailable> {
        self.writer
            .run(move |connection| {
                let gone = connection
                    .prepare_cached(
                        "DELETE FROM tokens WHERE id IN (SELECT id FROM tokens \
                         WHERE expires < ?1 OR (revoked IS NOT NULL AND revoked < ?1) LIMIT ?2)",
                    )?
                    .execute(params![before.0, limit])?;
                Ok(gone as u64)
            })
            .await
            .map_err(away)
    }
}
