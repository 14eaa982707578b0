//! Rate limits: which apply to a request, whether all of them pass, what to tell who was refused
//! (contract §8). Knows nothing of HTTP, of clients or of tokens: it is told the parts of a key.
//! Read `limit.rs` first.

mod buckets;
pub mod limit;

use std::num::NonZeroU32;

use crate::base::units::Rate;

pub use limit::{Exceeded, KeyValues, Limit, Limits, Spent};

/// The name of the limit that is always there: it counts credentials that failed.
pub const FAILED_CREDENTIALS: &str = "failed-credentials";

/// What a limit counts by; a limit may combine several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyPart {
    /// The client a token belongs to.
    Client,
    /// The token.
    Token,
    /// The address of the peer, or the one a trusted proxy names.
    Ip,
    /// The user of the sudo parameter.
    User,
    /// The tenant of the tenant parameter.
    Tenant,
    /// The route.
    Route,
    /// One bucket for all.
    Global,
}

impl KeyPart {
    /// Every part with its spelling in the configuration.
    pub const SPELLINGS: [(&'static str, Self); 7] = [
        ("client", Self::Client),
        ("token", Self::Token),
        ("ip", Self::Ip),
        ("user", Self::User),
        ("tenant", Self::Tenant),
        ("route", Self::Route),
        ("global", Self::Global),
    ];
}

/// Whether a limit refuses or only counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Over the limit is refused.
    #[default]
    Enforce,
    /// Over the limit is counted and passes.
    Shadow,
}

/// What one table `[rate_limits.NAME]` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The table's name.
    pub name: String,
    /// What it counts by.
    pub key: Vec<KeyPart>,
    /// Cells regained in a period.
    pub rate: Rate,
    /// The bucket's size in cells.
    pub burst: NonZeroU32,
    /// Refuse or count.
    pub mode: Mode,
    /// Most keys kept apart; beyond it new keys share overflow buckets.
    pub max_keys: usize,
}

/// Default of `max_keys`.
pub const DEFAULT_MAX_KEYS: usize = 100_000;

impl Settings {
    /// The limit `failed-credentials` where the configuration does not mention it: 20 a minute, 40 at once.
    #[must_use]
    pub fn failed_credentials() -> Self {
        Self {
            name: FAILED_CREDENTIALS.to_owned(),
            key: vec![KeyPart::Ip],
            rate: Rate {
                count: NonZeroU32::new(20).unwrap_or(NonZeroU32::MIN),
                period: std::time::Duration::from_secs(60),
            },
            burst: NonZeroU32::new(40).unwrap_or(NonZeroU32::MIN),
            mode: Mode::Enforce,
            max_keys: DEFAULT_MAX_KEYS,
        }
    }
}
