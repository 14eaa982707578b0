//! The store's file: made so that nobody else may read it, and watched, because a revocation that is
//! written to another file of the same name would be missed.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::store::{OpenError, OpenMode};

/// Held while a file is made. POSIX locks fall when any handle of the file is closed in the process,
/// so the handle that makes it must be closed before SQLite opens it, on whatever thread.
static MAKING: Mutex<()> = Mutex::new(());

/// Makes sure that there is a file to open.
pub(super) fn prepare(file: &Path, mode: OpenMode) -> Result<(), OpenError> {
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    match fs::metadata(file) {
        Ok(found) => judge(file, &found),
        Err(error) if error.kind() == ErrorKind::NotFound => match mode {
            OpenMode::Existing => Err(OpenError::Missing {
                file: file.to_owned(),
            }),
            OpenMode::Create => make(file),
        },
        Err(error) => Err(refused(file, "opened", error)),
    }
}

fn judge(file: &Path, found: &Metadata) -> Result<(), OpenError> {
    let what = if found.is_dir() {
        "a directory"
    } else if !found.is_file() {
        "neither a file nor a directory"
    } else {
        if found.permissions().mode() & 0o007 != 0 {
            tracing::warn!(
                file = %file.display(),
                "everybody on this machine may open the store; chmod o= takes that away"
            );
        }
        return Ok(());
    };
    Err(OpenError::NotAFile {
        file: file.to_owned(),
        what,
    })
}

fn make(file: &Path) -> Result<(), OpenError> {
    let directory = directory_of(file);
    match fs::metadata(&directory) {
        Ok(found) if found.is_dir() => {}
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return Err(refused(file, "made", error));
        }
        _ => {
            return Err(OpenError::NoDirectory {
                file: file.to_owned(),
                directory,
            });
        }
    }
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    match made {
        // A umask can only have narrowed it, perhaps too far. SQLite gives its side files the same mode.
        Ok(made) => made
            .set_permissions(Permissions::from_mode(0o600))
            .map_err(|error| refused(file, "made", error)),
        // Another process was quicker.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(refused(file, "made", error)),
    }
}

/// Whether files can be made beside `file`, which SQLite needs for its log.
pub(super) fn directory_refuses(file: &Path) -> Option<OpenError> {
    let mut probe = file.as_os_str().to_owned();
    probe.push(format!("-probe-{}", std::process::id()));
    let probe = PathBuf::from(probe);
    match DirBuilder::new().create(&probe) {
        Ok(()) => {
            let _ = fs::remove_dir(&probe);
            None
        }
        Err(error) => Some(refused(file, "written", error)),
    }
}

fn refused(file: &Path, action: &'static str, error: io::Error) -> OpenError {
    let (file, directory) = (file.to_owned(), directory_of(file));
    match error.kind() {
        ErrorKind::PermissionDenied => OpenError::NotPermitted {
            file,
            directory,
            action,
        },
        ErrorKind::NotADirectory => OpenError::NoDirectory { file, directory },
        ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly { file },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => OpenError::DiskFull { file },
        _ => OpenError::Other {
            file,
            source: Box::new(error),
        },
    }
}

pub(super) fn directory_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Which file a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

fn identity(path: &Path) -> Option<Identity> {
    let found = fs::metadata(path).ok()?;
    Some(Identity {
        device: found.dev(),
        inode: found.ino(),
    })
}

/// The files that are in use, to be compared with those that the paths lead to. SQLite holds them
/// open, so no other file can get their numbers.
#[derive(Debug)]
pub(super) struct InUse {
    path: PathBuf,
    own: Option<Identity>,
    log: PathBuf,
    own_log: Option<Identity>,
}

impl InUse {
    /// To be called before the first connection is opened, and completed by
    /// [`with_log`](Self::with_log) after the last.
    pub(super) fn of(path: &Path) -> Self {
        let mut log: OsString = fs::canonicalize(path)
            .unwrap_or_else(|_| path.to_owned())
            .into();
        log.push("-wal");
        Self {
            path: path.to_owned(),
            own: identity(path),
            log: log.into(),
            own_log: None,
        }
    }

    /// Takes down the log too: it stays the same as long as somebody has it open.
    pub(super) fn with_log(mut self) -> Self {
        self.own_log = identity(&self.log);
        self
    }

    /// Whether the paths still lead to the files in use.
    pub(super) fn is_in_place(&self) -> bool {
        self.own.is_some()
            && identity(&self.path) == self.own
            && (self.own_log.is_none() || identity(&self.log) == self.own_log)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}
