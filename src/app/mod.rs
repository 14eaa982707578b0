//! The composition root: a checked configuration in, a running sidecar out. Everything is built here, in
//! numbered order, and nothing is decided.

mod changes;
mod commands;
mod counted;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::base::clock::{Clock, UnixMillis};
use crate::clients::registry::Registry;
use crate::config::Config;
use crate::control;
use crate::endpoints::admin::{Admin, Readiness};
use crate::endpoints::{Deps, Endpoints};
use crate::front::{Front, Shared};
use crate::gate::{Gate, Rules};
use crate::limits::Limits;
use crate::observe::Lines;
use crate::observe::Metrics;
use crate::observe::metrics::{NO_ROUTE, set_counter};
use crate::server::{self, Connections, Drain, Peer, Received, Workers};
use crate::store::{self, OpenError, OpenMode, Stores};
use crate::tokens::verify::Verifier;
use crate::upstream::Upstream;
use changes::Changes;
use commands::Commands;
use counted::Counted;

/// How often the store is asked what other processes changed (contract §1: 300 ms after a commit it
/// holds everywhere on this host).
const CHANGES_EVERY: Duration = Duration::from_millis(200);
/// How often limits forget keys that have nothing spent.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// How often tokens that ended long ago are deleted.
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// How long a token that ended is kept, so that `token inspect` can tell what became of it.
const KEEP_ENDED: Duration = Duration::from_secs(7 * 24 * 3600);
/// Tokens deleted in one transaction.
const PRUNE_BATCH: u32 = 500;

/// What the surroundings give a sidecar, beside its configuration.
#[derive(Clone)]
pub struct Options {
    /// `$RUNTIME_DIRECTORY`, if there is one.
    pub runtime_directory: Option<OsString>,
    /// Where log lines go.
    pub lines: Lines,
    /// The time.
    pub clock: Clock,
}

/// Whose fault it is that nothing was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The configuration asks for what cannot be.
    Configuration,
    /// Something that is needed is away or in use.
    Service,
    /// Anything else.
    Other,
}

/// Why nothing was started, in words for an operator.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct StartError {
    text: String,
    blame: Blame,
}

impl StartError {
    fn new(blame: Blame, text: impl ToString) -> Self {
        Self {
            text: text.to_string(),
            blame,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        self.blame
    }
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        Self::new(Blame::Service, error)
    }
}

/// A running sidecar.
pub struct Running {
    data: Vec<SocketAddr>,
    admin: SocketAddr,
    drain: Drain,
    drain_timeout: Duration,
    readiness: Arc<Readiness>,
    workers: Workers,
    admin_drain: Drain,
    admin_task: JoinHandle<std::io::Result<()>>,
    background: Vec<JoinHandle<()>>,
    stores: Stores,
    lines: Lines,
}

