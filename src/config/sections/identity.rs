//! `[identity]`.

use std::collections::HashMap;

use crate::config::mistake::quoted;
use crate::config::reader::{Field, Table, Wrong};
use crate::gate::settings::{DEFAULT_PREFIX, IdentityKey, IdentitySettings};

/// Headers that mean something to HTTP, to proxies or to Sidegate: an identity written over one of
/// them would change the message, and a prefix that holds one would cut it from every request.
const RESERVED: [&str; 62] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "cookie2",
    "date",
    "deprecation",
    "etag",
    "expect",
    "forwarded",
    "from",
    "host",
    "http2-settings",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "last-modified",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "proxy",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "referer",
    "sec-fetch-site",
    "sec-websocket-key",
    "server",
    "set-cookie",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
];

/// One spelling of a header name for every reader: lower case, everything but letters and digits a `-`.
fn folded(name: &str) -> String {
    let fold = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    name.chars().map(fold).collect()
}

pub(in crate::config) fn read(root: &Table<'_>) -> IdentitySettings {
    let table = root.child("identity");
    let prefix = table.value("prefix", DEFAULT_PREFIX.to_owned(), prefix);
    let headers = table.child("headers");
    let mut renamed = Vec::new();
    let mut members: HashMap<String, &str> = HashMap::new();
    // Names that were written come first, so that a mistake stands where something can be changed.
    let mut unnamed = Vec::new();
    for (member, key, suffix) in IdentityKey::ALL {
        let default = format!("{prefix}{suffix}");
        match headers
            .optional(key, header)
            .filter(|name| !name.is_empty())
        {
            Some(name) => {
                let other = members.insert(folded(&name), key);
                if let (Some(other), Some(field)) = (other, headers.field(key)) {
                    field.wrong(same(&name, other));
                }
                if name != default {
                    renamed.push((member, name));
                }
            }
            None => unnamed.push((key, default)),
        }
    }
    for (key, default) in unnamed {
        if let Some(other) = members.get(&folded(&default))
            && let Some(field) = IdentityKey::ALL
                .iter()
                .find(|(_, own, _)| own == other)
                .and_then(|(_, own, _)| headers.field(own))
        {
            field.wrong(same(&default, key));
        }
    }
    IdentitySettings { prefix, renamed }
}

fn same(name: &str, other: &str) -> Wrong {
    Wrong::new(
        format!("{} is the header of {other} already", quoted(name)),
        "give each a name of its own; letter case, \"-\" and \"_\" make no difference",
    )
}

fn spelled(text: &str) -> bool {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    text.len() <= 100
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(safe)
}

fn prefix(field: &Field<'_>) -> Result<String, Wrong> {
    let mend = "write the start of header names that nothing else uses, such as \"X-Auth-\"";
    let text = field.text(mend)?;
    if !spelled(text) {
        let message = format!("{} cannot begin a header name", quoted(text));
        return Err(Wrong::new(message, mend));
    }
    let start = folded(text);
    if let Some(caught) = RESERVED.iter().find(|name| name.starts_with(&start)) {
        let message = format!("every header that begins so is dropped, {caught} too");
        return Err(Wrong::new(message, mend));
    }
    Ok(text.to_owned())
}

fn header(field: &Field<'_>) -> Result<String, Wrong> {
    let mend = "write a header name of letters, digits and \"-\", such as \"X-WEBAUTH-USER\"";
    let text = field.text(mend)?;
    if text.is_empty() {
        return Ok(String::new());
    }
    if !spelled(text) {
        return Err(Wrong::new(
            format!("{} is no header name", quoted(text)),
            mend,
        ));
    }
    let name = folded(text);
    if RESERVED.contains(&name.as_str()) || name.starts_with("x-forwarded-") {
        let message = format!("{} has another meaning", quoted(text));
        return Err(Wrong::new(message, mend));
    }
    Ok(text.to_owned())
}
