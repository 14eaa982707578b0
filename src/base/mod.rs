//! What every room may use and what knows none of them: time, secrets, units of the configuration,
//! and the words of OAuth that several rooms share. Imports nothing of ours.
//! Read `oauth.rs` first.

pub mod clock;
pub mod glob;
pub mod oauth;
pub mod secret;
pub mod units;