/// Starts a sidecar on the runtime it is called on, which becomes its control plane.
///
/// # Errors
/// When something cannot be had: says what, where and what to do.
pub async fn start(config: Config, options: Options) -> Result<Running, StartError> {
    let Options {
        runtime_directory,
        lines,
        clock,
    } = options;

    // 1. Addresses first: a second sidecar by mistake ends here, before it touches anything.
    let listeners =
        server::bind(&config.server).map_err(|error| StartError::new(Blame::Service, error))?;
    let admin_listener = server::bind_one("server.admin_listen", config.server.admin_listen)
        .map_err(|error| StartError::new(Blame::Service, error))?;
    let data = listeners.addrs().to_vec();
    let admin = admin_listener
        .local_addr()
        .map_err(|error| StartError::new(Blame::Other, error))?;

    // 2. Upstreams, which read certificate files.
    let upstreams = Upstream::all(config.upstreams.clone())
        .map_err(|error| StartError::new(Blame::Configuration, error))?;

    let readiness = Readiness::new();

    // 3. The store and what is cached of it.
    let metrics = Metrics::new();
    let stores = store::open(&config.store, clock.clone(), OpenMode::Create).await?;
    let clients = Arc::new(Registry::new(
        config.clients.clone(),
        Arc::clone(&stores.clients),
    ));
    clients
        .load()
        .await
        .map_err(|error| StartError::new(Blame::Service, error))?;
    let verifier = Verifier::new(
        &config.tokens,
        Arc::clone(&stores.tokens),
        Handle::current(),
        clock.clone(),
        Arc::new(Counted(Arc::clone(&metrics))),
    );
    let changes = Arc::new(Changes::new(
        Arc::clone(&stores.changes),
        Arc::clone(&verifier),
        Arc::clone(&clients),
        clock.clone(),
    ));
    changes
        .catch_up()
        .await
        .map_err(|error| StartError::new(Blame::Service, error))?;
    metrics.store_up.set(1);
    readiness.store_reached();

    // 4. What is decided by.
    let limits = Arc::new(Limits::new(&config.rate_limits, None));
    let rules = Arc::new(Rules::new(
        config.routes.clone(),
        &config.identity,
        Arc::clone(&limits),
    ));
    let by_route = |name: &str| upstreams.iter().find(|one| one.name() == name).cloned();
    let routes = rules.routes.all();
    let route_upstreams = routes
        .iter()
        .map(|route| {
            let name = &route.settings.upstream;
            by_route(name).ok_or_else(|| {
                let text = format!(
                    "route {} names no upstream that is there: {name}",
                    route.name
                );
                StartError::new(Blame::Configuration, text)
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let route_metrics = routes
        .iter()
        .map(|route| metrics.route(&route.name))
        .collect();

    // 5. Who answers.
    let drain = Drain::new();
    let endpoints = Arc::new(Endpoints::new(
        &config.endpoints,
        Deps {
            registry: Arc::clone(&clients),
            tokens: Arc::clone(&stores.tokens),
            verifier: Arc::clone(&verifier),
            limits: Arc::new(ArcSwap::new(Arc::clone(&limits))),
            clock: clock.clone(),
            lines: lines.clone(),
            metrics: Arc::clone(&metrics),
            token_settings: config.tokens.clone(),
            runtime: Handle::current(),
        },
    ));
    let shared = Arc::new(Shared {
        endpoints,
        upstreams: route_upstreams,
        route_metrics,
        routeless_metrics: metrics.route(NO_ROUTE),
        clock: clock.clone(),
        lines: lines.clone(),
        metrics: Arc::clone(&metrics),
        server: config.server.clone(),
        drain: drain.clone(),
        access_log: config.log.access,
    });

    // 6. The control socket: from here on commands find this sidecar.
    let store::settings::Settings::Sqlite(store_file) = &config.store;
    let places = control::places(
        config.admin.socket.as_deref(),
        Some(store_file),
        &config.file,
        runtime_directory.as_deref(),
    );
    let socket =
        control::Listener::bind(&places).map_err(|error| StartError::new(Blame::Service, error))?;
    let control_socket = socket.path().to_owned();
    let commands = Commands {
        store: stores.id().to_owned(),
        changes: Arc::clone(&changes),
        drain: drain.clone(),
        readiness: Arc::clone(&readiness),
        data: data.clone(),
        admin,
        clock: clock.clone(),
        started: clock.now(),
    };

    // 7. Work in the background.
    let background = vec![
        tokio::spawn(async move { socket.serve(commands).await }),
        tokio::spawn(every(CHANGES_EVERY, move || {
            let changes = Arc::clone(&changes);
            async move { changes.catch_up_or_warn().await }
        })),
        tokio::spawn(every(SWEEP_EVERY, {
            let (limits, clock) = (Arc::clone(&limits), clock.clone());
            move || {
                limits.sweep(clock.now());
                std::future::ready(())
            }
        })),
        tokio::spawn(every(PRUNE_EVERY, {
            let (stores, clock) = (stores.clone(), clock.clone());
            move || prune(stores.clone(), clock.clone())
        })),
    ];

    // 8. Workers and the admin listener.
    let connections = Connections::new(
        config.server.max_connections,
        config.server.max_connections_per_ip,
    );
    let deciding = (Arc::clone(&verifier), clients);
    let workers = server::start(listeners, &config.server, &connections, &drain, move |_| {
        let gate = Gate::new(
            Arc::clone(&rules),
            Arc::clone(&deciding.0),
            Arc::clone(&deciding.1),
        );
        Front::new(Arc::clone(&shared), gate)
    })
    .map_err(|error| StartError::new(Blame::Other, error))?;
    metrics.at_scrape({
        let (verifier, limits, lines) = (verifier, limits, lines.clone());
        move |metrics| {
            let cached = i64::try_from(verifier.cached_tokens()).unwrap_or(i64::MAX);
            metrics.cached_tokens.set(cached);
            for (name, keys, overflowed) in limits.sizes() {
                metrics.limit_size(name, keys, overflowed);
            }
            let open = i64::try_from(connections.open()).unwrap_or(i64::MAX);
            metrics.connections.set(open);
            set_counter(&metrics.connections_accepted, connections.accepted());
            set_counter(
                &metrics.connections_closed_for_room,
                connections.closed_for_room(),
            );
            set_counter(
                &metrics.connections_refused_per_ip,
                connections.refused_per_ip(),
            );
            set_counter(&metrics.log_lines_dropped, lines.dropped());
        }
    });
    let admin_drain = Drain::new();
    let admin_task = tokio::spawn(serve_admin(
        admin_listener,
        Admin::new(Arc::clone(&readiness), metrics),
        config.server.clone(),
        admin_drain.clone(),
    ));

    // 9. All is up.
    readiness.listening();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = ?data, admin = %admin, control = %control_socket.display(), "sidegate serves");
    Ok(Running {
        data,
        admin,
        drain,
        drain_timeout: config.server.drain_timeout,
        readiness,
        workers,
        admin_drain,
        admin_task,
        background,
        stores,
        lines,
    })
}

impl Running {
    /// Where clients call.
    #[must_use]
    pub fn data_addrs(&self) -> &[SocketAddr] {
        &self.data
    }

    /// Where health and metrics are.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    /// Turns unready and winds down while it still serves (contract §9, `sidegate drain`).
    pub fn begin_drain(&self) {
        self.readiness.drain();
        self.drain.begin();
    }

    /// Stops accepting, lets requests in flight finish within `drain_timeout`, and ends. `hurry` resolves
    /// when that is to be cut short.
    pub async fn stop(self, hurry: impl Future<Output = ()>) {
        self.begin_drain();
        self.drain.stop(Instant::now() + self.drain_timeout);
        let mut stopped = std::pin::pin!(self.workers.stopped());
        tokio::select! {
            biased;
            () = &mut stopped => {
                if self.drain.is_over() {
                    tracing::warn!("drain_timeout passed: what was still in flight was cut off");
                }
            }
            () = hurry => {
                self.drain.stop(Instant::now());
                stopped.await;
            }
        }
        // Health and metrics answer to the end.
        self.admin_drain.stop(Instant::now());
        if let Ok(Err(error)) = self.admin_task.await {
            tracing::warn!(%error, "the admin listener ended");
        }
        for task in self.background {
            task.abort();
        }
        self.stores.close().await;
        tracing::info!("sidegate stopped");
        self.lines.flush();
    }
}

/// The admin listener's handler.
struct AdminFront(Admin);

impl server::Handler for AdminFront {
    type Body = Full<Bytes>;

    async fn call(&self, request: Request<Received>, _: Peer) -> Response<Full<Bytes>> {
        self.0.answer(request).await.map(Full::new)
    }
}

async fn serve_admin(
    listener: std::net::TcpListener,
    admin: Admin,
    settings: server::settings::Settings,
    drain: Drain,
) -> std::io::Result<()> {
    /// Probes and scrapers are few.
    const CONNECTIONS: usize = 256;
    let connections = Connections::new(CONNECTIONS, 0);
    server::serve_on_current_runtime(
        listener,
        Arc::new(AdminFront(admin)),
        &settings,
        &connections,
        &drain,
    )
    .await
}

/// Does `work` again and again, the first time after `pause`, then each time `pause` after the last began, or
/// at once if that took longer.
async fn every<F: Future<Output = ()>>(pause: Duration, mut work: impl FnMut() -> F) {
    let mut ticks = tokio::time::interval_at(Instant::now() + pause, pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        work().await;
    }
}

/// Deletes tokens that ended long ago, in small transactions.
async fn prune(stores: Stores, clock: Clock) {
    let Some(before) = clock
        .now()
        .wall()
        .0
        .checked_sub(KEEP_ENDED.as_millis() as i64)
    else {
        return;
    };
    let before = UnixMillis(before);
    loop {
        match stores.tokens.prune(before, PRUNE_BATCH).await {
            Ok(deleted) if deleted >= u64::from(PRUNE_BATCH) => {}
            Ok(_) => return,
            Err(error) => {
                tracing::debug!(%error, "ended tokens could not be deleted");
                return;
            }
        }
    }
}
