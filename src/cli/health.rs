//! `sidegate health`: asks the admin listener whether the sidecar is ready, for container probes
//! without curl.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::failure::Failure;
use super::place::Place;
use super::{help, values};

/// Ask the running sidecar whether it is ready
///
/// Asks `GET /readyz` on the `admin_listen` of the configuration (a wildcard address is asked by
/// loopback) and ends with 0 when the answer is 200, and with 1 otherwise, saying why on standard
/// error. Made for container probes: it needs no curl.
#[derive(Debug, clap::Args)]
#[command(after_long_help = help!(
    "  sidegate health -c /etc/sidegate/config.toml\n  \
       sidegate health --timeout 500ms && echo ready"
))]
pub(super) struct Arguments {
    /// Longest time to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = values::lifetime)]
    timeout: Duration,
}

pub(super) fn run(arguments: &Arguments, place: &Place) -> Result<(), Failure> {
    // Contract §1: 0 or 1. A probe does not tell one kind of trouble from another.
    let config = place.read().map_err(|mistakes| {
        Failure::other(format!("the configuration cannot be used:\n{mistakes}"))
    })?;
    let admin = reachable(config.server.admin_listen);
    match status(admin, arguments.timeout) {
        Ok(200) => Ok(()),
        Ok(503) => Err(Failure::other(format!(
            "not ready: http://{admin}/readyz answers 503. It is starting, or draining; its log says which."
        ))),
        Ok(other) => Err(Failure::other(format!(
            "http://{admin}/readyz answers {other}; is that another program? Look at [server] admin_listen."
        ))),
        Err(error) => Err(Failure::other(format!(
            "cannot ask http://{admin}/readyz: {error}. Is the sidecar running, and is that its [server] admin_listen?"
        ))),
    }
}

/// Where a listener on `addr` can be asked from this machine.
pub(super) fn reachable(mut addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => addr.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => addr.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    addr
}

fn status(addr: SocketAddr, timeout: Duration) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&addr, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    // "HTTP/1.1 200" is all that is needed of the answer.
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    let code = start
        .strip_prefix(b"HTTP/1.1 ")
        .and_then(|code| std::str::from_utf8(code).ok())
        .and_then(|code| code.parse().ok());
    code.ok_or_else(|| std::io::Error::other("the answer is no HTTP/1.1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answering(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 512];
            let _ = stream.read(&mut head).unwrap();
            stream.write_all(answer).unwrap();
        });
        addr
    }

    #[test]
    fn the_status_is_read_from_the_first_line() {
        let limit = Duration::from_secs(5);
        for (answer, expected) in [
            (&b"HTTP/1.1 200 OK\r\n\r\n"[..], Some(200)),
            (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", Some(503)),
            (b"SSH-2.0-OpenSSH_9.9\r\n", None),
            (b"HTTP/1.1", None),
        ] {
            assert_eq!(status(answering(answer), limit).ok(), expected);
        }
    }

    #[test]
    fn a_listener_on_every_address_is_asked_by_loopback() {
        for (listens, asked) in [
            ("0.0.0.0:9090", "127.0.0.1:9090"),
            ("[::]:9090", "[::1]:9090"),
            ("10.0.0.7:9090", "10.0.0.7:9090"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()).to_string(), asked);
        }
    }
}
