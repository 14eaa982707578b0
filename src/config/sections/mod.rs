//! One file for each table of the configuration: its keys, their defaults, their checks.

pub(super) mod admin;
pub(super) mod clients;
pub(super) mod endpoints;
pub(super) mod identity;
pub(super) mod log;
pub(super) mod rate_limits;
pub(super) mod routes;
pub(super) mod server;
pub(super) mod store;
pub(super) mod tokens;
pub(super) mod upstreams;
