//! What `[server]` says about sockets and connections.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

/// The connection part of `[server]`, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Data listeners.
    pub listen: Vec<SocketAddr>,
    /// Admin listener.
    pub admin_listen: SocketAddr,
    /// Data-plane threads; 0: usable cores, at most 4.
    pub workers: usize,
    /// How long requests in flight may take after SIGTERM.
    pub drain_timeout: Duration,
    /// Longest time to send a head, also for a connection that sends nothing.
    pub header_read_timeout: Duration,
    /// Longest life of a connection with no request in flight.
    pub idle_timeout: Duration,
    /// Longest time a body or tunnel may move no byte; zero: no bound.
    pub stream_idle_timeout: Duration,
    /// Largest head in bytes.
    pub max_header_bytes: usize,
    /// Most header lines.
    pub max_headers: usize,
    /// Largest request body in bytes; `None`: no bound.
    pub max_body: Option<u64>,
    /// Most client connections.
    pub max_connections: usize,
    /// Most client connections from one address; zero: no bound of its own.
    pub max_connections_per_ip: usize,
    /// Peers whose `X-Forwarded-*` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
            workers: 0,
            drain_timeout: Duration::from_secs(30),
            header_read_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            stream_idle_timeout: Duration::ZERO,
            max_header_bytes: 32 << 10,
            max_headers: 100,
            max_body: None,
            max_connections: 10_000,
            max_connections_per_ip: 0,
            trusted_proxies: Vec::new(),
        }
    }
}
