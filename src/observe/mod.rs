//! What an operator sees: log lines, audit lines, metrics. Knows nothing of what it is told about; sees
//! no token and no secret, because nobody hands it one. Read `lines.rs` first.

pub mod access;
pub mod audit;
mod events;
mod json;
pub mod lines;
pub mod metrics;
pub mod request_id;
pub mod settings;

pub use events::init;
pub use lines::Lines;
