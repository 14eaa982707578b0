//! `sidegate drain`: tells the running sidecar to turn unready and wind down.

use super::failure::Failure;
use super::place::{Place, block_on, places};
use super::{help, output};
use crate::control::{self, Reply, Request, Told};

/// Tell the running sidecar to wind down while it still serves
///
/// The sidecar's `/readyz` turns 503 and its answers carry `Connection: close`, so that load
/// balancers and clients turn away from it, but it keeps serving. Returns at once; end the sidecar
/// later with SIGTERM. Made for preStop hooks. Every sidecar of this configuration on this host is
/// told, over its control socket.
#[derive(Debug, clap::Args)]
#[command(after_long_help = help!(
    "  sidegate drain -c /etc/sidegate/config.toml\n  \
       sidegate drain && sleep 5      as a preStop hook, before SIGTERM arrives"
))]
pub(super) struct Arguments {}

pub(super) fn run(_: &Arguments, place: &Place) -> Result<(), Failure> {
    let config = place.load()?;
    let told = block_on(async { Ok(control::tell_all(&places(&config), Request::Drain).await) })?;
    if told.any_untold() {
        return Err(Failure::unavailable(format!(
            "{} of the running sidecars did not drain: {}. See their logs, or end them with SIGTERM.",
            told.replies.len() + told.unreachable.len() - told.heard(),
            untold(&told)
        )));
    }
    match told.heard() {
        0 => Err(Failure::unavailable(format!(
            "no running sidecar of {} was found to drain. Is it running on this host, as a user whose \
             control socket you may use? Its log says where that socket is.",
            config.file.display()
        ))),
        1 => {
            output::say("the sidecar drains: it is unready and keeps serving until it is ended");
            Ok(())
        }
        n => {
            output::say(&format!(
                "{n} sidecars drain: they are unready and keep serving until they are ended"
            ));
            Ok(())
        }
    }
}

/// Those that did not do it, by their sockets.
fn untold(told: &Told) -> String {
    let failed = told
        .replies
        .iter()
        .filter_map(|(socket, reply)| match reply {
            Reply::Failed { .. } => Some(socket),
            _ => None,
        });
    let sockets: Vec<_> = failed
        .chain(&told.unreachable)
        .map(|socket| socket.display().to_string())
        .collect();
    sockets.join(", ")
}
