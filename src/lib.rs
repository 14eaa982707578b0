//! Sidegate: a reverse-proxy authentication sidecar. Callers send a token; the service behind it, which
//! knows nothing of tokens, gets headers it can trust.
//!
//! # The rooms, from the ground up
//!
//! A folder is a room; its `mod.rs` is the door and says what the room is for, what it must never know
//! and which file to read first. A file imports rooms of a lower rank and its own, never a higher one or
//! a sibling; `tests/it/architecture.rs` keeps it so.
//!
//! | rank | rooms | what for |
//! |---|---|---|
//! | 0 | [`base`], [`observe`], [`refusal`] | time, secrets, units; what an operator sees; every way to say no |
//! | 1 | [`tokens`], [`clients`], [`limits`] | the features; none knows another |
//! | 2 | [`store`], [`server`], [`control`] | where it is kept; from socket to request; how commands reach a running sidecar |
//! | 3 | [`gate`] | may this request pass, and as whom |
//! | 4 | [`upstream`], [`endpoints`] | the way out; Sidegate's own HTTP |
//! | 5 | [`config`] | text to settings |
//! | 6 | [`front`] | one request from start to end |
//! | 7 | [`app`] | the composition root |
//! | 8 | [`cli`] | one file for each command |
//!
//! # Two planes
//!
//! The *data plane* is one thread with its own runtime, listener and pool of backend connections for each
//! core: a request is read, decided and forwarded on one core. The *control plane* is one small runtime
//! for everything else: own endpoints, the store, the admin listener, commands.
//!
//! # The walk of one request
//!
//! `server/worker` accepts → `server/connection` reads the head and keeps the time → [`front`] gives an id
//! → `server/framing` refuses heads with two readings → `endpoints`: one of ours? → [`gate::Gate::decide`]:
//! `path`, `route`, `query`, `credential`, `tokens/verify`, `sudo`, `tenant`, `limits`, `identity` → a
//! [`gate::Permit`], which writes the head that goes on → `upstream/forward` → `front/record` counts it and
//! writes the log line when the answer has ended. Any step may end it with a [`refusal::Refusal`]; only
//! [`front`] renders one.
//!
//! # The walk of one token
//!
//! Born: `endpoints/oauth2_server` → `clients/registry` authenticates → `tokens/issue` → `store` keeps its
//! hash → shown once. Used: `gate/credential` → `tokens/format` (a bad checksum dies here) →
//! `tokens/verify` → its cache, else the store → `gate/identity`. Revoked: the store first, then
//! `tokens/verify` forgets; other processes hear of it through the store's change log.

pub mod app;
pub mod base;
pub mod cli;
pub mod clients;
pub mod config;
pub mod control;
pub mod echo;
pub mod endpoints;
pub mod front;
pub mod gate;
pub mod limits;
pub mod observe;
pub mod refusal;
pub mod server;
pub mod store;
pub mod tokens;
pub mod upstream;
