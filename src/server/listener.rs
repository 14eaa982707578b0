//! Binding: one listener for each worker on every address, and nobody else on it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::settings::Settings;

/// Connections the kernel holds ready for one worker; it may bound this lower (`net.core.somaxconn`).
const BACKLOG: i32 = 1024;

/// A peer that vanished without a word is noticed within about two minutes, also where no time-out of ours
/// runs (a stream without `stream_idle_timeout`).
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

/// An address that cannot be listened on; says which, and the mend.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there.
    #[error(
        "{key}: {addr} is in use by another process, perhaps another sidegate: stop that one or set another address"
    )]
    InUse {
        /// The configuration key.
        key: &'static str,
        /// The address.
        addr: SocketAddr,
    },
    /// The user may not.
    #[error(
        "{key}: no permission to listen on {addr}: take a port from 1024 up, or grant CAP_NET_BIND_SERVICE"
    )]
    Denied {
        /// The configuration key.
        key: &'static str,
        /// The address.
        addr: SocketAddr,
    },
    /// Not an address of this machine.
    #[error(
        "{key}: this machine has no address {ip}: use one it has, or 0.0.0.0 for all",
        ip = addr.ip()
    )]
    NoSuchAddress {
        /// The configuration key.
        key: &'static str,
        /// The address.
        addr: SocketAddr,
    },
    /// Anything else.
    #[error("{key}: cannot listen on {addr}")]
    Other {
        /// The configuration key.
        key: &'static str,
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl BindError {
    fn new(key: &'static str, addr: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { key, addr },
            io::ErrorKind::PermissionDenied => Self::Denied { key, addr },
            io::ErrorKind::AddrNotAvailable => Self::NoSuchAddress { key, addr },
            _ => Self::Other { key, addr, source },
        }
    }
}

/// Bound data listeners: connections already queue up in the kernel.
#[derive(Debug)]
pub struct Listeners {
    addrs: Vec<SocketAddr>,
    /// For each worker, one listener on each address.
    pub(super) workers: Vec<Vec<TcpListener>>,
}

impl Listeners {
    /// The addresses, with the ports that port 0 became.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }
}

/// Binds the data listeners of `settings` for each worker.
///
/// `SO_REUSEPORT`, which lets the workers share a port, would let a second process of the same user share
/// it too, silently. So the first socket of a port binds and listens without it, which fails when anyone
/// else listens there, and is given it only then: the kernel looks at the flag of the sockets that are
/// there when the next one binds. The first socket is never closed in between, so no gap is left for
/// another process, and two that start at once cannot both succeed: `listen` checks again.
///
/// # Errors
/// [`BindError`] for the first address that cannot be listened on.
pub fn bind(settings: &Settings) -> Result<Listeners, BindError> {
    const KEY: &str = "server.listen";
    let count = match settings.workers {
        0 => usable_cores(),
        count => count,
    };
    let mut workers: Vec<Vec<TcpListener>> = (0..count).map(|_| Vec::new()).collect();
    let mut addrs = Vec::new();
    for addr in &settings.listen {
        let only_v6 = settings
            .listen
            .iter()
            .any(|other| other.is_ipv4() && other.port() == addr.port());
        let mut port = None;
        for worker in &mut workers {
            let listener = match port {
                None => first(*addr, only_v6),
                Some(port) => another(SocketAddr::new(addr.ip(), port), only_v6),
            };
            let listener = listener.map_err(|source| BindError::new(KEY, *addr, source))?;
            if port.is_none() {
                let bound = listener
                    .local_addr()
                    .map_err(|source| BindError::new(KEY, *addr, source))?;
                addrs.push(bound);
                port = Some(bound.port());
            }
            worker.push(listener);
        }
    }
    Ok(Listeners { addrs, workers })
}

/// Binds one listener that nobody shares, for the control plane; `key` is where its address is configured.
///
/// # Errors
/// [`BindError`] when the address cannot be listened on.
pub fn bind_one(key: &'static str, addr: SocketAddr) -> Result<TcpListener, BindError> {
    let bound = || {
        let socket = socket(addr, false)?;
        listen(socket, addr)
    };
    bound()
        .map(TcpListener::from)
        .map_err(|source| BindError::new(key, addr, source))
}

/// Cores this process may use (affinity and CPU quota respected), at most four.
#[must_use]
pub fn usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4))
}

fn first(addr: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = listen(socket(addr, only_v6)?, addr)?;
    socket.set_reuse_port(true)?;
    Ok(socket.into())
}

fn another(addr: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = socket(addr, only_v6)?;
    socket.set_reuse_port(true)?;
    listen(socket, addr).map(TcpListener::from)
}

/// A socket with the options that connections inherit from their listener.
fn socket(addr: SocketAddr, only_v6: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A restart finds connections of its predecessor in TIME_WAIT on the port.
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn listen(socket: Socket, addr: SocketAddr) -> io::Result<Socket> {
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(listen: &str, workers: usize) -> Settings {
        Settings {
            listen: vec![listen.parse().unwrap()],
            workers,
            ..Settings::default()
        }
    }

    #[test]
    fn every_worker_listens_on_the_port_the_first_was_given() {
        let listeners = bind(&settings("127.0.0.1:0", 3)).unwrap();
        let addr = listeners.addrs()[0];
        assert_ne!(addr.port(), 0);
        assert_eq!(listeners.workers.len(), 3);
        for listener in listeners.workers.iter().flatten() {
            assert_eq!(listener.local_addr().unwrap(), addr);
        }
    }

    #[test]
    fn a_port_in_use_by_another_of_the_same_user_is_refused_with_its_address() {
        let first = bind(&settings("127.0.0.1:0", 2)).unwrap();
        let addr = first.addrs()[0];
        let error = bind(&settings(&addr.to_string(), 2)).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&addr.to_string()) && text.contains("server.listen"));
        let error = bind_one("server.admin_listen", addr).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
        drop(first);
        bind(&settings(&addr.to_string(), 2)).unwrap();
    }

    #[test]
    fn connections_of_a_predecessor_do_not_hold_the_port() {
        let first = bind(&settings("127.0.0.1:0", 1)).unwrap();
        let addr = first.addrs()[0];
        let client = std::net::TcpStream::connect(addr).unwrap();
        drop(first);
        let second = bind(&settings(&addr.to_string(), 2)).unwrap();
        drop((client, second));
    }

    #[test]
    fn an_address_of_another_machine_is_named() {
        let error = bind(&settings("192.0.2.1:0", 1)).unwrap_err();
        assert!(
            matches!(error, BindError::NoSuchAddress { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("192.0.2.1"));
    }

    #[test]
    fn both_families_of_one_port_can_be_named() {
        let port = bind(&settings("127.0.0.1:0", 1)).unwrap().addrs()[0].port();
        let both = Settings {
            listen: vec![
                SocketAddr::from(([0, 0, 0, 0], port)),
                SocketAddr::from(([0; 8], port)),
            ],
            workers: 2,
            ..Settings::default()
        };
        match bind(&both) {
            Ok(listeners) => assert_eq!(listeners.addrs().len(), 2),
            // A machine without IPv6.
            Err(error) => assert!(!matches!(error, BindError::InUse { .. }), "{error:?}"),
        }
    }
}
