//! Integration tests: a real sidecar on real sockets, one module per concern.

mod architecture;
mod cli;
mod cli_running;
mod desk;
mod harness;
