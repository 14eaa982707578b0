//! What an operator sees: log lines, audit lines, metrics.

pub mod access;
pub mod settings;
