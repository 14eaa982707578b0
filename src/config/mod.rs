//! Text to settings; the only reader of configuration files and environment.

use std::path::PathBuf;

use crate::clients::Client;
use crate::{endpoints, gate, limits, observe, server, store, tokens, upstream};

/// A whole configuration, checked: nothing behind it has anything left to doubt.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// `[server]`.
    pub server: server::settings::Settings,
    /// `[admin]`.
    pub admin: AdminSettings,
    /// `[log]`.
    pub log: observe::settings::Settings,
    /// `[upstreams.*]`, by name.
    pub upstreams: Vec<upstream::settings::Settings>,
    /// `[[routes]]`; the one default route where the file has none.
    pub routes: Vec<gate::settings::RouteSettings>,
    /// `[identity]`.
    pub identity: gate::settings::IdentitySettings,
    /// `[store]`.
    pub store: store::settings::Settings,
    /// `[tokens]`.
    pub tokens: tokens::Settings,
    /// `[[clients]]`.
    pub clients: Vec<Client>,
    /// `[rate_limits.*]`; `failed-credentials` is always among them.
    pub rate_limits: Vec<limits::Settings>,
    /// `[endpoints]`.
    pub endpoints: endpoints::settings::Settings,
}

/// What `[admin]` says.
#[derive(Clone, Debug, Default)]
pub struct AdminSettings {
    /// Where the control socket is; `None`: the place of contract §2.
    pub socket: Option<PathBuf>,
}
