//! The access line: one for each request, written when its answer has ended (contract §9).

use std::net::IpAddr;
use std::time::Duration;

use super::json::{self, Object, TimeText};
use super::settings::Format;

/// How a token was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// In the Authorization header.
    Bearer,
    /// In the URL.
    Query,
    /// Not at all.
    None,
}

impl CredentialKind {
    /// As the log spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Query => "query",
            Self::None => "none",
        }
    }
}

/// What an access line says. Members that are not known stay `None` and are written as `null`.
#[derive(Clone, Copy, Debug)]
pub struct AccessLine<'a> {
    /// When the request's head had been read, in microseconds since the Unix epoch.
    pub wall_micros: i64,
    /// The id of the request.
    pub request_id: &'a str,
    /// The client's address.
    pub client_ip: IpAddr,
    /// The method.
    pub method: &'a str,
    /// The path without the query, where tokens may stand.
    pub path: &'a str,
    /// The route it took.
    pub route: Option<&'a str>,
    /// The status of the answer; 499 when the client left before there was one.
    pub status: u16,
    /// How a token was sent.
    pub credential: CredentialKind,
    /// The client a good token belongs to.
    pub client_id: Option<&'a str>,
    /// The public number of a good token.
    pub token_id: Option<i64>,
    /// The user of the sudo parameter as `kind:value`.
    pub sudo: Option<&'a str>,
    /// The tenant as `id:value` or `code:value`.
    pub tenant: Option<&'a str>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
    /// From the head to the end of the answer.
    pub duration: Duration,
    /// From sending it on to the head of the backend's answer.
    pub upstream: Option<Duration>,
    /// The word of the refusal.
    pub error: Option<&'a str>,
    /// The word of a refusal that observe mode turned into forwarding.
    pub observed: Option<&'a str>,
    /// The limit that refused.
    pub limit: Option<&'a str>,
    /// The instant the limiter used, in nanoseconds since the process started.
    pub limit_ns: Option<u64>,
}

fn millis(span: Duration) -> impl std::fmt::Display {
    let micros = span.as_micros();
    std::fmt::from_fn(move |f| write!(f, "{}.{:03}", micros / 1000, micros % 1000))
}

impl AccessLine<'_> {
    pub(super) fn write(&self, out: &mut Vec<u8>, time: &mut TimeText, format: Format) {
        match format {
            Format::Json => self.write_json(out, time),
            Format::Text => self.write_text(out, time),
        }
    }

    fn write_json(&self, out: &mut Vec<u8>, time: &mut TimeText) {
        let mut line = Object::begin(out);
        line.time(time, self.wall_micros);
        line.text("kind", "access");
        line.text("request_id", self.request_id);
        line.plain("client_ip", format_args!("\"{}\"", self.client_ip));
        line.text("method", self.method);
        line.text("path", self.path);
        line.text_or_null("route", self.route);
        line.plain("status", self.status);
        line.text("credential", self.credential.as_str());
        line.text_or_null("client_id", self.client_id);
        line.plain_or_null("token_id", self.token_id);
        line.text_or_null("sudo", self.sudo);
        line.text_or_null("tenant", self.tenant);
        line.plain("request_bytes", self.request_bytes);
        line.plain("response_bytes", self.response_bytes);
        line.plain("duration_ms", millis(self.duration));
        line.plain_or_null("upstream_ms", self.upstream.map(millis));
        line.text_or_null("error", self.error);
        line.text_or_null("limit", self.limit);
        line.plain_or_null("limit_ns", self.limit_ns);
        if let Some(word) = self.observed {
            line.text("observed", word);
        }
        line.end();
    }

    fn write_text(&self, out: &mut Vec<u8>, time: &mut TimeText) {
        use std::io::Write;
        time.write(out, self.wall_micros);
        let _ = write!(out, " {} {} {} ", self.status, self.client_ip, self.method);
        // Quoted, since the client wrote it.
        json::text(out, self.path);
        let _ = write!(out, " {}ms", millis(self.duration));
        let mut said = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                let _ = write!(out, " {name}=");
                json::text(out, value);
            }
        };
        said("client", self.client_id);
        said("sudo", self.sudo);
        said("tenant", self.tenant);
        said("error", self.error);
        said("observed", self.observed);
        said("limit", self.limit);
        out.push(b'\n');
    }
}
