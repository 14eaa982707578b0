//! What is said over the control socket: one request and one reply for a connection, each a JSON
//! object on one line, of bounded length and with the protocol's version in it.

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const VERSION: u32 = 1;
/// Longest line, its end included.
const LINE_MAX: u64 = 64 * 1024;

/// What a sidecar can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Apply everything that was committed to this store before now, then answer.
    Sync {
        /// The id of the store.
        store: String,
    },
    /// Turn unready and wind down while still serving; answered at once.
    Drain,
    /// Say who you are.
    Status,
}

/// What a sidecar answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Sync`].
    Synced {
        /// Whether this sidecar uses that store; if so, everything is applied.
        uses: bool,
    },
    /// To [`Request::Drain`].
    Draining,
    /// To [`Request::Status`].
    Status(Status),
    /// It could not be done.
    Failed {
        /// Why, in words for an operator.
        message: String,
    },
}

/// Who a sidecar is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its process.
    pub pid: u32,
    /// Version of the program.
    pub version: String,
    /// Addresses of its data listener.
    #[serde(default)]
    pub data: Vec<String>,
    /// Address of its admin listener.
    #[serde(default)]
    pub admin: Option<String>,
    /// Seconds since it started.
    #[serde(default)]
    pub uptime_seconds: u64,
    /// How often its configuration was replaced.
    #[serde(default)]
    pub generation: u64,
    /// Whether it winds down.
    #[serde(default)]
    pub draining: bool,
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    v: u32,
    #[serde(flatten)]
    message: T,
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u32,
}

/// Why a message could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum MessageError {
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    #[error("a line of more than 64 KiB, or without an end")]
    Unended,
    #[error("not a message of the control protocol")]
    Garbage,
    #[error("version {0} of the control protocol, where this program speaks {VERSION}")]
    Version(u32),
}

pub(super) async fn read<T: for<'a> Deserialize<'a>>(
    from: impl AsyncRead + Unpin,
) -> Result<T, MessageError> {
    let mut from = from.take(LINE_MAX);
    let mut line = Vec::new();
    let mut chunk = [0; 1024];
    while !line.contains(&b'\n') {
        let count = from.read(&mut chunk).await?;
        if count == 0 {
            return Err(MessageError::Unended);
        }
        line.extend_from_slice(&chunk[..count]);
    }
    let version: VersionOnly = serde_json::from_slice(&line).map_err(|_| MessageError::Garbage)?;
    if version.v != VERSION {
        return Err(MessageError::Version(version.v));
    }
    serde_json::from_slice::<Envelope<T>>(&line)
        .map(|envelope| envelope.message)
        .map_err(|_| MessageError::Garbage)
}

pub(super) async fn write<T: Serialize>(
    mut to: impl AsyncWrite + Unpin,
    message: T,
) -> Result<(), MessageError> {
    let envelope = Envelope {
        v: VERSION,
        message,
    };
    let mut line = serde_json::to_vec(&envelope).map_err(|_| MessageError::Garbage)?;
    line.push(b'\n');
    to.write_all(&line).await?;
    Ok(())
}
