//! What `[store]` says.

use std::path::PathBuf;

/// Where everything is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings {
    /// The embedded engine, in this one file.
    Sqlite(PathBuf),
}
