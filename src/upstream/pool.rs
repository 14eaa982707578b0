//! Idle connections to backends, a pool for each worker: no lock is ever waited for, and a
//! connection is used by the core that opened it. Bounded in number and in age.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;

use super::Upstream;
use super::body::{Progress, RequestBody};
use super::connect::{ConnectError, Heard};

/// More header lines than any honest answer has.
const MAX_ANSWER_HEADERS: usize = 256;

struct Idle {
    sender: SendRequest<RequestBody>,
    heard: Heard,
    since: Instant,
    keep: Duration,
}

#[derive(Default)]
struct AllIdle {
    /// By the upstream's index; the most recently used last.
    by_upstream: Vec<Vec<Idle>>,
    /// When the sweeper comes next; `None` while it sees nothing to do.
    next_sweep: Option<Instant>,
}

impl Drop for Pool {
    /// Ends the sweeper that waits for something to sweep.
    fn drop(&mut self) {
        self.filled.notify_one();
    }
}

/// The idle connections of one worker.
pub struct Pool {
    idle: Mutex<AllIdle>,
    /// Told when there is something to sweep, or sooner than the sweeper knows.
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

    fn idle(&self) -> MutexGuard<'_, AllIdle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle connection that is still open and young enough.
    pub(super) async fn take(self: &Arc<Self>, upstream: &Arc<Upstream>) -> Option<Lease> {
        loop {
            let idle = self.idle().by_upstream.get_mut(upstream.index)?.pop()?;
            let usable = !idle.sender.is_closed() && idle.since.elapsed() < idle.keep;
            // It was given back when its last answer ended. If it is not ready, then either its task has
            // not yet run since, or it still writes: the backend answered without reading the whole
            // request, and may never read on.
            if usable && (idle.sender.is_ready() || is_ready_in_a_moment(&idle.sender).await) {
                return Some(Lease::new(idle.sender, idle.heard, upstream, self, true));
            }
        }
    }

    /// Opens a new connection; its task runs on this worker.
    pub(super) async fn open(
        self: &Arc<Self>,
        upstream: &Arc<Upstream>,
    ) -> Result<Lease, ConnectError> {
        let transport = upstream.connector.connect(&upstream.settings).await?;
        let heard = transport.heard().clone();
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
        Ok(Lease::new(sender, heard, upstream, self, false))
    }

    fn put(&self, upstream: &Upstream, sender: SendRequest<RequestBody>, heard: Heard) {
        let settings = &upstream.settings;
        let keep = settings.idle_timeout;
        let mut idle = self.idle();
        let idle = &mut *idle;
        if idle.by_upstream.len() <= upstream.index {
            idle.by_upstream.resize_with(upstream.index + 1, Vec::new);
        }
        let ours = &mut idle.by_upstream[upstream.index];
        if ours.len() >= settings.idle_connections || keep.is_zero() {
            return;
        }
        let since = Instant::now();
        // Upstreams keep theirs for different times: one may be due before the one that is waited for.
        let due = since + keep + SHORTEST_PAUSE;
        if idle.next_sweep.is_none_or(|next| due < next) {
            idle.next_sweep = Some(due);
            self.filled.notify_one();
        }
        ours.push(Idle {
            sender,
            heard,
            since,
            keep,
        });
    }

    /// Drops what is closed or too old; how long to wait until that can be so for another one.
    fn sweep(&self) -> Option<Duration> {
        let mut next: Option<Duration> = None;
        let mut idle = self.idle();
        for ours in &mut idle.by_upstream {
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
        let pause = next.map(|next| next.max(SHORTEST_PAUSE));
        idle.next_sweep = pause.map(|pause| Instant::now() + pause);
        pause
    }
}

/// Lets the connection's task run once.
async fn is_ready_in_a_moment(sender: &SendRequest<RequestBody>) -> bool {
    tokio::task::yield_now().await;
    sender.is_ready()
}

/// So that a burst of connections that end one after the other is swept in few rounds.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// Closes connections that nobody used for their time, and sleeps while there are none.
async fn sweep_regularly(pool: Weak<Pool>, filled: Arc<Notify>) {
    loop {
        let Some(next) = pool.upgrade().map(|pool| pool.sweep()) else {
            return;
        };
        match next {
            Some(next) => {
                tokio::select! {
                    () = tokio::time::sleep(next) => {}
                    () = filled.notified() => {}
                }
            }
            None => filled.notified().await,
        }
    }
}

/// A connection in use.
pub(super) struct Lease {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) heard: Heard,
    upstream: Arc<Upstream>,
    pool: Arc<Pool>,
    /// It has carried a request before.
    pub(super) reused: bool,
    /// The body of the request it carries.
    pub(super) request: Option<Arc<Progress>>,
    /// No request may follow on it, whatever the backend says.
    pub(super) last: bool,
}

impl Lease {
    fn new(
        sender: SendRequest<RequestBody>,
        heard: Heard,
        upstream: &Arc<Upstream>,
        pool: &Arc<Pool>,
        reused: bool,
    ) -> Self {
        Self {
            sender,
            heard,
            upstream: Arc::clone(upstream),
            pool: Arc::clone(pool),
            reused,
            request: None,
            last: false,
        }
    }

    /// After the answer has ended: back to the pool, unless the request has not.
    pub(super) fn give_back(self) {
        let whole = self.request.as_ref().is_none_or(|body| body.is_whole());
        if whole && !self.last && !self.sender.is_closed() {
            self.pool.put(&self.upstream, self.sender, self.heard);
        }
    }
}
