//! What the log promises, also to those who read it slowly.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc;

use serde_json::{Value, json};

use super::*;
use crate::observe::access::CredentialKind;

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Kept {
    fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// Takes nothing until it is told to.
struct Stuck(mpsc::Receiver<()>, Kept);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.recv();
        self.1.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn line(path: &str) -> AccessLine<'_> {
    AccessLine {
        wall_micros: 1_700_000_000_000_000,
        request_id: "id-1",
        client_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        method: "GET",
        path,
        route: None,
        status: 200,
        credential: CredentialKind::None,
        client_id: None,
        token_id: None,
        sudo: None,
        tenant: None,
        request_bytes: 0,
        response_bytes: 2,
        duration: Duration::from_micros(1_234),
        upstream: None,
        error: None,
        observed: None,
        limit: None,
        limit_ns: None,
    }
}

#[test]
fn an_access_line_has_every_member_of_the_contract_and_no_other() {
    let kept = Kept::default();
    let lines = Lines::to(kept.clone(), Format::Json);
    lines.access(&line("/a"));
    lines.access(&AccessLine {
        route: Some("/"),
        credential: CredentialKind::Query,
        client_id: Some("demo"),
        token_id: Some(7),
        sudo: Some("uid:1"),
        tenant: Some("id:2"),
        upstream: Some(Duration::from_millis(3)),
        error: Some("rate_limited"),
        limit: Some("per-client"),
        limit_ns: Some(99),
        ..line("/b")
    });
    lines.flush();
    let expected = json!([{
        "time": "2023-11-14T22:13:20.000000Z", "kind": "access", "request_id": "id-1",
        "client_ip": "127.0.0.1", "method": "GET", "path": "/a", "route": null, "status": 200,
        "credential": "none", "client_id": null, "token_id": null, "sudo": null, "tenant": null,
        "request_bytes": 0, "response_bytes": 2, "duration_ms": 1.234, "upstream_ms": null,
        "error": null, "limit": null, "limit_ns": null,
    }, {
        "time": "2023-11-14T22:13:20.000000Z", "kind": "access", "request_id": "id-1",
        "client_ip": "127.0.0.1", "method": "GET", "path": "/b", "route": "/", "status": 200,
        "credential": "query", "client_id": "demo", "token_id": 7, "sudo": "uid:1", "tenant": "id:2",
        "request_bytes": 0, "response_bytes": 2, "duration_ms": 1.234, "upstream_ms": 3.0,
        "error": "rate_limited", "limit": "per-client", "limit_ns": 99,
    }]);
    assert_eq!(Value::Array(kept.lines()), expected);
}

#[test]
fn what_a_client_sends_cannot_forge_a_second_line() {
    for format in [Format::Json, Format::Text] {
        let kept = Kept::default();
        let lines = Lines::to(kept.clone(), format);
        let forged = "/\n{\"kind\":\"audit\"}\r\u{85}\u{2028}\u{1b}[2J";
        lines.access(&AccessLine {
            method: "X\ny",
            client_id: Some(forged),
            sudo: Some(forged),
            ..line(forged)
        });
        lines.audit(&AuditLine {
            event: "sudo",
            sudo: Some(forged),
            ..AuditLine::default()
        });
        lines.flush();
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let controls = text
            .chars()
            .filter(|c| c.is_control() || *c == '\u{2028}')
            .count();
        let method = usize::from(format == Format::Text); // a method is a token: hyper lets no control pass
        assert_eq!(controls, 2 + method, "{text:?}");
    }
}

#[test]
fn a_stuck_reader_costs_access_lines_which_are_counted_and_never_the_audit_ones() {
    let (go, stuck) = mpsc::channel();
    let kept = Kept::default();
    let lines = Lines::to(Stuck(stuck, kept.clone()), Format::Json);
    let long = "/".repeat(64 << 10);
    for _ in 0..200 {
        lines.access(&line(&long)); // returns at once, though nobody reads
    }
    assert!(lines.dropped() > 0);
    for _ in 0..100 {
        lines.audit(&AuditLine {
            event: "sudo",
            ..AuditLine::default()
        });
    }
    let dropped = lines.dropped();
    drop(go); // from now on writes pass
    lines.flush();
    let written = kept.lines();
    let of_kind = |kind: &str| written.iter().filter(|line| line["kind"] == kind).count();
    assert_eq!(of_kind("audit"), 100);
    assert_eq!(of_kind("access") as u64, 200 - dropped);
}

#[test]
fn a_line_said_while_the_writer_gathers_is_written_too() {
    let kept = Kept::default();
    let lines = Lines::to(kept.clone(), Format::Json);
    for round in 1..=3 {
        lines.access(&line("/a"));
        lines.flush();
        assert_eq!(kept.lines().len(), round);
    }
}
