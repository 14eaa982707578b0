//! Why a store cannot be opened, in words for an operator: which file, what is wrong, what to do.

use std::path::PathBuf;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing is there, and it was not to be made.
    #[error(
        "there is no store at {}; \"sidegate serve\" and commands that write, such as \"sidegate client add\", make one", file.display()
    )]
    Missing {
        /// The store's file.
        file: PathBuf,
    },
    /// The directory is not there.
    #[error(
        "the store {} cannot be made: the directory {} is not there; make the directory, or name another file in [store] url", file.display(), directory.display()
    )]
    NoDirectory {
        /// The store's file.
        file: PathBuf,
        /// What is missing.
        directory: PathBuf,
    },
    /// There is something else of that name.
    #[error("the store {} is {what}; name a file in [store] url", file.display())]
    NotAFile {
        /// The store's file.
        file: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// The file or its directory does not let us.
    #[error(
        "the store {} cannot be {action}: permission denied; the user that runs sidegate must be able to read and write the file and to make files in its directory (try: ls -ld {})", file.display(), directory.display()
    )]
    NotPermitted {
        /// The store's file.
        file: PathBuf,
        /// Where it lies.
        directory: PathBuf,
        /// What was tried.
        action: &'static str,
    },
    /// The file or its file system cannot be written.
    #[error(
        "the store {} can be read but not written; make the file and its directory writable for the user that runs sidegate, or name a file on a writable volume in [store] url", file.display()
    )]
    ReadOnly {
        /// The store's file.
        file: PathBuf,
    },
    /// Not a database at all.
    #[error(
        "{} is not a store of sidegate: it is no SQLite database; name another file in [store] url, or move this one away so that a new store is made", file.display()
    )]
    NotADatabase {
        /// The store's file.
        file: PathBuf,
    },
    /// The database of another program.
    #[error(
        "{} is an SQLite database of another program; name another file in [store] url", file.display()
    )]
    Foreign {
        /// The store's file.
        file: PathBuf,
    },
    /// Damaged.
    #[error(
        "the store {} is damaged ({detail}); stop sidegate, keep a copy, and restore a backup or try: sqlite3 {} .recover", file.display(), file.display()
    )]
    Corrupt {
        /// The store's file.
        file: PathBuf,
        /// What SQLite says.
        detail: String,
    },
    /// A later version of the program wrote it.
    #[error(
        "the store {} has schema {found}, newer than the {known} this program knows; run the version of sidegate that wrote it, or a later one", file.display()
    )]
    SchemaTooNew {
        /// The store's file.
        file: PathBuf,
        /// The schema it has.
        found: i64,
        /// The newest this program knows.
        known: i64,
    },
    /// An earlier version wrote it, and it was not to be changed.
    #[error(
        "the store {} has schema {found}, older than the {known} this program reads; start \"sidegate serve\" once, which brings it up to date", file.display()
    )]
    SchemaTooOld {
        /// The store's file.
        file: PathBuf,
        /// The schema it has.
        found: i64,
        /// What this program reads.
        known: i64,
    },
    /// No room.
    #[error("the store {} cannot be written: the disk is full; make room on its volume", file.display())]
    DiskFull {
        /// The store's file.
        file: PathBuf,
    },
    /// Another process holds it.
    #[error(
        "the store {} is locked by another process for longer than {} s; end the program that keeps it open (try: fuser {})", file.display(), seconds, file.display()
    )]
    Busy {
        /// The store's file.
        file: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// The file system lacks what WAL needs.
    #[error(
        "the store {} lies on a file system that lacks shared memory maps or locks (a network share?); name a file on a local disk in [store] url", file.display()
    )]
    NoWal {
        /// The store's file.
        file: PathBuf,
    },
    /// Somebody put another file there meanwhile.
    #[error("the store {} was replaced or deleted while it was opened; start again", file.display())]
    Replaced {
        /// The store's file.
        file: PathBuf,
    },
    /// Anything else.
    #[error("the store {} cannot be opened: {source}", file.display())]
    Other {
        /// The store's file.
        file: PathBuf,
        /// What failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
