//! Idle connections to backends, a pool for each worker: no lock is ever waited for, and a
//! connection is used by the core that opened it. Bounded in number and in age.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;

use super::Upstream;
use super::body::{Progress, RequestBody};
use super::connect::ConnectError;

/// More header lines than any honest answer has.
const MAX_ANSWER_HEADERS: usize = 256;

struct Idle {
    sender: SendRequest<RequestBody>,
    since: Instant,
    keep: Duration,
}

impl Drop for Pool {
    /// Ends the sweeper that waits for something to sweep.
    fn drop(&mut self) {
        self.filled.notify_one();
    }
}

/// The idle connections of one worker.
pub struct Pool {
    /// By the upstream's index; the most recently used last.
    idle: Mutex<Vec<Vec<Idle>>>,
    /// Told when there is something to sweep.
    filled: Arc<Notify>,
}

impl Pool {
    /// An empty pool. It sweeps itself on the runtime it is made on, for as long as it lives.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let filled = Arc::new(Notify::new());
        let pool = Arc::new(Self {
            idle: Mutex::default(),
            filled: Arc::clone(&filled),
        });
        tokio::spawn(sweep_regularly(Arc::downgrade(&pool), filled));
        pool
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle connection that is still open and young enough.
    pub(super) async fn take(self: &Arc<Self>, upstream: &Arc<Upstream>) -> Option<Lease> {
        loop {
            let mut idle = self.idle().get_mut(upstream.index)?.pop()?;
            let usable = !idle.sender.is_closed() && idle.since.elapsed() < idle.keep;
            // It was given back when its last answer ended; that its task has not yet run since is
            // the only way for it not to be ready.
            if usable && (idle.sender.is_ready() || idle.sender.ready().await.is_ok()) {
                return Some(Lease::new(idle.sender, upstream, self, true));
            }
        }
    }

    /// Opens a new connection; its task runs on this worker.
    pub(super) async fn open(
        self: &Arc<Self>,
        upstream: &Arc<Upstream>,
    ) -> Result<Lease, ConnectError> {
        let transport = upstream.connector.connect(&upstream.settings).await?;
        let (sender, connection) = Builder::new()
            .title_case_headers(true)
            .max_headers(MAX_ANSWER_HEADERS)
            .handshake(TokioIo::new(transport))
            .await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a backend's connection ended");
            }
        });
        Ok(Lease::new(sender, upstream, self, false))
    }

    fn put(&self, upstream: &Upstream, sender: SendRequest<RequestBody>) {
        let settings = &upstream.settings;
        let mut idle = self.idle();
        if idle.len() <= upstream.index {
            idle.resize_with(upstream.index + 1, Vec::new);
        }
        let ours = &mut idle[upstream.index];
        if ours.len() >= settings.idle_connections || settings.idle_timeout.is_zero() {
            return;
        }
        if ours.is_empty() {
            self.filled.notify_one();
        }
        ours.push(Idle {
            sender,
            since: Instant::now(),
            keep: settings.idle_timeout,
        });
    }

    /// Drops what is closed or too old; how long until that can be so for another one.
    fn sweep(&self) -> Option<Duration> {
        let mut next: Option<Duration> = None;
        for ours in self.idle().iter_mut() {
            ours.retain(|idle| {
                let left = idle.keep.saturating_sub(idle.since.elapsed());
                let keep = !left.is_zero() && !idle.sender.is_closed();
                if keep {
                    next = Some(next.map_or(left, |next| next.min(left)));
                }
                keep
            });
            if ours.is_empty() {
                ours.shrink_to_fit();
            }
        }
        next
    }
}

/// Closes connections that nobody used for their time, and sleeps while there are none.
async fn sweep_regularly(pool: Weak<Pool>, filled: Arc<Notify>) {
    /// So that a burst of connections that end one after the other is swept in few rounds.
    const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
    loop {
        let Some(next) = pool.upgrade().map(|pool| pool.sweep()) else {
            return;
        };
        match next {
            Some(next) => tokio::time::sleep(next.max(SHORTEST_PAUSE)).await,
            None => filled.notified().await,
        }
    }
}

/// A connection in use.
pub(super) struct Lease {
    pub(super) sender: SendRequest<RequestBody>,
    upstream: Arc<Upstream>,
    pool: Arc<Pool>,
    /// It has carried a request before.
    pub(super) reused: bool,
    /// The body of the request it carries.
    pub(super) request: Option<Arc<Progress>>,
}

impl Lease {
    fn new(
        sender: SendRequest<RequestBody>,
        upstream: &Arc<Upstream>,
        pool: &Arc<Pool>,
        reused: bool,
    ) -> Self {
        Self {
            sender,
            upstream: Arc::clone(upstream),
            pool: Arc::clone(pool),
            reused,
            request: None,
        }
    }

    /// After the answer has ended: back to the pool, unless the request has not.
    pub(super) fn give_back(self) {
        let whole = self.request.as_ref().is_none_or(|body| body.is_whole());
        if whole && !self.sender.is_closed() {
            self.pool.put(&self.upstream, self.sender);
        }
    }
}
