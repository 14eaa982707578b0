//! Opening: the file is made or judged, brought up to the schema under a lock, and every connection
//! is opened before any is used, so that all of them have the same file.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

use super::changes::{self, Position};
use super::file::{self, InUse};
use crate::base::clock::UnixMillis;
use crate::store::{OpenError, OpenMode};

/// Marks the file as ours in its header ("SGAT"), so that no other program's database is changed.
const APPLICATION_ID: i64 = 0x5347_4154;
/// Numbered from 1, forward only.
const MIGRATIONS: [&str; 1] = [include_str!("../schema/0001_init.sql")];
const NEWEST: i64 = MIGRATIONS.len() as i64;
/// How long another process may hold the file.
const BUSY: Duration = Duration::from_secs(5);
const READERS: usize = 2;
/// In KiB for each connection; what is asked for often is cached above the store.
const PAGE_CACHE_KIB: i64 = 1_024;
/// Larger files are not read through at the start.
const CHECKED_PAGES: i64 = 256;

pub(super) struct Opened {
    pub(super) id: String,
    pub(super) in_use: InUse,
    pub(super) writer: Connection,
    pub(super) readers: Vec<Connection>,
    pub(super) feed: Connection,
    pub(super) position: Position,
}

pub(super) fn open(path: &Path, mode: OpenMode, now: UnixMillis) -> Result<Opened, OpenError> {
    file::prepare(path, mode)?;
    let in_use = InUse::of(path);
    let attempt = Attempt { path, mode };
    let opened = attempt.connections(now);
    let (id, writer, readers, feed, position) = opened.map_err(|error| attempt.name(error))?;
    let in_use = in_use.with_log();
    if !in_use.is_in_place() {
        return Err(OpenError::Replaced {
            file: path.to_owned(),
        });
    }
    Ok(Opened {
        id,
        in_use,
        writer,
        readers,
        feed,
        position,
    })
}

/// What can go wrong on the way: what SQLite says, or what is known already.
enum Wrong {
    Sqlite(rusqlite::Error),
    Known(OpenError),
}

impl From<rusqlite::Error> for Wrong {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

type Connections = (String, Connection, Vec<Connection>, Connection, Position);

struct Attempt<'a> {
    path: &'a Path,
    mode: OpenMode,
}

