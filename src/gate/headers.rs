//! The head that goes on: first everything is taken away that may not go on, then ours is set.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, TRAILER, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version, request};

use super::answer::AnswerEdits;
use super::credential;
use super::identity::{IdentityHeaders, fold_begins, folds_to};
use super::query;
use super::route::Route;
use super::{Passing, Permit, Rules};

/// Most headers that are set on one request.
const MOST_SET: usize = 12;
const X_FORWARDED: &[u8] = b"x-forwarded-";
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the connection and the server tell of the way a request came.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// The address at the other end of the connection.
    pub peer_ip: IpAddr,
    /// Whether the peer is a proxy whose forwarding headers are believed.
    pub trusted: bool,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The Host that goes on.
    pub host_header: &'a HeaderValue,
    /// The id of the request.
    pub request_id: &'a HeaderValue,
}

/// What happens to Authorization lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bearer {
    /// Every Bearer line is cut.
    Cut,
    /// Those that hold a Sidegate token are cut: others are none of ours to take (observe mode).
    CutOurs,
    /// They go on: `forward_credentials`.
    Keep,
}

/// A request head that may be sent to a backend. Made only by [`Permit::write`].
pub struct Outbound {
    route: Arc<Route>,
    parts: request::Parts,
    edits: AnswerEdits,
    trailers: Trailers,
}

impl Outbound {
    /// The route it takes.
    #[must_use]
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// The head to send.
    #[must_use]
    pub fn parts(&self) -> &request::Parts {
        &self.parts
    }

    /// The route, the head to send, what to change in the answer's head, and which trailers may follow.
    #[must_use]
    pub fn into_parts(self) -> (Arc<Route>, request::Parts, AnswerEdits, Trailers) {
        (self.route, self.parts, self.edits, self.trailers)
    }
}

impl Permit {
    /// Turns the head that was decided on into the one that goes on. Its target has only path and
    /// query. Its framing is whoever's who sends it: nothing of what came is left, but for an empty body
    /// (`content-length: 0`) and one in chunks (`transfer-encoding: chunked`), both said anew.
    #[must_use]
    pub fn write(self, mut parts: request::Parts, way: &Way<'_>) -> Outbound {
        let keep_token = self.route.settings.forward_credentials;
        // Before the target loses its authority, which counts before a Host line.
        let anew = Anew::of(&parts, way);
        parts.uri = origin_form(&parts.uri, self.cut, keep_token);
        parts.version = Version::HTTP_11;
        let names = &self.rules.identity;
        take_away(&mut parts.headers, names, way.trusted);
        cut_credentials(&mut parts.headers, self.bearer);
        // Room for all of ours at once; without it the map grows as they come.
        let _ = parts.headers.try_reserve(MOST_SET);
        parts.headers.insert(HOST, way.host_header.clone());
        anew.set(&mut parts.headers);
        parts.headers.insert(X_REQUEST_ID, way.request_id.clone());
        if let Passing::As(identity) = &self.passing {
            identity.set(names, &mut parts.headers);
        }
        Outbound {
            route: self.route,
            parts,
            edits: self.edits,
            trailers: Trailers(self.rules),
        }
    }
}

/// Path and query alone, without our parameters.
fn origin_form(uri: &Uri, cut: bool, keep_token: bool) -> Uri {
    let bare = uri.scheme().is_none() && uri.authority().is_none();
    if bare && !cut {
        return uri.clone();
    }
    let path = match uri.path() {
        "" => "/",
        path => path,
    };
    let rest = match uri.query() {
        Some(query) if cut => query::without_ours(query, keep_token),
        query => query.map(str::to_owned),
    };
    let target = rest.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    // Both are pieces of a target that was read before. If one could not be read again, what must not
    // happen is that more goes on than was judged: the path alone does.
    let target = PathAndQuery::try_from(target)
        .or_else(|_| PathAndQuery::try_from(path))
        .unwrap_or(PathAndQuery::from_static("/"));
    Uri::from(target)
}

