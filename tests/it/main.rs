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
mod bad_surroundings;
mod bearer;
mod cli;
mod cli_running;
mod cli_two_sidecars;
mod connections;
mod deploy;
mod desk;
mod drain;
mod framing;
mod harness;
mod health;
mod hop_by_hop;
mod identity_headers;
mod kill9;
mod logs;
mod metrics;
mod oauth2_server;
mod observe_mode;
mod path_readings;
mod query_bytes;
mod rate_limits;
mod readme;
mod real_software;
mod retries;
mod routes;
mod smoke;
mod streaming;
mod sudo;
mod tenant;
mod timeouts;
mod token_cache;
mod upstreams;
