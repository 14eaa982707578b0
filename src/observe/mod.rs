//! What an operator sees: log lines, audit lines, metrics, and the id that ties them together. Knows
//! nothing of tokens, routes or requests: it is told what to write. Read `lines.rs` first.

pub mod access;
pub mod audit;
mod escape;
mod events;
pub mod lines;
pub mod metrics;
pub mod request_id;
pub mod settings;

pub use access::{AccessLine, CredentialKind};
pub use audit::AuditLine;
pub use events::init;
pub use lines::Lines;
pub use metrics::Metrics;
pub use request_id::RequestId;
