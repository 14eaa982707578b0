//! What one table `[upstreams.NAME]` says.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;

/// How a backend's URL is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// TLS or clear.
    pub tls: bool,
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    /// Port; the scheme's where the URL names none.
    pub port: u16,
}

impl Origin {
    /// Host, and port where it is not the scheme's, as a Host header says it.
    #[must_use]
    pub fn authority(&self) -> HeaderValue {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        let usual = if self.tls { 443 } else { 80 };
        let text = match self.port == usual {
            true => host,
            false => format!("{host}:{}", self.port),
        };
        // A checked URL's host is visible ASCII.
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("upstream"))
    }
}

/// One `[upstreams.NAME]` table, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The table's name.
    pub name: String,
    /// Where the service is.
    pub origin: Origin,
    /// Longest time to open a connection, TLS included.
    pub connect_timeout: Duration,
    /// Longest time from the last request byte sent to the response head.
    pub response_timeout: Duration,
    /// Most idle connections kept by each worker.
    pub idle_connections: usize,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// PEM file of a private CA; `None`: the system's roots.
    pub ca: Option<PathBuf>,
    /// PEM file of a client certificate.
    pub client_cert: Option<PathBuf>,
    /// PEM file of its key.
    pub client_key: Option<PathBuf>,
    /// SNI and certificate name; `None`: the URL's host.
    pub server_name: Option<String>,
}

impl Settings {
    /// An upstream with this name and origin, and the defaults of contract §2 for all the rest.
    #[must_use]
    pub fn new(name: &str, origin: Origin) -> Self {
        Self {
            name: name.to_owned(),
            origin,
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(60),
            idle_connections: 64,
            // Below what backends use (gunicorn 2 s, Node 5 s), so that they seldom close first.
            idle_timeout: Duration::from_millis(1500),
            ca: None,
            client_cert: None,
            client_key: None,
            server_name: None,
        }
    }
}
