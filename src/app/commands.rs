//! What commands ask of a running sidecar over its control socket, answered.

use std::net::SocketAddr;
use std::sync::Arc;

use super::changes::Changes;
use crate::base::clock::{Clock, Now};
use crate::control::{self, Reply, Status};
use crate::endpoints::admin::Readiness;
use crate::server::Drain;

/// What commands ask of this sidecar over its control socket.
pub(super) struct Commands {
    pub(super) store: String,
    pub(super) changes: Arc<Changes>,
    pub(super) drain: Drain,
    pub(super) readiness: Arc<Readiness>,
    pub(super) data: Vec<SocketAddr>,
    pub(super) admin: SocketAddr,
    pub(super) clock: Clock,
    pub(super) started: Now,
}

impl control::Handler for Commands {
    async fn handle(&self, request: control::Request) -> Reply {
        match request {
            control::Request::Sync { store } if store != self.store => {
                Reply::Synced { uses: false }
            }
            control::Request::Sync { .. } => match self.changes.catch_up().await {
                Ok(()) => Reply::Synced { uses: true },
                Err(error) => Reply::Failed {
                    message: error.to_string(),
                },
            },
            control::Request::Drain => {
                tracing::info!("draining: unready from now on, still serving");
                self.readiness.drain();
                self.drain.begin();
                Reply::Draining
            }
            control::Request::Status => Reply::Status(Status {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                data: self.data.iter().map(ToString::to_string).collect(),
                admin: Some(self.admin.to_string()),
                uptime_seconds: self.clock.now().since(self.started).as_secs(),
                generation: 0,
                draining: self.drain.is_draining(),
            }),
        }
    }
}
