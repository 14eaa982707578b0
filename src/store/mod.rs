//! Where tokens and clients are kept: implements the traits that the features declare, and says what
//! other processes changed. Knows nothing of HTTP, of caches or of who asks. Read `sqlite/mod.rs` first.

mod error;
pub mod settings;
mod sqlite;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use crate::base::clock::Clock;
use crate::base::oauth::ClientId;
use crate::clients::ClientStore;
use crate::tokens::{StoreUnavailable, TokenHash, TokenStore};

pub use error::OpenError;

/// Whether a store that is not there is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Makes it, and brings an older one up to this program's schema.
    Create,
    /// Neither: for commands that only read.
    Existing,
}

/// Something that caches must forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This token was revoked.
    Token(TokenHash),
    /// This client was added, changed or removed, or all its tokens were revoked: forget its tokens
    /// and read it again.
    Client(ClientId),
    /// It can't be told what changed: forget everything and read all clients again.
    Everything,
}

/// Tells what changed in the store, whoever changed it.
#[async_trait]
pub trait ChangeFeed: Send + Sync {
    /// What was committed since the last poll whose answer was received; own changes are among it.
    /// May be dropped at any await: what it would have told is then told by the next one.
    ///
    /// Whoever polls from several places must apply one answer before it asks for the next, or the
    /// later one says "nothing new" while the earlier is not applied yet.
    ///
    /// # Errors
    /// When the store cannot be read, or its file is no longer the one that is in use here.
    async fn poll(&self) -> Result<Vec<Change>, StoreUnavailable>;
}

/// An open store. Clones share it.
#[derive(Clone)]
pub struct Stores {
    /// The tokens.
    pub tokens: Arc<dyn TokenStore>,
    /// The clients that are not in the configuration file.
    pub clients: Arc<dyn ClientStore>,
    /// What changed.
    pub changes: Arc<dyn ChangeFeed>,
    engine: Arc<sqlite::Sqlite>,
}

impl Stores {
    /// Which store this is: a random text made with it. Two processes that see the same text use
    /// the same store (or copies of one).
    #[must_use]
    pub fn id(&self) -> &str {
        self.engine.id()
    }

    /// Finishes what was begun and leaves one file that is whole without its side files. Afterwards
    /// every operation fails. Waits for at most two seconds.
    pub async fn close(&self) {
        self.engine.close().await;
    }

    #[cfg(test)]
    async fn write_raw_for_test(&self, sql: &'static str) {
        self.engine.write_raw(sql).await;
    }
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stores")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

/// Opens the store that `settings` names. Takes some milliseconds.
///
/// # Errors
/// Says which file it is about and what to do.
pub async fn open(
    settings: &settings::Settings,
    clock: Clock,
    mode: OpenMode,
) -> Result<Stores, OpenError> {
    let settings::Settings::Sqlite(file) = settings;
    let file = absolute(file)?;
    let opening = file.clone();
    let now = clock.now().wall();
    let engine = match tokio::task::spawn_blocking(move || {
        sqlite::Sqlite::open(&opening, mode, now)
    })
    .await
    {
        Ok(opened) => Arc::new(opened?),
        Err(ended) => {
            return Err(OpenError::Other {
                file,
                source: Box::new(ended),
            });
        }
    };
    Ok(Stores {
        tokens: Arc::clone(&engine) as _,
        clients: Arc::clone(&engine) as _,
        changes: Arc::clone(&engine) as _,
        engine,
    })
}

/// So that neither a later change of directory nor a name such as `:memory:` means another file.
fn absolute(file: &Path) -> Result<PathBuf, OpenError> {
    std::path::absolute(file).map_err(|source| OpenError::Other {
        file: file.to_owned(),
        source: Box::new(source),
    })
}
