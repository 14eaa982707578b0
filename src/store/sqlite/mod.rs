//! The embedded engine: one SQLite file in WAL mode, every commit synced, because a lost revocation
//! comes back to life. Connections live on threads of their own. Read `open.rs`, then `threads.rs`.

mod changes;
mod clients;
mod file;
mod open;
mod threads;
mod tokens;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::ErrorCode;

use super::{OpenError, OpenMode};
use crate::base::clock::UnixMillis;
use changes::Position;
use threads::{Readers, Writer};

/// An open SQLite store.
pub(super) struct Sqlite {
    id: String,
    writer: Writer,
    readers: Readers,
    feed: Readers,
    position: std::sync::Mutex<Position>,
}

impl Sqlite {
    /// Opens or makes the store in `file`. Blocks for some milliseconds.
    pub(super) fn open(file: &Path, mode: OpenMode, now: UnixMillis) -> Result<Self, OpenError> {
        let opened = open::open(file, mode, now)?;
        let in_use = Arc::new(opened.in_use);
        let start = || -> std::io::Result<Self> {
            Ok(Self {
                id: opened.id,
                writer: Writer::start(opened.writer, &in_use)?,
                readers: Readers::start("store-read", opened.readers, &in_use)?,
                feed: Readers::start("store-changes", vec![opened.feed], &in_use)?,
                position: std::sync::Mutex::new(opened.position),
            })
        };
        start().map_err(|source| OpenError::Other {
            file: file.to_owned(),
            source: Box::new(source),
        })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The writer last: whoever closes the last connection copies the log into the file.
    pub(super) async fn close(&self) {
        let closing = async {
            self.readers.stop().await;
            self.feed.stop().await;
            self.writer.stop().await;
        };
        let _ = tokio::time::timeout(Duration::from_secs(2), closing).await;
    }

    /// Runs any statement on the writer's connection, to bring it into the states tests need.
    #[cfg(test)]
    pub(super) async fn write_raw(&self, sql: &'static str) {
        let done = self.writer.run(move |connection| {
            let mut statement = connection.prepare(sql)?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            Ok(())
        });
        done.await.unwrap();
    }
}

/// Why an operation failed, with the file and what to do. Holds no value of any row.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the store {}: {what}", file.display())]
pub(super) struct Failure {
    file: PathBuf,
    what: String,
    #[source]
    source: Option<Arc<rusqlite::Error>>,
}

impl Failure {
    fn new(file: &Path, what: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            what: what.into(),
            source: None,
        }
    }

    fn of(file: &Path, error: rusqlite::Error) -> Self {
        let what = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => "the disk is full; make room on its volume".to_owned(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                format!("it is damaged ({error}); stop sidegate and restore a backup")
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                "another process holds it locked".to_owned()
            }
            Some(ErrorCode::ReadOnly) => "it cannot be written (read-only)".to_owned(),
            _ => error.to_string(),
        };
        Self {
            source: Some(Arc::new(error)),
            ..Self::new(file, what)
        }
    }

    fn replaced(file: &Path) -> Self {
        Self::new(
            file,
            "the file was deleted or replaced while in use, so changes that other processes make \
             would be missed; put it back or start sidegate again",
        )
    }

    fn stopped(file: &Path) -> Self {
        Self::new(file, "it is closed, or its thread has ended")
    }

    fn slow(file: &Path, limit: Duration) -> Self {
        Self::new(file, format!("no answer within {} s", limit.as_secs()))
    }
}

/// A row that this program cannot have written.
fn unreadable(column: &'static str, why: impl Into<String>) -> rusqlite::Error {
    let why = format!("unreadable {column}: {}", why.into());
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Null, why.into())
}
