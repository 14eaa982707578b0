//! Integration tests: a real sidecar on real sockets, one module per concern.

mod answers;
mod architecture;
mod bearer;
mod harness;
mod hop_by_hop;
mod identity_headers;
mod observe_mode;
mod path_readings;
mod query_bytes;
mod retries;
mod routes;
mod streaming;
mod sudo;
mod tenant;
mod upstreams;
