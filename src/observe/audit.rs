//! The audit line: who did what, as whom, with what outcome (contract §9).

use std::net::IpAddr;

use super::json::{self, Object, TimeText};
use super::settings::Format;

/// What an audit line says. Members that do not apply are left out of the line.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditLine<'a> {
    /// When, in microseconds since the Unix epoch.
    pub wall_micros: i64,
    /// What happened: `token_issued`, `token_revoked`, `sudo`, `client_added`, …
    pub event: &'static str,
    /// The request it happened in.
    pub request_id: Option<&'a str>,
    /// The client that acted, or that was acted on.
    pub client_id: Option<&'a str>,
    /// The public number of the token.
    pub token_id: Option<i64>,
    /// The client's address.
    pub client_ip: Option<IpAddr>,
    /// The user of the sudo parameter as `kind:value`.
    pub sudo: Option<&'a str>,
    /// The tenant as `id:value` or `code:value`.
    pub tenant: Option<&'a str>,
    /// Who did it where it was no client: `cli`.
    pub actor: Option<&'a str>,
    /// What else there is to say.
    pub detail: Option<&'a str>,
    /// How many were concerned.
    pub count: Option<u64>,
}

impl AuditLine<'_> {
    pub(super) fn write(&self, out: &mut Vec<u8>, time: &mut TimeText, format: Format) {
        let texts = [
            ("request_id", self.request_id),
            ("client_id", self.client_id),
            ("sudo", self.sudo),
            ("tenant", self.tenant),
            ("actor", self.actor),
            ("detail", self.detail),
        ];
        let texts = texts
            .into_iter()
            .filter_map(|(name, text)| Some((name, text?)));
        match format {
            Format::Json => {
                let mut line = Object::begin(out);
                line.time(time, self.wall_micros);
                line.text("kind", "audit");
                line.text("event", self.event);
                texts.for_each(|(name, text)| line.text(name, text));
                if let Some(id) = self.token_id {
                    line.plain("token_id", id);
                }
                if let Some(ip) = self.client_ip {
                    line.plain("client_ip", format_args!("\"{ip}\""));
                }
                if let Some(count) = self.count {
                    line.plain("count", count);
                }
                line.end();
            }
            Format::Text => {
                use std::io::Write;
                time.write(out, self.wall_micros);
                let _ = write!(out, " AUDIT {}", self.event);
                for (name, text) in texts {
                    let _ = write!(out, " {name}=");
                    json::text(out, text);
                }
                if let Some(id) = self.token_id {
                    let _ = write!(out, " token_id={id}");
                }
                if let Some(count) = self.count {
                    let _ = write!(out, " count={count}");
                }
                out.push(b'\n');
            }
        }
    }

    /// The line as JSON, for a command that has no log of its own.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut out = Vec::new();
        self.write(&mut out, &mut TimeText::default(), Format::Json);
        String::from_utf8_lossy(&out).trim_end().to_owned()
    }
}
