//! Integration tests: a real sidecar on real sockets, one module per concern.

mod architecture;
mod connections;
mod drain;
mod framing;
mod harness;
mod health;
mod kill9;
mod oauth2_server;
mod rate_limits;
mod smoke;
mod timeouts;
mod token_cache;
