//! The access line: one for each request, an interface that others read (contract §9).

use std::net::IpAddr;
use std::time::Duration;

use super::escape::{address, json, json_or_null, message, millis, number, readable, time};
use super::settings::Format;

/// How a request brought its token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CredentialKind {
    /// In `Authorization: Bearer`.
    Bearer,
    /// In `?access_token`.
    Query,
    /// Not at all.
    #[default]
    None,
}

impl CredentialKind {
    /// As the line spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Query => "query",
            Self::None => "none",
        }
    }
}

/// What is told of one request. Every member stands in the line, those that are not known as null;
/// `observed` only when it is set.
#[derive(Clone, Copy, Debug)]
pub struct AccessLine<'a> {
    /// When the request came, in microseconds since the Unix epoch.
    pub wall_micros: i64,
    /// Its id.
    pub request_id: &'a str,
    /// The peer, or the one that a trusted proxy names.
    pub client_ip: IpAddr,
    /// Its method.
    pub method: &'a str,
    /// Its path as it came. A query that stands in it is left out.
    pub path: &'a str,
    /// Name of the route.
    pub route: Option<&'a str>,
    /// What was answered.
    pub status: u16,
    /// How the token came.
    pub credential: CredentialKind,
    /// The client the token belongs to.
    pub client_id: Option<&'a str>,
    /// Public number of the token.
    pub token_id: Option<i64>,
    /// Who was acted as, `kind:value`.
    pub sudo: Option<&'a str>,
    /// The tenant, `id:value` or `code:value`.
    pub tenant: Option<&'a str>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
    /// From the request's head to the end of the answer.
    pub duration: Duration,
    /// From the head sent to the backend to the head of its answer.
    pub upstream: Option<Duration>,
    /// The word of the refusal or failure.
    pub error: Option<&'a str>,
    /// The word of a refusal that observe mode turned into forwarding.
    pub observed: Option<&'a str>,
    /// The limit that was exceeded.
    pub limit: Option<&'a str>,
    /// The instant that the limiter used.
    pub limit_ns: Option<u64>,
}

impl AccessLine<'_> {
    /// Appends the line with its end. No serde: this is on every request's path.
    pub(super) fn write(&self, format: Format, out: &mut Vec<u8>) {
        match format {
            Format::Json => self.write_json(out),
            Format::Text => self.write_text(out),
        }
        out.push(b'\n');
    }

    /// Whatever a caller passes: what follows a `?` may be a credential.
    fn bare_path(&self) -> &str {
        self.path.split(['?', '#']).next().unwrap_or_default()
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        time(out, self.wall_micros);
        out.extend_from_slice(b"\",\"kind\":\"access\",\"request_id\":");
        json(out, self.request_id);
        out.extend_from_slice(b",\"client_ip\":\"");
        address(out, self.client_ip);
        out.extend_from_slice(b"\",\"method\":");
        json(out, self.method);
        out.extend_from_slice(b",\"path\":");
        json(out, self.bare_path());
        out.extend_from_slice(b",\"route\":");
        json_or_null(out, self.route);
        out.extend_from_slice(b",\"status\":");
        number(out, u64::from(self.status));
        out.extend_from_slice(b",\"credential\":\"");
        out.extend_from_slice(self.credential.as_str().as_bytes());
        out.extend_from_slice(b"\",\"client_id\":");
        json_or_null(out, self.client_id);
        out.extend_from_slice(b",\"token_id\":");
        signed_or_null(out, self.token_id);
        out.extend_from_slice(b",\"sudo\":");
        json_or_null(out, self.sudo);
        out.extend_from_slice(b",\"tenant\":");
        json_or_null(out, self.tenant);
        out.extend_from_slice(b",\"request_bytes\":");
        number(out, self.request_bytes);
        out.extend_from_slice(b",\"response_bytes\":");
        number(out, self.response_bytes);
        out.extend_from_slice(b",\"duration_ms\":");
        millis(out, self.duration);
        out.extend_from_slice(b",\"upstream_ms\":");
        match self.upstream {
            Some(span) => millis(out, span),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"error\":");
        json_or_null(out, self.error);
        out.extend_from_slice(b",\"limit\":");
        json_or_null(out, self.limit);
        out.extend_from_slice(b",\"limit_ns\":");
        match self.limit_ns {
            Some(nanos) => number(out, nanos),
            None => out.extend_from_slice(b"null"),
        }
        if let Some(word) = self.observed {
            out.extend_from_slice(b",\"observed\":");
            json(out, word);
        }
        out.push(b'}');
    }

    fn write_text(&self, out: &mut Vec<u8>) {
        time(out, self.wall_micros);
        out.push(b' ');
        number(out, u64::from(self.status));
        out.push(b' ');
        message(out, self.method);
        out.push(b' ');
        message(out, self.bare_path());
        out.push(b' ');
        millis(out, self.duration);
        out.extend_from_slice(b"ms from ");
        address(out, self.client_ip);
        for (name, value) in [
            (" client=", self.client_id),
            (" sudo=", self.sudo),
            (" tenant=", self.tenant),
            (" route=", self.route),
            (" error=", self.error),
            (" observed=", self.observed),
            (" limit=", self.limit),
            (" id=", Some(self.request_id)),
        ] {
            if let Some(value) = value {
                out.extend_from_slice(name.as_bytes());
                readable(out, value);
            }
        }
    }
}

pub(super) fn signed_or_null(out: &mut Vec<u8>, value: Option<i64>) {
    match value {
        Some(value) => {
            if value < 0 {
                out.push(b'-');
            }
            number(out, value.unsigned_abs());
        }
        None => out.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
#[path = "tests/access.rs"]
mod tests;
