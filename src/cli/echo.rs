//! `sidegate echo`: the echo backend on an address of one's choice.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::failure::Failure;
use super::place::{Place, block_on};
use super::{help, output, signals};

/// Run a backend that answers with what it was sent
///
/// Answers every request with one JSON object, `{method, path, query, headers: [[name,value]…],
/// body_bytes, body_sha256}`, so that one sees what a service behind Sidegate would see. Bodies of
/// any size are counted and hashed, never kept. Prints its address on standard output once it
/// listens; Ctrl-C or SIGTERM ends it. It needs no configuration.
#[derive(Debug, clap::Args)]
#[command(after_long_help = help!(
    "  sidegate echo --listen 127.0.0.1:3000\n  \
       sidegate echo --listen 127.0.0.1:0       on a free port, which it prints"
))]
pub(super) struct Arguments {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
}

pub(super) fn run(arguments: &Arguments, _: &Place) -> Result<(), Failure> {
    block_on(async {
        let mut signals = signals::Signals::listen()?;
        let listener = listen(arguments.listen).await?;
        let addr = listener.local_addr().map_err(|error| {
            Failure::other(format!("cannot tell the address that was bound: {error}."))
        })?;
        output::line(&format!("http://{addr}"))?;
        crate::echo::serve(listener, async { signals.any().await }).await;
        Ok(())
    })
}

/// Binds, or says how it is mended.
pub(super) async fn listen(addr: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(addr).await.map_err(|error| {
        let mend = match error.kind() {
            std::io::ErrorKind::AddrInUse => "End the program that listens there, or choose another port; port 0 takes a free one.",
            std::io::ErrorKind::AddrNotAvailable => "Choose an address of this machine, such as 127.0.0.1.",
            std::io::ErrorKind::PermissionDenied => "Choose a port from 1024 on.",
            _ => "Choose another address.",
        };
        Failure::unavailable(format!("cannot listen on {addr}: {error}. {mend}"))
    })
}
