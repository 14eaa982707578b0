//! `[server]`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use crate::config::mistake::quoted;
use crate::config::reader::{Field, Table, Wrong};
use crate::config::values::{choice, count, duration, size, some_duration};
use crate::gate::settings::Mode;
use crate::server::settings::Settings;

/// The HTTP library's smallest buffer: a head up to it always fits.
const HEADER_BYTES_MIN: u64 = 8 << 10;
/// Each connection may hold as much.
const HEADER_BYTES_MAX: u64 = 1 << 20;
const HEADERS_MAX: u32 = 1000;
const WORKERS_MAX: u32 = 256;
const CONNECTIONS_MAX: u32 = 10_000_000;

/// How routes and the server spell the two modes.
pub(super) const MODES: [(&str, Mode); 2] =
    [("enforce", Mode::Enforce), ("observe", Mode::Observe)];

/// What sockets need, and the mode of routes that name none.
pub(in crate::config) fn read(root: &Table<'_>) -> (Settings, Mode) {
    let mut table = root.child("server");
    table.later(&["public_url", "tls"]);
    let default = Settings::default();
    let mode = table.value("mode", Mode::default(), choice(&MODES));
    let settings = Settings {
        listen: table.value("listen", default.listen, listen),
        admin_listen: table.value("admin_listen", default.admin_listen, address),
        workers: table.value("workers", default.workers, count(0, WORKERS_MAX)),
        drain_timeout: table.value("drain_timeout", default.drain_timeout, duration),
        header_read_timeout: table.value(
            "header_read_timeout",
            default.header_read_timeout,
            some_duration,
        ),
        idle_timeout: table.value("idle_timeout", default.idle_timeout, some_duration),
        stream_idle_timeout: table.value(
            "stream_idle_timeout",
            default.stream_idle_timeout,
            duration,
        ),
        max_header_bytes: table.value("max_header_bytes", default.max_header_bytes, head_size),
        max_headers: table.value("max_headers", default.max_headers, count(1, HEADERS_MAX)),
        max_body: table.value("max_body", default.max_body, body_size),
        max_connections: table.value(
            "max_connections",
            default.max_connections,
            count(1, CONNECTIONS_MAX),
        ),
        max_connections_per_ip: table.value(
            "max_connections_per_ip",
            default.max_connections_per_ip,
            count(0, CONNECTIONS_MAX),
        ),
        trusted_proxies: table.value("trusted_proxies", default.trusted_proxies, networks),
    };
    apart(&table, &settings);
    (settings, mode)
}

const ADDRESS_MEND: &str =
    "write an address and a port, such as \"127.0.0.1:8080\", \"0.0.0.0:8080\" or \"[::1]:8080\"";

fn address(field: &Field<'_>) -> Result<SocketAddr, Wrong> {
    let text = field.text(ADDRESS_MEND)?;
    if text.starts_with("unix:") {
        return Err(Wrong::new(
            "this version of Sidegate does not listen on Unix sockets yet",
            ADDRESS_MEND,
        ));
    }
    if let Some(port) = text.strip_prefix("localhost:").and_then(|p| p.parse().ok()) {
        return Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
    }
    text.parse().map_err(|_| {
        let message = format!("{} is no address with a port", quoted(text));
        Wrong::new(message, ADDRESS_MEND)
    })
}

fn listen(field: &Field<'_>) -> Result<Vec<SocketAddr>, Wrong> {
    let addresses = field.one_or_each(ADDRESS_MEND, address)?;
    for (index, one) in addresses.iter().enumerate() {
        if addresses
            .iter()
            .take(index)
            .any(|other| overlap(one, other))
        {
            return Err(Wrong::new(
                format!("{one} is listened on twice"),
                "name each address once; 0.0.0.0 and [::] hold every other of their kind",
            ));
        }
    }
    // Empty because every item was wrong: those have been told.
    let none = addresses.is_empty() && field.each("", |_| Ok(())).is_ok_and(|all| all.is_empty());
    if none {
        return Err(Wrong::new("there is no address to listen on", ADDRESS_MEND));
    }
    Ok(addresses)
}

/// Whether two sockets would share one port: the system may let the second one open and then hand
/// connections to either.
fn overlap(a: &SocketAddr, b: &SocketAddr) -> bool {
    let same_ip = a.ip() == b.ip()
        || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified()));
    a.port() == b.port() && a.port() != 0 && same_ip
}

fn apart(table: &Table<'_>, settings: &Settings) {
    let admin = &settings.admin_listen;
    if let Some(data) = settings.listen.iter().find(|data| overlap(data, admin)) {
        let wrong = || {
            Wrong::new(
                format!("{admin} is shared with the data listener {data}, which clients reach"),
                "give health and metrics an address or port of their own",
            )
        };
        match table
            .field("admin_listen")
            .or_else(|| table.field("listen"))
        {
            Some(field) => field.wrong(wrong()),
            None => table.wrong(wrong()),
        }
    }
}

fn head_size(field: &Field<'_>) -> Result<usize, Wrong> {
    let bytes = size(field)?;
    if !(HEADER_BYTES_MIN..=HEADER_BYTES_MAX).contains(&bytes) {
        return Err(Wrong::new(
            format!("{bytes} bytes are out of bounds"),
            "write a size from \"8KiB\" to \"1MiB\"",
        ));
    }
    Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
}

fn body_size(field: &Field<'_>) -> Result<Option<u64>, Wrong> {
    match field.text("") {
        Ok("unlimited") => Ok(None),
        _ => size(field).map(Some).map_err(|wrong| {
            let mend = format!("{}, or \"unlimited\"", wrong.mend);
            Wrong::new(wrong.message, mend)
        }),
    }
}

fn networks(field: &Field<'_>) -> Result<Vec<IpNet>, Wrong> {
    let mend = "write a list of networks, such as [\"10.0.0.0/8\", \"fd00::/8\"]";
    field.each(mend, |item| {
        let text = item.text(mend)?;
        let network = text.parse::<IpNet>().map(|network| network.trunc());
        let network = network.or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map_err(|_| Wrong::new(format!("{} is no network", quoted(text)), mend))
    })
}
