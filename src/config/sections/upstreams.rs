//! `[upstreams.NAME]`.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::config::mistake::quoted;
use crate::config::reader::{Field, Table, Wrong};
use crate::config::values::{check_name, count, or_empty, readable_file, some_duration};
use crate::upstream::settings::{Origin, Settings};

const IDLE_MAX: u32 = 100_000;

/// The upstreams, and the names that may be referred to, also of upstreams with mistakes in them.
pub(in crate::config) fn read(root: &Table<'_>) -> (Vec<Settings>, Vec<String>) {
    let (mut upstreams, mut names) = (Vec::new(), Vec::new());
    for (name, mut table) in root.named("upstreams") {
        table.later(&["urls", "protocol", "host_header"]);
        if let Err(wrong) = check_name(&name) {
            table.wrong(wrong);
        }
        upstreams.extend(one(&name, &table));
        names.push(name);
    }
    (upstreams, names)
}

const URL_MEND: &str = "write scheme, host and port alone, such as \"http://127.0.0.1:3000\" or \"https://app.internal\"";

fn one(name: &str, table: &Table<'_>) -> Option<Settings> {
    let origin = table.required("url", URL_MEND, url);
    // Where the URL is wrong, the other keys are read all the same.
    let tls = origin.as_ref().is_none_or(|origin| origin.tls);
    let default = Settings::new(
        name,
        origin.clone().unwrap_or(Origin {
            tls: false,
            host: String::new(),
            port: 0,
        }),
    );
    let settings = Settings {
        connect_timeout: table.value("connect_timeout", default.connect_timeout, some_duration),
        response_timeout: table.value("response_timeout", default.response_timeout, some_duration),
        idle_connections: table.value(
            "idle_connections",
            default.idle_connections,
            count(0, IDLE_MAX),
        ),
        idle_timeout: table.value("idle_timeout", default.idle_timeout, some_duration),
        ca: table.value("ca", None, or_empty(readable_file)),
        client_cert: table.value("client_cert", None, or_empty(readable_file)),
        client_key: table.value("client_key", None, or_empty(readable_file)),
        server_name: table.value("server_name", None, or_empty(server_name)),
        ..default
    };
    for key in ["ca", "client_cert", "client_key", "server_name"] {
        if let Some(field) = table.field(key)
            && !tls
            && !field.is_empty_text()
        {
            field.wrong(Wrong::new(
                "it is only for https, and the URL is http",
                "write an https URL, or remove it",
            ));
        }
    }
    let given = |key| table.field(key).filter(|field| !field.is_empty_text());
    for (has, lacks) in [("client_cert", "client_key"), ("client_key", "client_cert")] {
        if let (Some(field), None) = (given(has), given(lacks))
            && !table.reading().partial
        {
            field.wrong(Wrong::new(
                format!("a client certificate needs {lacks} too"),
                format!("add {lacks}, or remove {has}"),
            ));
        }
    }
    origin.map(|_| settings)
}

/// Messages never repeat the URL: it may hold a password.
fn url(field: &Field<'_>) -> Result<Origin, Wrong> {
    let text = field.text(URL_MEND)?;
    let wrong = |what: &str| Err(Wrong::new(what, URL_MEND));
    let Some((scheme, rest)) = text.split_once("://") else {
        return if text.starts_with("unix:") {
            wrong("this version of Sidegate does not reach Unix sockets yet")
        } else {
            wrong("the URL has no scheme")
        };
    };
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return wrong("the URL's scheme is neither http nor https"),
    };
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if authority.contains('@') {
        return wrong("the URL holds a user or password");
    }
    if tail.starts_with(['?', '#']) {
        return wrong("the URL has a query or fragment");
    }
    if !tail.is_empty() {
        return wrong("the URL has a path, and requests keep their own");
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => match v6.split_once(']') {
            Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() => (host, port),
            _ => return wrong("the URL's IPv6 address cannot be read"),
        },
        None => {
            let colon = authority.find(':').unwrap_or(authority.len());
            let (host, port) = authority.split_at(colon);
            if !is_host(host) {
                return wrong("the URL's host is neither a name nor an address");
            }
            (host, port)
        }
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => Some(if tls { 443 } else { 80 }),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
        _ => None,
    };
    match port.filter(|port| *port != 0) {
        Some(port) => Ok(Origin {
            tls,
            host: host.to_ascii_lowercase(),
            port,
        }),
        None => wrong("the URL's port is no number from 1 to 65535"),
    }
}

/// A host name, or an IPv4 address.
pub(super) fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    // What ends in a number is an address, or nothing.
    let numeric = last.bytes().all(|b| b.is_ascii_digit());
    host.len() <= 253
        && host.split('.').all(label)
        && (!numeric || host.parse::<Ipv4Addr>().is_ok())
}

fn server_name(field: &Field<'_>) -> Result<String, Wrong> {
    let mend = "write the name in the backend's certificate, such as \"app.internal\"";
    let text = field.text(mend)?;
    rustls_pki_types::ServerName::try_from(text)
        .map(|_| text.to_ascii_lowercase())
        .map_err(|_| Wrong::new(format!("{} is no server name", quoted(text)), mend))
}