/// What is said anew of where the request came from and whether it has a body. Read before anything is
/// taken away: else a client could hide its address behind a trusted proxy's by naming
/// `X-Forwarded-For` in a `Connection` line.
struct Anew {
    client_host: Option<HeaderValue>,
    /// What trusted proxies said.
    chain: Vec<u8>,
    proto: Option<HeaderValue>,
    host: Option<HeaderValue>,
    peer_ip: IpAddr,
    scheme: &'static str,
    /// The client said that its body has no byte; some backends insist on hearing it.
    empty_body: bool,
    /// The body came in chunks. It is said anew, since a client side that is not told would send a GET
    /// without the body it has.
    in_chunks: bool,
}

impl Anew {
    fn of(parts: &request::Parts, way: &Way<'_>) -> Self {
        let headers = &parts.headers;
        // A client of HTTP/1.0 may name none; the Host made up for the backend is none of the client's.
        let client_host = match parts.uri.authority() {
            Some(_) => Some(way.host_header),
            None => headers.get(HOST),
        };
        // Of several lines the last is the one that the nearest proxy wrote.
        let believed = |name: HeaderName| {
            let last = || headers.get_all(name).iter().next_back().cloned();
            way.trusted.then(last).flatten()
        };
        let mut chain = Vec::new();
        if way.trusted {
            let lines = headers.get_all(X_FORWARDED_FOR).iter();
            for line in lines.filter(|line| !line.is_empty()) {
                chain.extend_from_slice(line.as_bytes());
                chain.extend_from_slice(b", ");
            }
        }
        let length = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
        let in_chunks = headers.contains_key(TRANSFER_ENCODING);
        Self {
            client_host: client_host.cloned(),
            chain,
            proto: believed(X_FORWARDED_PROTO),
            host: believed(X_FORWARDED_HOST),
            peer_ip: way.peer_ip.to_canonical(),
            scheme: way.scheme,
            empty_body: length == Some(b"0") && !in_chunks,
            in_chunks,
        }
    }

    fn set(self, headers: &mut HeaderMap) {
        if self.empty_body {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        if self.in_chunks {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let mut chain = self.chain;
        write_ip(&mut chain, self.peer_ip);
        if let Ok(chain) = HeaderValue::from_maybe_shared(bytes::Bytes::from(chain)) {
            headers.insert(X_FORWARDED_FOR, chain);
        }
        let scheme = HeaderValue::from_static(self.scheme);
        headers.insert(X_FORWARDED_PROTO, self.proto.unwrap_or(scheme));
        if let Some(host) = self.host.or(self.client_host) {
            headers.insert(X_FORWARDED_HOST, host);
        }
    }
}

/// Writes an address as `Display` does, which takes a microsecond's tenth for an IPv4 one: this is done
/// for every request.
fn write_ip(out: &mut Vec<u8>, ip: IpAddr) {
    let IpAddr::V4(ip) = ip else {
        return out.extend_from_slice(ip.to_string().as_bytes());
    };
    out.reserve("255.255.255.255".len());
    for (at, octet) in ip.octets().into_iter().enumerate() {
        if at > 0 {
            out.push(b'.');
        }
        if octet >= 100 {
            out.push(b'0' + octet / 100);
        }
        if octet >= 10 {
            out.push(b'0' + octet / 10 % 10);
        }
        out.push(b'0' + octet % 10);
    }
}

/// Hop-by-hop fields, those every `Connection` line names, and what frames or steers a message.
fn take_away(headers: &mut HeaderMap, names: &IdentityHeaders, trusted: bool) {
    let trailer = announced_trailers(headers, names);
    for name in connection_names(headers) {
        headers.remove(&name);
    }
    let gone: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            // Host is written over, in its place.
            is_hop_by_hop(name)
                || (is_framing(name) && **name != HOST)
                || is_forwarding(name.as_str(), trusted)
                || folds_to(name.as_str(), b"x-request-id")
                || names.is_ours(name)
        })
        .cloned()
        .collect();
    for name in gone {
        headers.remove(&name);
    }
    if let Some(trailer) = trailer {
        headers.insert(TRAILER, trailer);
    }
}

