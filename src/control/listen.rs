//! The sidecar's end: a socket that nobody else may open, and one answer for each question.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::message::{self, Reply, Request};
use super::places::{Places, directory_of};

/// Longest path of a Unix socket, in bytes.
const PATH_MAX: usize = 107;
const CONNECTIONS: usize = 32;
/// For reading a question, and again for writing the answer.
const PEER_TIMEOUT: Duration = Duration::from_secs(2);
const HANDLER_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who answers.
pub trait Handler: Send + Sync + 'static {
    /// Does what is asked. Given up after ten seconds.
    fn handle(&self, request: Request) -> impl Future<Output = Reply> + Send;
}

/// Why there can be no control socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system takes no path of that length.
    #[error("the control socket {} has a path of more than {PATH_MAX} bytes; set [admin] socket to a shorter one", path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// Something else has that name.
    #[error("the control socket {} cannot be made: there is something else of that name; move it away or set [admin] socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Every numbered name is taken.
    #[error("the control socket {} and all its numbered names are in use; set [admin] socket", path.display())]
    AllInUse {
        /// The path without a number.
        path: PathBuf,
    },
    /// Anything else.
    #[error("the control socket {} cannot be made: {source}; its directory must be there and writable, or set [admin] socket", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
}

/// A control socket of this process. Its name goes away when this is dropped, if it is still ours.
#[derive(Debug)]
pub struct Listener {
    socket: StdListener,
    name: Name,
}

#[derive(Debug)]
struct Name {
    path: PathBuf,
    own: (u64, u64),
}

impl Drop for Name {
    fn drop(&mut self) {
        if identity(&self.path) == Some(self.own) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let about = fs::symlink_metadata(path).ok()?;
    Some((about.dev(), about.ino()))
}

impl Listener {
    /// Makes the socket. Blocks for a moment.
    ///
    /// # Errors
    /// Says which path it is about and what to do.
    pub fn bind(places: &Places) -> Result<Self, BindError> {
        let first = places.names().next().unwrap_or_default();
        let io = |source| BindError::Io {
            path: first.clone(),
            source,
        };
        if first.as_os_str().len() > PATH_MAX {
            return Err(BindError::TooLong { path: first });
        }
        let directory = directory_of(&first);
        let birthplace = Birthplace::make(&directory).map_err(io)?;
        let born = birthplace.0.join("s");
        if born.as_os_str().len() > PATH_MAX {
            return Err(BindError::TooLong { path: first });
        }
        let socket = StdListener::bind(&born).map_err(io)?;
        fs::set_permissions(&born, Permissions::from_mode(0o600)).map_err(io)?;
        socket.set_nonblocking(true).map_err(io)?;
        let own = identity(&born).ok_or_else(|| io(ErrorKind::NotFound.into()))?;
        // Only who holds the lock replaces a stale one, or two could replace each other's.
        let lock = lock(&directory);
        for path in places.names() {
            if path.as_os_str().len() > PATH_MAX {
                return Err(BindError::TooLong { path });
            }
            if is_free(&path, lock.is_some())? && claim(&born, &path).map_err(io)? {
                return Ok(Self {
                    socket,
                    name: Name { path, own },
                });
            }
        }
        Err(BindError::AllInUse { path: first })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.name.path
    }

    /// Answers until it is dropped. Must run on a runtime.
    pub async fn serve(self, handler: impl Handler) {
        let Self { socket, name } = self;
        let socket = match UnixListener::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(path = %name.path.display(), error = %error, "the control socket is dead");
                return;
            }
        };
        let handler = Arc::new(handler);
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
            match socket.accept().await {
                Ok((stream, _)) => {
                    let handler = Arc::clone(&handler);
                    tokio::spawn(async move {
                        answer(stream, &*handler).await;
                        drop(permit);
                    });
                }
                // Out of descriptors, say: it passes.
                Err(error) => {
                    tracing::warn!(error = %error, "the control socket could not accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn answer(mut stream: UnixStream, handler: &impl Handler) {
    let failed = |message: String| Reply::Failed { message };
    let asked = tokio::time::timeout(PEER_TIMEOUT, message::read::<Request>(&mut stream)).await;
    let reply = match asked {
        Err(_) => return,
        Ok(Err(error)) => failed(error.to_string()),
        Ok(Ok(request)) => tokio::time::timeout(HANDLER_TIMEOUT, handler.handle(request))
            .await
            .unwrap_or_else(|_| failed("it takes too long".to_owned())),
    };
    let _ = tokio::time::timeout(PEER_TIMEOUT, message::write(&mut stream, reply)).await;
}

/// A directory only we can enter, so that the socket is never open to others, whatever the umask.
struct Birthplace(PathBuf);

impl Birthplace {
    fn make(beside: &Path) -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mut tries = 0;
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = beside.join(format!(".{:x}-{number:x}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    let made = Self(path);
                    fs::set_permissions(&made.0, Permissions::from_mode(0o700))?;
                    return Ok(made);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < 16 => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Birthplace {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0.join("s"));
        let _ = fs::remove_dir(&self.0);
    }
}

/// Gives the socket its name; false when somebody else was quicker.
fn claim(born: &Path, path: &Path) -> io::Result<bool> {
    match fs::hard_link(born, path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// The lock of the directory, waited for as long as another start may hold it.
fn lock(directory: &Path) -> Option<fs::File> {
    let file = fs::File::open(directory).ok()?;
    let begun = Instant::now();
    while file.try_lock().is_err() {
        if begun.elapsed() > Duration::from_secs(1) {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Some(file)
}

/// Whether the name can be taken; takes away a stale socket.
fn is_free(path: &Path, may_replace: bool) -> Result<bool, BindError> {
    let Ok(about) = fs::symlink_metadata(path) else {
        return Ok(true);
    };
    if !about.file_type().is_socket() {
        return Err(BindError::NotASocket {
            path: path.to_owned(),
        });
    }
    if !may_replace || !is_stale(path) {
        return Ok(false);
    }
    let gone = fs::remove_file(path);
    gone.map(|()| true).map_err(|source| BindError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Nobody listens. A peer that only does not accept is not stale, and must not make us wait.
fn is_stale(path: &Path) -> bool {
    let refused = || -> io::Result<()> {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&socket2::SockAddr::unix(path)?)
    };
    refused().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}
