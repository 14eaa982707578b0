//! Sidegate.

pub mod base;
pub mod cli;
pub mod clients;
pub mod config;
pub mod control;
pub mod echo;
pub mod endpoints;
pub mod gate;
pub mod limits;
pub mod observe;
pub mod refusal;
pub mod server;
pub mod store;
pub mod tokens;
pub mod upstream;
