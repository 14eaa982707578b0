//! `sidegate serve`: the sidecar, from a configuration file until a signal ends it.

use std::io;
use std::time::Duration;

use tokio::sync::oneshot;

use super::failure::{Code, Failure};
use super::help;
use super::place::{self, Place};
use super::signals::{Asked, Signals};
use crate::app::{self, Blame, Running, StartError};
use crate::base::clock::Clock;
use crate::config::Config;
use crate::observe::{self, Lines};

/// Threads of the control plane; proxied requests have threads of their own.
const CONTROL_THREADS: usize = 2;
/// How long what is still running may hold up the end of the process.
const LAST_MOMENT: Duration = Duration::from_millis(100);
/// How long "at once" may take.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Run the sidecar from a configuration file
///
/// Logs to standard error, one JSON object a line (`[log] format` says otherwise). SIGTERM and
/// Ctrl-C wind it down: `/readyz` turns 503, answers carry `Connection: close`, then the listeners
/// stop accepting, and requests in flight finish within `drain_timeout`; it ends with 0. A second
/// signal ends it at once, with 1. SIGHUP is noted in the log and ends nothing: a changed
/// configuration takes a restart.
#[derive(Debug, clap::Args)]
#[command(after_long_help = help!(
    "  sidegate check -c /etc/sidegate/config.toml && sidegate serve -c /etc/sidegate/config.toml\n  \
       SIDEGATE__LOG__FORMAT=text sidegate serve"
))]
pub(super) struct Arguments {}

pub(super) fn run(_: &Arguments, place: &Place) -> Result<(), Failure> {
    let config = place.load()?;
    in_control_plane(serve(config))
}

/// Runs `future` where the control plane's tasks run too.
pub(super) fn in_control_plane(
    future: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| Failure::other(format!("cannot start threads: {error}.")))?;
    let outcome = runtime.block_on(future);
    runtime.shutdown_timeout(LAST_MOMENT);
    outcome
}

async fn serve(config: Config) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let running = tokio::select! {
        started = start(config) => started?,
        () = ended(&mut signals) => return Ok(()),
    };
    ended(&mut signals).await;
    wind_down(running, &mut signals).await
}

/// Starts the sidecar with its log on standard error; what it fails with names the exit code.
pub(super) async fn start(config: Config) -> Result<Running, Failure> {
    let lines = Lines::to(io::stderr(), config.log.format);
    observe::init(&config.log, &lines);
    let options = app::Options {
        runtime_directory: place::runtime_directory(),
        lines,
        clock: Clock::system(),
    };
    app::start(config, options)
        .await
        .map_err(|error| not_started(&error))
}

fn not_started(error: &StartError) -> Failure {
    let text = format!("cannot start: {error}");
    match error.blame() {
        Blame::Configuration => Failure::configuration(text),
        Blame::Service => Failure::unavailable(text),
        Blame::Other => Failure::other(text),
    }
}

/// Returns when a signal asks to end; others are noted.
async fn ended(signals: &mut Signals) {
    while signals.next().await == Asked::Reload {
        tracing::warn!(
            "SIGHUP changes nothing in this version: restart sidegate for a changed configuration"
        );
    }
}

/// Finishes what is in flight; another signal ends it at once.
pub(super) async fn wind_down(running: Running, signals: &mut Signals) -> Result<(), Failure> {
    tracing::info!("winding down: requests in flight are finished; a second signal cuts them off");
    let (hurry, hurried) = oneshot::channel::<()>();
    let stopped = running.stop(async {
        let _ = hurried.await;
    });
    let mut stopped = std::pin::pin!(stopped);
    tokio::select! {
        () = &mut stopped => return Ok(()),
        () = ended(signals) => {}
    }
    tracing::warn!("a second signal: requests in flight are cut off");
    let _ = hurry.send(());
    // Whatever does not come to an end now ends with the process.
    let _ = tokio::time::timeout(AT_ONCE, stopped).await;
    Err(Failure::Silent(Code::Other))
}
