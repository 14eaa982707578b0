//! What the HTTP library leaves to us: heads with two readings are refused before anything else looks at
//! them (RFC 9112 §3.2, §6; `design.md`, "Known traps"). What it refuses itself (bad characters, obs-fold,
//! differing lengths, chunked not last, sizes) never gets here; `tests/framing.rs` sends both kinds.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use http::header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

use crate::refusal::Refusal;

/// Longest name a host can have.
const MAX_HOST: usize = 255;

/// What `Allow` says to CONNECT and TRACE.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// What a head without doubt says of its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framed<'a> {
    /// The host asked for: lower-case, without port and trailing dot, IPv6 in brackets. Empty when an
    /// HTTP/1.0 request names none.
    pub host: Cow<'a, str>,
    /// The `Host` to send on: the client's, or the authority of an absolute-form target, which takes its
    /// place (RFC 9112 §3.2.2). `None` when there is neither.
    pub host_header: Option<HeaderValue>,
}

/// Judges a head before it is used.
///
/// # Errors
/// 405 for CONNECT and TRACE. 400, and the connection closes, for: a Host that is missing (HTTP/1.1),
/// repeated or malformed, an empty one included; a target that is neither a path, nor an `http` or `https`
/// URL without user information, nor the `*` of OPTIONS; any Transfer-Encoding but one `chunked`;
/// a Content-Length that is not one plain number; any Expect but one `100-continue` (what else a client
/// expects cannot be met, and must not look as if it were).
pub fn check(parts: &Parts) -> Result<Framed<'_>, Refusal> {
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        return Err(Refusal::method_not_allowed(METHODS.to_owned()));
    }
    lengths(parts)?;
    expectation(parts)?;
    let line = host_line(parts)?;
    match target(parts)? {
        Some(authority) => {
            // Still judged: a malformed one must not pass because it is not needed.
            line.map(|line| host(line.as_bytes())).transpose()?;
            let value = HeaderValue::from_str(authority)
                .map_err(|_| Refusal::invalid_framing("the target's host is malformed"))?;
            Ok(Framed {
                host: host(authority.as_bytes())?,
                host_header: Some(value),
            })
        }
        None => Ok(Framed {
            host: line
                .map(|line| host(line.as_bytes()))
                .transpose()?
                .unwrap_or_default(),
            host_header: line.cloned(),
        }),
    }
}

/// The only line of this name.
fn only<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    repeated: &'static str,
) -> Result<Option<&'a HeaderValue>, Refusal> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next();
    match lines.next() {
        Some(_) => Err(Refusal::invalid_framing(repeated)),
        None => Ok(first),
    }
}

fn lengths(parts: &Parts) -> Result<(), Refusal> {
    let coding = only(
        &parts.headers,
        &TRANSFER_ENCODING,
        "Transfer-Encoding is repeated",
    )?;
    let length = only(
        &parts.headers,
        &CONTENT_LENGTH,
        "Content-Length is repeated",
    )?;
    if let Some(coding) = coding {
        if parts.version < Version::HTTP_11 {
            return Err(Refusal::invalid_framing(
                "HTTP/1.0 has no Transfer-Encoding",
            ));
        }
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::invalid_framing(
                "the only Transfer-Encoding taken is \"chunked\"",
            ));
        }
    }
    if length.is_some_and(|length| !is_plain_length(length.as_bytes())) {
        return Err(Refusal::invalid_framing(
            "Content-Length must be one number without sign and leading zeros, below 10^18",
        ));
    }
    Ok(())
}

/// Whether a Content-Length is one number below 10^18, without sign and leading zeros: what every reader
/// takes for the same.
#[must_use]
pub fn is_plain_length(text: &[u8]) -> bool {
    match text {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.len() < 18 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

fn expectation(parts: &Parts) -> Result<(), Refusal> {
    // An HTTP/1.0 client cannot expect anything (RFC 9110 §10.1.1).
    if parts.version < Version::HTTP_11 {
        return Ok(());
    }
    match only(&parts.headers, &EXPECT, "Expect is repeated")? {
        Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Err(
            Refusal::invalid_framing("the only expectation that can be met is 100-continue"),
        ),
        _ => Ok(()),
    }
}

fn host_line(parts: &Parts) -> Result<Option<&HeaderValue>, Refusal> {
    let line = only(&parts.headers, &HOST, "Host is repeated")?;
    if line.is_none() && parts.version == Version::HTTP_11 {
        return Err(Refusal::invalid_framing("Host is missing"));
    }
    Ok(line)
}

/// The authority of an absolute-form target; `None` for the other forms that may pass.
fn target(parts: &Parts) -> Result<Option<&str>, Refusal> {
    let uri: &Uri = &parts.uri;
    match (uri.scheme_str(), uri.authority()) {
        (None, None) if uri.path().starts_with('/') => Ok(None),
        (None, None) if uri.path() == "*" && parts.method == Method::OPTIONS => Ok(None),
        (Some(scheme), Some(authority))
            if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") =>
        {
            Ok(Some(authority.as_str()))
        }
        _ => Err(Refusal::invalid_framing(
            "the target must be a path or an http or https URL",
        )),
    }
}

/// Reads `uri-host [":" port]`, narrower than RFC 3986: names are what DNS and hosts files have.
fn host(text: &[u8]) -> Result<Cow<'_, str>, Refusal> {
    read_host(text).ok_or_else(|| Refusal::invalid_framing("the host is malformed"))
}

fn read_host(text: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(text).ok()?;
    if is_plain_name(text) {
        return Some(Cow::Borrowed(text));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        let port = if port.is_empty() {
            ""
        } else {
            port.strip_prefix(':')?
        };
        return is_port(port).then(|| Cow::Owned(format!("[{address}]")));
    }
    let (name, port) = text.split_once(':').unwrap_or((text, ""));
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        let odd = |b: u8| !(b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'~'));
        !label.is_empty() && !label.bytes().any(odd)
    };
    if !is_port(port) || name.len() > MAX_HOST || !name.split('.').all(is_label) {
        return None;
    }
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Some(Cow::Owned(name.to_ascii_lowercase()))
    } else {
        Some(Cow::Borrowed(name))
    }
}

/// What nearly every host is: lower-case labels, no port. Told with one look at each byte.
fn is_plain_name(text: &str) -> bool {
    let mut before = b'.';
    for byte in text.bytes() {
        let fine = match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => true,
            b'.' => before != b'.',
            _ => false,
        };
        if !fine {
            return false;
        }
        before = byte;
    }
    before != b'.' && text.len() <= MAX_HOST
}

/// Nothing (RFC 3986 allows an empty port) or a number that a port can be.
fn is_port(port: &str) -> bool {
    port.is_empty()
        || port.len() <= 5
            && port.bytes().all(|b| b.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
#[path = "tests/framing.rs"]
mod tests;
