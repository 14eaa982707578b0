//! The control socket: how a command reaches the sidecars of this host (contract §1 and §2). Knows
//! nothing of stores or requests: who listens brings a [`Handler`]. Read `message.rs` first.

mod listen;
mod message;
mod places;
mod tell;

#[cfg(test)]
mod tests;

pub use listen::{BindError, Handler, Listener};
pub use message::{Reply, Request, Status};
pub use places::{Places, places};
pub use tell::{Told, store_changed, tell_all};
