//! What changes in the head of the backend's answer.

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::headers::{connection_names, is_hop_by_hop};

const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
/// 2024-01-01, since when `username` is discouraged (RFC 9745).
const DEPRECATED_SINCE: HeaderValue = HeaderValue::from_static("@1704067200");

/// What a decided request asks of the answer to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerEdits {
    /// A discouraged spelling was used.
    pub(super) deprecated: bool,
    /// The token stood in the URL: shared caches must not keep the answer (RFC 6750 §2.3).
    pub(super) private: bool,
}

impl AnswerEdits {
    /// Takes hop-by-hop fields out of the answer's head and sets what the request asked for. Framing is
    /// left to whoever sends it; Content-Length stays where it is the only framing, as in answers to HEAD.
    pub fn apply(&self, headers: &mut HeaderMap, status: StatusCode) {
        let in_chunks = headers.contains_key(TRANSFER_ENCODING);
        for name in connection_names(headers) {
            if name != CONTENT_LENGTH {
                headers.remove(&name);
            }
        }
        if in_chunks {
            headers.remove(CONTENT_LENGTH);
        }
        let gone: Vec<HeaderName> = headers
            .keys()
            // Trailers are sent only where they were announced.
            .filter(|name| is_hop_by_hop(name) && !(in_chunks && **name == TRAILER))
            .cloned()
            .collect();
        for name in gone {
            headers.remove(&name);
        }
        if self.deprecated {
            headers.insert(DEPRECATION, DEPRECATED_SINCE);
        }
        if self.private && status.is_success() {
            make_private(headers);
        }
    }
}

/// Leaves an answer that shared caches do not keep anyway, else says so in one line.
fn make_private(headers: &mut HeaderMap) {
    let mut kept: Vec<u8> = Vec::new();
    for line in headers.get_all(CACHE_CONTROL) {
        for directive in directives(line.as_bytes()) {
            if directive.eq_ignore_ascii_case(b"no-store")
                || directive.eq_ignore_ascii_case(b"private")
            {
                return;
            }
            if directive.is_empty() || directive.eq_ignore_ascii_case(b"public") {
                continue;
            }
            kept.extend_from_slice(directive);
            kept.extend_from_slice(b", ");
        }
    }
    kept.extend_from_slice(b"private");
    let value = HeaderValue::from_bytes(&kept);
    headers.insert(
        CACHE_CONTROL,
        value.unwrap_or(HeaderValue::from_static("private")),
    );
}

/// The directives of one line; a comma inside quotes separates nothing.
fn directives(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    line.split(move |byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' => return !quoted,
            _ => {}
        }
        false
    })
    .map(<[u8]>::trim_ascii)
}

#[cfg(test)]
#[path = "tests/answer.rs"]
mod tests;
