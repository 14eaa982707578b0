//! The way out: connections to the services behind Sidegate. Opens only to a `gate::Outbound`, which
//! only a `gate::Permit` becomes. Knows nothing of tokens, limits or how a refusal looks on the wire.
//! Read `forward.rs` first.

pub mod body;
mod connect;
pub mod forward;
pub mod pool;
mod retry;
pub mod settings;

use std::sync::Arc;

use http::HeaderValue;

pub use connect::SetupError;
pub use forward::{Answered, forward};
pub use pool::Pool;
pub use settings::Settings;

use connect::Connector;

/// One service behind Sidegate, ready to be connected to. Shared by all workers.
#[derive(Debug)]
pub struct Upstream {
    settings: Settings,
    /// Its place in a worker's pool.
    index: usize,
    connector: Connector,
    authority: HeaderValue,
}

impl Upstream {
    /// Makes the upstreams of a configuration, reading the certificate files they name.
    ///
    /// # Errors
    /// When such a file cannot be used; says which and why.
    pub fn all(settings: Vec<Settings>) -> Result<Vec<Arc<Self>>, SetupError> {
        settings
            .into_iter()
            .enumerate()
            .map(|(index, settings)| {
                Ok(Arc::new(Self {
                    connector: Connector::new(&settings)?,
                    authority: settings.origin.authority(),
                    settings,
                    index,
                }))
            })
            .collect()
    }

    /// The Host of requests that came without one.
    #[must_use]
    pub fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// Its table in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }
}
