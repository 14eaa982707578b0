//! Integration tests: a real sidecar on real sockets, one module per concern.

// Helpers of tests are tests: what they cannot do fails the test that asked for it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub
)]

mod architecture;
mod cli;
mod cli_running;
mod deploy;
mod desk;
mod harness;
mod readme;
mod real_software;
mod smoke;
