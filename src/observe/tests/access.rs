//! What the access line promises to those who read it.

use super::*;

fn line() -> AccessLine<'static> {
    AccessLine {
        wall_micros: 1_709_164_800_000_001,
        request_id: "r-1",
        client_ip: IpAddr::from([192, 0, 2, 1]),
        method: "GET",
        path: "/orders",
        route: None,
        status: 401,
        credential: CredentialKind::None,
        client_id: None,
        token_id: None,
        sudo: None,
        tenant: None,
        request_bytes: 0,
        response_bytes: 12,
        duration: Duration::from_micros(1_234),
        upstream: None,
        error: Some("missing_token"),
        observed: None,
        limit: None,
        limit_ns: None,
    }
}

fn written(line: &AccessLine<'_>, format: Format) -> String {
    let mut out = Vec::new();
    line.write(format, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn every_member_stands_in_the_line_in_order_and_unknown_ones_are_null() {
    assert_eq!(
        written(&line(), Format::Json),
        concat!(
            r#"{"time":"2024-02-29T00:00:00.000001Z","kind":"access","request_id":"r-1","#,
            r#""client_ip":"192.0.2.1","method":"GET","path":"/orders","route":null,"#,
            r#""status":401,"credential":"none","client_id":null,"token_id":null,"sudo":null,"#,
            r#""tenant":null,"request_bytes":0,"response_bytes":12,"duration_ms":1.234,"#,
            r#""upstream_ms":null,"error":"missing_token","limit":null,"limit_ns":null}"#,
            "\n"
        )
    );
}

#[test]
fn known_members_have_their_values_and_types() {
    let line = AccessLine {
        route: Some("/"),
        credential: CredentialKind::Query,
        client_id: Some("demo"),
        token_id: Some(7),
        sudo: Some("uid:1"),
        tenant: Some("code:ACME"),
        client_ip: "2001:db8::1".parse().unwrap(),
        upstream: Some(Duration::from_millis(2)),
        observed: Some("invalid_sudo"),
        limit: Some("per-client"),
        limit_ns: Some(u64::MAX),
        ..line()
    };
    let read: serde_json::Value = serde_json::from_str(&written(&line, Format::Json)).unwrap();
    assert_eq!(read["token_id"], 7);
    assert_eq!(read["credential"], "query");
    assert_eq!(read["client_ip"], "2001:db8::1");
    assert_eq!(read["upstream_ms"], 2.0);
    assert_eq!(read["observed"], "invalid_sudo");
    assert_eq!(read["limit_ns"], u64::MAX);
}

#[test]
fn nothing_a_peer_sends_can_forge_a_second_line() {
    let evil = "x\n{\"kind\":\"audit\"}\r\u{85}\u{2028}\u{1b}[2J\"},\0\u{7f}\\";
    let line = AccessLine {
        method: evil,
        path: evil,
        client_id: Some(evil),
        sudo: Some(evil),
        tenant: Some(evil),
        request_id: evil,
        ..line()
    };
    for format in [Format::Json, Format::Text] {
        let text = written(&line, format);
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let body = text.strip_suffix('\n').unwrap();
        assert!(!body.chars().any(|c| c.is_control() || c == '\u{2028}'));
    }
    let read: serde_json::Value = serde_json::from_str(&written(&line, Format::Json)).unwrap();
    assert_eq!(read["sudo"], evil);
    assert_eq!(read.as_object().unwrap().len(), 20);
}

#[test]
fn the_query_is_left_out_whatever_the_caller_passes() {
    let line = AccessLine {
        path: "/a?access_token=secret#x",
        ..line()
    };
    for format in [Format::Json, Format::Text] {
        assert!(!written(&line, format).contains("secret"));
    }
}

#[test]
fn the_text_form_reads_like_a_sentence() {
    let line = AccessLine {
        client_id: Some("demo"),
        ..line()
    };
    assert_eq!(
        written(&line, Format::Text),
        "2024-02-29T00:00:00.000001Z 401 GET /orders 1.234ms from 192.0.2.1 client=demo error=missing_token id=r-1\n"
    );
}
