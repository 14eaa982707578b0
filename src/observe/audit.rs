//! The audit line: who did what, as whom, where. Members that are not known are left out, because
//! events differ too much for one shape (contract §9).

use std::net::IpAddr;

use super::access::signed_or_null;
use super::escape::{address, json, number, readable, time};
use super::settings::Format;

/// What is told of one event.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditLine<'a> {
    /// When it happened, in microseconds since the Unix epoch.
    pub wall_micros: i64,
    /// What happened: `token_issued`, `token_revoked`, `sudo`, `client_added`, …
    pub event: &'static str,
    /// The request in which it happened.
    pub request_id: Option<&'a str>,
    /// The client concerned.
    pub client_id: Option<&'a str>,
    /// Public number of the token concerned.
    pub token_id: Option<i64>,
    /// Where the request came from.
    pub client_ip: Option<IpAddr>,
    /// Who was acted as, `kind:value`.
    pub sudo: Option<&'a str>,
    /// The tenant, `id:value` or `code:value`.
    pub tenant: Option<&'a str>,
    /// The scopes given, separated by one space.
    pub scope: Option<&'a str>,
    /// Who did it where that is no client: `cli`, …
    pub actor: Option<&'a str>,
    /// Anything else, in words.
    pub detail: Option<&'a str>,
    /// How many were concerned.
    pub count: Option<u64>,
}

impl AuditLine<'_> {
    /// Appends the line with its end.
    pub(super) fn write(&self, format: Format, out: &mut Vec<u8>) {
        match format {
            Format::Json => {
                out.extend_from_slice(b"{\"time\":\"");
                time(out, self.wall_micros);
                out.extend_from_slice(b"\",\"kind\":\"audit\",\"event\":");
                json(out, self.event);
                self.members(out, |out, name| {
                    out.extend_from_slice(b",\"");
                    out.extend_from_slice(name.as_bytes());
                    out.extend_from_slice(b"\":");
                });
                out.extend_from_slice(b"}\n");
            }
            Format::Text => {
                time(out, self.wall_micros);
                out.extend_from_slice(b" AUDIT ");
                readable(out, self.event);
                self.members(out, |out, name| {
                    out.push(b' ');
                    out.extend_from_slice(name.as_bytes());
                    out.push(b'=');
                });
                out.push(b'\n');
            }
        }
    }

    /// Texts are JSON strings in both forms, so that spaces in them mislead nobody.
    fn members(&self, out: &mut Vec<u8>, begin: impl Fn(&mut Vec<u8>, &str)) {
        let mut text = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                begin(out, name);
                json(out, value);
            }
        };
        text("request_id", self.request_id);
        text("client_id", self.client_id);
        text("sudo", self.sudo);
        text("tenant", self.tenant);
        text("scope", self.scope);
        text("actor", self.actor);
        text("detail", self.detail);
        if let Some(ip) = self.client_ip {
            begin(out, "client_ip");
            out.push(b'"');
            address(out, ip);
            out.push(b'"');
        }
        if self.token_id.is_some() {
            begin(out, "token_id");
            signed_or_null(out, self.token_id);
        }
        if let Some(count) = self.count {
            begin(out, "count");
            number(out, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_line_holds_what_is_known_and_nothing_else() {
        let line = AuditLine {
            event: "sudo",
            request_id: Some("r-1"),
            client_id: Some("demo"),
            sudo: Some("loginName:li\n{\"kind\":\"audit\"}"),
            ..AuditLine::default()
        };
        let mut out = Vec::new();
        line.write(Format::Json, &mut out);
        assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 1);
        let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            read,
            serde_json::json!({
                "time": "1970-01-01T00:00:00.000000Z",
                "kind": "audit",
                "event": "sudo",
                "request_id": "r-1",
                "client_id": "demo",
                "sudo": "loginName:li\n{\"kind\":\"audit\"}",
            })
        );
    }

    #[test]
    fn the_text_form_stays_on_one_line_too() {
        let line = AuditLine {
            event: "sudo",
            sudo: Some("uid:1\r\n2026 AUDIT forged \u{1b}[2J"),
            token_id: Some(7),
            ..AuditLine::default()
        };
        let mut out = Vec::new();
        line.write(Format::Text, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "1970-01-01T00:00:00.000000Z AUDIT sudo sudo=\"uid:1\\r\\n2026 AUDIT forged \\u001b[2J\" token_id=7\n"
        );
    }
}