impl Attempt<'_> {
    fn connections(&self, now: UnixMillis) -> Result<Connections, Wrong> {
        let writer = self.connect()?;
        if writer.is_readonly(c"main")? {
            return Err(Wrong::Known(OpenError::ReadOnly {
                file: self.path.to_owned(),
            }));
        }
        self.bring_up_to_date(&writer)?;
        self.look_for_damage(&writer)?;
        let id = writer.query_row("SELECT value FROM meta WHERE name = 'store'", [], |row| {
            row.get(0)
        })?;
        if self.mode == OpenMode::Create {
            changes::trim(&writer, now)?;
        }
        let readers = (0..READERS)
            .map(|_| self.reader())
            .collect::<Result<Vec<_>, _>>()?;
        let feed = self.reader()?;
        let position = Position::newest(&feed)?;
        Ok((id, writer, readers, feed, position))
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        // Without CREATE, so that it never makes a file, and without URI, so that a path is a path.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(self.path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(32);
        connection.execute_batch(&format!(
            "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA foreign_keys = ON; \
             PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0; PRAGMA cache_size = -{PAGE_CACHE_KIB}; \
             PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 16777216;"
        ))?;
        Ok(connection)
    }

    fn reader(&self) -> rusqlite::Result<Connection> {
        let connection = self.connect()?;
        connection.execute_batch("PRAGMA query_only = ON; SELECT count(*) FROM meta;")?;
        Ok(connection)
    }

    fn bring_up_to_date(&self, connection: &Connection) -> Result<(), Wrong> {
        let found = self.schema(connection)?;
        if found < NEWEST && self.mode == OpenMode::Existing {
            let file = self.path.to_owned();
            return Err(Wrong::Known(if found == 0 {
                OpenError::Missing { file }
            } else {
                OpenError::SchemaTooOld {
                    file,
                    found,
                    known: NEWEST,
                }
            }));
        }
        self.set_wal(connection)?;
        if found < NEWEST {
            self.migrate(connection)?;
        }
        Ok(())
    }

    /// The number of the schema; refuses what is not ours or comes from a later program.
    fn schema(&self, connection: &Connection) -> Result<i64, Wrong> {
        let file = self.path.to_owned();
        let (found, owner, things) = look(connection)?;
        let nothing_yet = (owner, found, things) == (0, 0, 0);
        if owner != APPLICATION_ID && !nothing_yet {
            return Err(Wrong::Known(OpenError::Foreign { file }));
        }
        if found > NEWEST {
            return Err(Wrong::Known(OpenError::SchemaTooNew {
                file,
                found,
                known: NEWEST,
            }));
        }
        Ok(found)
    }

    /// Several processes may do so at once, and here SQLite does not always wait for the others.
    fn set_wal(&self, connection: &Connection) -> Result<(), Wrong> {
        let begun = Instant::now();
        loop {
            let set = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| {
                row.get::<_, String>(0)
            });
            match set {
                Ok(mode) if mode == "wal" => return Ok(()),
                Ok(_) => {
                    return Err(Wrong::Known(OpenError::NoWal {
                        file: self.path.to_owned(),
                    }));
                }
                Err(error)
                    if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                        && begun.elapsed() < BUSY =>
                {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn migrate(&self, connection: &Connection) -> Result<(), Wrong> {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        // Another process may have done it while this one waited for the lock.
        let found = self.schema(connection)?;
        for sql in MIGRATIONS
            .iter()
            .skip(usize::try_from(found).unwrap_or(usize::MAX))
        {
            let sql = sql
                .replace("{identity}", "INTEGER PRIMARY KEY AUTOINCREMENT")
                .replace("{bytes}", "BLOB");
            connection.execute_batch(&sql)?;
        }
        let stored: Option<String> = connection
            .query_row("SELECT value FROM meta WHERE name = 'store'", [], |row| {
                row.get(0)
            })
            .optional()?;
        if stored.is_none() {
            connection.execute(
                "INSERT INTO meta (name, value) VALUES ('store', lower(hex(randomblob(16))))",
                [],
            )?;
        }
        connection.execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {NEWEST}; COMMIT"
        ))?;
        Ok(())
    }

    /// Small stores are read through; of large ones each table's ends, which is quick at any size.
    fn look_for_damage(&self, connection: &Connection) -> Result<(), Wrong> {
        let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
        if pages <= CHECKED_PAGES {
            let said: String =
                connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            if said != "ok" {
                return Err(Wrong::Known(OpenError::Corrupt {
                    file: self.path.to_owned(),
                    detail: said,
                }));
            }
        }
        connection.execute_batch(
            "SELECT max(id) FROM tokens; SELECT min(hash) FROM tokens; SELECT max(seq) FROM changes; \
             SELECT min(id) FROM clients; SELECT max(id) FROM client_secrets;",
        )?;
        Ok(())
    }

    fn name(&self, wrong: Wrong) -> OpenError {
        let error = match wrong {
            Wrong::Known(error) => return error,
            Wrong::Sqlite(error) => error,
        };
        let file = self.path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => OpenError::NotADatabase { file },
            Some(ErrorCode::DatabaseCorrupt) => OpenError::Corrupt {
                file,
                detail: error.to_string(),
            },
            Some(ErrorCode::DiskFull) => OpenError::DiskFull { file },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Busy {
                file,
                seconds: BUSY.as_secs(),
            },
            Some(ErrorCode::PermissionDenied) => OpenError::NotPermitted {
                directory: file::directory_of(&file),
                file,
                action: "opened",
            },
            Some(ErrorCode::ReadOnly) => {
                file::directory_refuses(&file).unwrap_or(OpenError::ReadOnly { file })
            }
            Some(ErrorCode::CannotOpen) => {
                file::directory_refuses(&file).unwrap_or_else(|| OpenError::NotPermitted {
                    directory: file::directory_of(&file),
                    file,
                    action: "opened",
                })
            }
            _ => OpenError::Other {
                file,
                source: Box::new(error),
            },
        }
    }
}

/// Schema, owner and how many things there are, all at one moment: another process may be making the store,
/// and half of before beside half of after would look like another program's file.
fn look(connection: &Connection) -> rusqlite::Result<(i64, i64, i64)> {
    let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    // Reads within it see one state; unlike BEGIN it may stand inside another transaction.
    connection.execute_batch("SAVEPOINT look")?;
    let found = number("PRAGMA user_version")?;
    let owner = number("PRAGMA application_id")?;
    let things = number("SELECT count(*) FROM sqlite_schema")?;
    connection.execute_batch("RELEASE look")?;
    Ok((found, owner, things))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_another_process_is_making_is_seen_as_before_or_as_after() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.db");
        let maker = Connection::open(&path).unwrap();
        maker.execute_batch("PRAGMA journal_mode = WAL").unwrap();
        std::thread::scope(|threads| {
            let looking = threads.spawn(|| {
                let attempt = Attempt {
                    path: &path,
                    mode: OpenMode::Create,
                };
                let connection = Connection::open(&path).unwrap();
                for _ in 0..10_000 {
                    let found = attempt.schema(&connection);
                    assert!(matches!(found, Ok(0 | NEWEST)), "half of it was seen");
                }
            });
            // Made and unmade again, each at once, for as long as somebody looks.
            while !looking.is_finished() {
                for sql in [
                    format!(
                        "CREATE TABLE t (a); PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {NEWEST};"
                    ),
                    "DROP TABLE t; PRAGMA application_id = 0; PRAGMA user_version = 0;".to_owned(),
                ] {
                    maker
                        .execute_batch(&format!("BEGIN IMMEDIATE; {sql} COMMIT"))
                        .unwrap();
                }
            }
        });
    }
}
