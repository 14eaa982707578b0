//! Integration tests: a real sidecar on real sockets, one module per concern.

mod architecture;
mod harness;
mod real_software;
