//! A command's end: tells all sidecars of this host at once, and never waits long for one that hangs.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::message::{self, Reply, Request};
use super::places::Places;

/// For one sidecar, from connecting to its answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// By then a sidecar that could not be told has polled the store (every 250 ms).
const UNTOLD: Duration = Duration::from_millis(300);

/// How telling went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// What those who answered said, by the path of their sockets; failures of theirs are among it.
    pub replies: Vec<(PathBuf, Reply)>,
    /// Those who listen but gave no answer that can be read. A socket nobody listens on is not here.
    pub unreachable: Vec<PathBuf>,
}

impl Told {
    /// How many did what was asked.
    #[must_use]
    pub fn heard(&self) -> usize {
        let done = |(_, reply): &&(PathBuf, Reply)| !matches!(reply, Reply::Failed { .. });
        self.replies.iter().filter(done).count()
    }

    /// Whether one of those who listen may not have done it.
    #[must_use]
    pub fn any_untold(&self) -> bool {
        self.heard() < self.replies.len() || !self.unreachable.is_empty()
    }
}

enum Ended {
    Replied(Reply),
    NobodyThere,
    Unreachable,
}

/// Asks every sidecar of this host at the same time; takes two seconds at most.
pub async fn tell_all(places: &Places, request: Request) -> Told {
    tell_within(TIMEOUT, places, request).await
}

pub(super) async fn tell_within(limit: Duration, places: &Places, request: Request) -> Told {
    let mut asking = JoinSet::new();
    for path in places.sockets() {
        let request = request.clone();
        asking.spawn(async move {
            let ended = tokio::time::timeout(limit, ask(&path, request)).await;
            (path, ended.unwrap_or(Ended::Unreachable))
        });
    }
    let mut told = Told::default();
    while let Some(ended) = asking.join_next().await {
        match ended {
            Ok((path, Ended::Replied(reply))) => told.replies.push((path, reply)),
            Ok((path, Ended::Unreachable)) => told.unreachable.push(path),
            Ok((_, Ended::NobodyThere)) | Err(_) => {}
        }
    }
    told.replies.sort_by(|a, b| a.0.cmp(&b.0));
    told.unreachable.sort();
    told
}

async fn ask(path: &PathBuf, request: Request) -> Ended {
    let mut stream = loop {
        match UnixStream::connect(path).await {
            Ok(stream) => break stream,
            Err(error) => match error.kind() {
                ErrorKind::ConnectionRefused | ErrorKind::NotFound => return Ended::NobodyThere,
                // Its queue is full; the caller's time-out ends this.
                ErrorKind::WouldBlock => tokio::time::sleep(Duration::from_millis(10)).await,
                _ => return Ended::Unreachable,
            },
        }
    };
    if message::write(&mut stream, request).await.is_err() {
        return Ended::Unreachable;
    }
    message::read(&mut stream)
        .await
        .map_or(Ended::Unreachable, Ended::Replied)
}

/// Returns once every sidecar of this host that uses the store has applied what was committed at
/// `committed`; when none is found or one could not be told, not before 300 ms after that. Gives the sockets
/// of those that may not have applied it.
pub async fn store_changed(places: &Places, store_id: &str, committed: Instant) -> Vec<PathBuf> {
    let store = store_id.to_owned();
    let told = tell_all(places, Request::Sync { store }).await;
    let applied = |(_, reply): &(PathBuf, Reply)| *reply == Reply::Synced { uses: true };
    if told.any_untold() || !told.replies.iter().any(applied) {
        tokio::time::sleep_until(committed + UNTOLD).await;
    }
    let failed = told.replies.into_iter();
    let failed = failed.filter(|(_, reply)| matches!(reply, Reply::Failed { .. }));
    failed
        .map(|(path, _)| path)
        .chain(told.unreachable)
        .collect()
}
