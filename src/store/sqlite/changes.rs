//! The change log: written with each change, read by every process that caches. A poll first asks
//! SQLite whether anything was committed at all, which costs some microseconds.

use std::sync::PoisonError;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Sqlite, unreadable};
use crate::base::clock::UnixMillis;
use crate::base::oauth::ClientId;
use crate::store::{Change, ChangeFeed};
use crate::tokens::{StoreUnavailable, TokenHash};

/// How long a change is kept for those who have not read it.
const KEPT_MILLIS: i64 = 24 * 3_600_000;
/// Most changes kept, and most told one by one; who is further behind forgets everything.
const KEPT_ROWS: i64 = 100_000;
const TOLD: usize = 1_000;

/// How far a reader has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// What SQLite said of the last commit, for this connection.
    version: i64,
    /// The last change read.
    seq: i64,
}

impl Position {
    /// Behind everything that was committed so far. `connection` is the one that will poll.
    pub(super) fn newest(connection: &Connection) -> rusqlite::Result<Self> {
        // The version first: what is committed in between is then read again rather than missed.
        let version = data_version(connection)?;
        Ok(Self {
            version,
            seq: newest(connection)?,
        })
    }
}

fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("PRAGMA data_version")?
        .query_row([], |row| row.get(0))
}

/// The number up to which the log was cut off.
fn trimmed(connection: &Connection) -> rusqlite::Result<i64> {
    let value: Option<String> = connection
        .prepare_cached("SELECT value FROM meta WHERE name = 'changes_trimmed'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    value.map_or(Ok(0), |value| {
        value
            .parse()
            .map_err(|_| unreadable("changes_trimmed", "not a number"))
    })
}

fn newest(connection: &Connection) -> rusqlite::Result<i64> {
    let kept: Option<i64> = connection
        .prepare_cached("SELECT max(seq) FROM changes")?
        .query_row([], |row| row.get(0))?;
    Ok(kept.unwrap_or(0).max(trimmed(connection)?))
}

/// Writes `changes` into the log, in the transaction of the change itself.
pub(super) fn record(
    connection: &Connection,
    changes: &[Change],
    now: UnixMillis,
) -> rusqlite::Result<()> {
    let mut insert =
        connection.prepare_cached("INSERT INTO changes (kind, key, at) VALUES (?1, ?2, ?3)")?;
    for change in changes {
        let (kind, key): (_, &[u8]) = match change {
            Change::Token(hash) => ("token", hash.as_bytes()),
            Change::Client(id) => ("client", id.as_str().as_bytes()),
            Change::Everything => ("everything", &[]),
        };
        insert.execute(params![kind, key, now.0])?;
    }
    if !changes.is_empty() {
        trim(connection, now)?;
    }
    Ok(())
}

/// Cuts off what is too old, and remembers how far, so that a reader who was away too long knows.
pub(super) fn trim(connection: &Connection, now: UnixMillis) -> rusqlite::Result<()> {
    let before = now.0.saturating_sub(KEPT_MILLIS);
    let (old, surplus): (Option<i64>, Option<i64>) = (
        connection
            .prepare_cached("SELECT max(seq) FROM changes WHERE at < ?1")?
            .query_row([before], |row| row.get(0))?,
        connection
            .prepare_cached("SELECT max(seq) - ?1 FROM changes")?
            .query_row([KEPT_ROWS], |row| row.get(0))?,
    );
    let through = old.max(surplus).unwrap_or(0);
    let cut = connection
        .prepare_cached("DELETE FROM changes WHERE seq <= ?1")?
        .execute([through])?;
    if cut > 0 {
        connection
            .prepare_cached(
                "INSERT INTO meta (name, value) VALUES ('changes_trimmed', ?1) \
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            )?
            .execute([through.to_string()])?;
    }
    connection
        .prepare_cached("DELETE FROM revoked_before WHERE at < ?1")?
        .execute([before])?;
    Ok(())
}

/// What was committed after `from`, and the position behind it.
fn read(connection: &Connection, from: Position) -> rusqlite::Result<(Vec<Change>, Position)> {
    let version = data_version(connection)?;
    if version == from.version {
        return Ok((Vec::new(), from));
    }
    // One snapshot for all that follows.
    let snapshot = connection.unchecked_transaction()?;
    let (cut, last) = (trimmed(&snapshot)?, newest(&snapshot)?);
    let to = Position { version, seq: last };
    // A log that is shorter than what was read before was put there by somebody else.
    if from.seq < cut || from.seq > last {
        return Ok((vec![Change::Everything], to));
    }
    let mut select = snapshot
        .prepare_cached("SELECT kind, key FROM changes WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
    let mut rows = select.query(params![from.seq, TOLD as i64 + 1])?;
    let mut changes = Vec::new();
    while let Some(row) = rows.next()? {
        let (kind, key) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_blob()?);
        changes.push(change(kind, key));
    }
    if changes.len() > TOLD || changes.contains(&Change::Everything) {
        changes = vec![Change::Everything];
    }
    Ok((changes, to))
}

/// What can't be read, perhaps because a later program wrote it, may mean anything.
fn change(kind: &str, key: &[u8]) -> Change {
    let read = match kind {
        "token" => key
            .try_into()
            .ok()
            .map(|bytes| Change::Token(TokenHash::from_bytes(bytes))),
        "client" => std::str::from_utf8(key)
            .ok()
            .and_then(|text| ClientId::parse(text).ok())
            .map(Change::Client),
        _ => None,
    };
    read.unwrap_or(Change::Everything)
}

#[async_trait]
impl ChangeFeed for Sqlite {
    async fn poll(&self) -> Result<Vec<Change>, StoreUnavailable> {
        let from = *self.position.lock().unwrap_or_else(PoisonError::into_inner);
        let (changes, to) = self
            .feed
            .run(move |connection| read(connection, from))
            .await
            .map_err(|failure| StoreUnavailable(Box::new(failure)))?;
        // No await from here on: who gets the position gets the changes too.
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        if *position == from {
            *position = to;
        }
        Ok(changes)
    }
}
