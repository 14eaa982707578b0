//! Integration tests: a real sidecar on real sockets, one module per concern.

// Helpers of tests are tests: what they cannot do fails the test that asked for it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub
)]

mod answers;
mod architecture;
mod bearer;
mod cli;
mod cli_running;
mod deploy;
mod desk;
mod harness;
mod hop_by_hop;
mod identity_headers;
mod observe_mode;
mod path_readings;
mod query_bytes;
mod readme;
mod real_software;
mod retries;
mod routes;
mod smoke;
mod streaming;
mod sudo;
mod tenant;
mod upstreams;