/// Every name that any `Connection` line lists.
pub(super) fn connection_names(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| {
            // The two that nearly every such line is; neither is the name of a field to remove.
            !name.eq_ignore_ascii_case(b"keep-alive") && !name.eq_ignore_ascii_case(b"close")
        })
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .collect()
}

/// Fields for the next hop alone, whatever `Connection` says.
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Fields that whoever sends the message writes anew.
pub(super) fn is_framing(name: &HeaderName) -> bool {
    let name = name.as_str();
    // CGI and its heirs read `Content_Length` as well.
    matches!(name, "expect" | "host")
        || folds_to(name, b"content-length")
        || folds_to(name, b"transfer-encoding")
}

/// Where a request came from, as proxies tell it. From a trusted proxy the rest of it stays, but in
/// its one spelling only: proxies that clean `X-Forwarded-For` may not see `X_Forwarded_For`.
pub(super) fn is_forwarding(name: &str, trusted: bool) -> bool {
    let forwarding = fold_begins(name, X_FORWARDED)
        || folds_to(name, b"x-real-ip")
        || folds_to(name, b"forwarded");
    let plain = || name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    forwarding && !(trusted && plain())
}

fn cut_credentials(headers: &mut HeaderMap, bearer: Bearer) {
    let goes = |line: &HeaderValue| {
        let line = line.as_bytes();
        match bearer {
            Bearer::Keep => false,
            Bearer::Cut => credential::is_bearer(line),
            Bearer::CutOurs => credential::is_bearer(line) && credential::holds_our_token(line),
        }
    };
    let lines = headers.get_all(AUTHORIZATION);
    if !lines.iter().any(goes) {
        return;
    }
    let kept: Vec<HeaderValue> = lines.iter().filter(|line| !goes(line)).cloned().collect();
    headers.remove(AUTHORIZATION);
    for line in kept {
        headers.append(AUTHORIZATION, line);
    }
}

/// The `Trailer` of a message in chunks, with the names that may follow: without it none would be sent.
fn announced_trailers(headers: &HeaderMap, names: &IdentityHeaders) -> Option<HeaderValue> {
    if !headers.contains_key(TRANSFER_ENCODING) {
        return None;
    }
    let announced: Vec<String> = headers
        .get_all(TRAILER)
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| may_trail(name, names))
        .map(|name| name.as_str().to_owned())
        .collect();
    (!announced.is_empty())
        .then(|| HeaderValue::from_str(&announced.join(", ")).ok())
        .flatten()
}

/// Whether a trailer of this name says nothing that only the head, or only Sidegate, may say.
fn may_trail(name: &HeaderName, names: &IdentityHeaders) -> bool {
    let head_only = matches!(
        name.as_str(),
        "authorization"
            | "cache-control"
            | "content-encoding"
            | "content-range"
            | "content-type"
            | "cookie"
            | "max-forwards"
            | "range"
            | "set-cookie"
    );
    !head_only
        && !is_hop_by_hop(name)
        && !is_framing(name)
        && !is_forwarding(name.as_str(), false)
        && !folds_to(name.as_str(), b"x-request-id")
        && !names.is_ours(name)
}

/// Which trailers of the request may go on.
#[derive(Clone)]
pub struct Trailers(Arc<Rules>);

impl Trailers {
    /// Removes from `trailers` who somebody is, in every spelling, and whatever belongs into a head:
    /// framing, routing, credentials.
    pub fn filter(&self, trailers: &mut HeaderMap) {
        let names = &self.0.identity;
        let gone: Vec<HeaderName> = trailers
            .keys()
            .filter(|name| !may_trail(name, names))
            .cloned()
            .collect();
        for name in gone {
            trailers.remove(&name);
        }
    }
}

#[cfg(test)]
#[path = "tests/headers.rs"]
mod tests;
