//! From socket to request: listeners, connections, their limits and time-outs. Generic over who
//! answers; knows nothing of tokens or routes. Nothing a peer does or leaves undone holds a connection
//! longer than the settings say, and no request begins that the drain or the limits would cut.
//! Read `connection.rs` first.

use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;

mod body;
mod connection;
mod connections;
mod drain;
pub mod framing;
mod io;
mod listener;
pub mod peer;
pub mod settings;
mod slot;
#[cfg(test)]
mod tests_support;
mod worker;

pub use body::Received;
pub use connections::Connections;
pub use drain::Drain;
pub use listener::{BindError, Listeners, bind, bind_one, usable_cores};
pub use worker::{Workers, serve_on_current_runtime, start};

/// Any error of a body.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where the client's end is.
    pub addr: SocketAddr,
    /// Where ours is.
    pub local: SocketAddr,
}

/// Who answers; one for each worker.
pub trait Handler: Send + Sync + 'static {
    /// What answers are made of. An error in it breaks the connection, so that a cut answer never looks
    /// whole.
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static;

    /// Answers one request. Dropped when the client leaves, or the drain's deadline passes. A panic ends
    /// this connection only.
    fn call(
        &self,
        request: Request<Received>,
        peer: Peer,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}
