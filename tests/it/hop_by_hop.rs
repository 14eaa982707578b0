//! Contract §3.9: what concerns one connection alone goes no further, in either direction.

use crate::harness::{Act, OK, Sidegate, Wire};

const PUBLIC: &str = "[[routes]]\npath = \"/\"\naccess = \"public\"";

async fn send(gate: &Sidegate, request: &str) -> String {
    let mut raw = gate.raw().await;
    raw.send(request).await;
    raw.read_to_end().await
}

fn names(head: &str) -> Vec<String> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.to_ascii_lowercase())
        .collect()
}

#[tokio::test]
async fn hop_by_hop_headers_of_the_request_go_with_all_that_connection_names() {
    let wire = Wire::always(Act::answer(OK)).await;
    let gate = wire.gate().config(PUBLIC).start().await;
    let answer = send(
        &gate,
        "GET /a HTTP/1.1\r\nHost: a\r\nConnection: close, X-One\r\nConnection: x-two ,, \"odd\" , TE\r\n\
         X-One: 1\r\nx-one: again\r\nX-Two: 2\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
         Proxy-Authorization: Basic x\r\nProxy-Authenticate: Basic\r\nProxy: http://evil\r\nTE: trailers\r\n\
         Trailer: X-Sum\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nX-Kept: yes\r\nx-kept: too\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let head = wire.only_head();
    let names = names(&head);
    for gone in [
        "connection",
        "x-one",
        "x-two",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "proxy-authenticate",
        "proxy",
        "te",
        "trailer",
        "upgrade",
        "http2-settings",
        "transfer-encoding",
        "content-length",
    ] {
        assert!(!names.iter().any(|name| name == gone), "{gone}: {head}");
    }
    assert_eq!(
        names.iter().filter(|name| *name == "x-kept").count(),
        2,
        "{head}"
    );
}

#[tokio::test]
async fn no_upgrade_is_asked_of_the_backend() {
    let wire = Wire::always(Act::answer(OK)).await;
    let gate = wire.gate().config(PUBLIC).start().await;
    for upgrade in ["h2c", "TLS/1.3", "foo/2"] {
        let answer = send(
            &gate,
            &format!("GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: {upgrade}\r\n\r\n"),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    for head in wire.heads() {
        assert!(!head.to_ascii_lowercase().contains("upgrade"), "{head}");
    }
}

#[tokio::test]
async fn the_backend_sees_title_case_names_and_http_1_1() {
    let wire = Wire::always(Act::answer(OK)).await;
    let gate = wire.gate().client("demo", "sudo").start().await;
    let token = gate.token("demo").await;
    let answer = send(
        &gate,
        &format!(
            "GET /a?sudo=uid:1&tenantId=2 HTTP/1.0\r\nhost: a\r\nauthorization: bearer {token}\r\nx-custom-thing: V\r\naccept: */*\r\n\r\n"
        ),
    )
    .await;
    assert!(answer.contains(" 200 OK\r\n"), "{answer}");
    let head = wire.only_head();
    assert!(head.starts_with("GET /a HTTP/1.1\r\n"), "{head}");
    for line in [
        "Host: a",
        "X-Custom-Thing: V",
        "Accept: */*",
        "X-Auth-Client-Id: demo",
        "X-Auth-User-Id: 1",
        "X-Auth-Tenant-Id: 2",
        "X-Auth-Scope: sudo",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: a",
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
    }
    for line in head.lines().skip(1).filter(|line| !line.is_empty()) {
        let name = line.split(':').next().unwrap();
        assert!(
            name.split('-')
                .all(|part| part.starts_with(|c: char| c.is_ascii_uppercase())),
            "{line}"
        );
    }
}

#[tokio::test]
async fn hop_by_hop_headers_of_the_answer_go_with_all_that_connection_names() {
    let wire = Wire::always(Act::last(
        "HTTP/1.1 200 OK\r\nConnection: close, X-One\r\nConnection: X-Two, content-length, x-request-id\r\nX-One: 1\r\nX-Two: 2\r\n\
         Keep-Alive: timeout=9\r\nProxy-Authenticate: Basic\r\nProxy-Connection: close\r\nUpgrade: h2c\r\n\
         X-Kept: yes\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok",
    ))
    .await;
    let gate = wire.gate().config(PUBLIC).start().await;
    let mut raw = gate.raw().await;
    raw.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = raw.read_head().await;
    assert_eq!(raw.read_until("ok").await, "ok");
    let names = names(&head);
    for gone in [
        "connection",
        "x-one",
        "x-two",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "upgrade",
        "transfer-encoding",
    ] {
        assert!(!names.iter().any(|name| name == gone), "{gone}: {head}");
    }
    for (kept, count) in [
        ("x-kept", 1),
        ("set-cookie", 2),
        ("content-length", 1),
        ("x-request-id", 1),
    ] {
        assert_eq!(
            names.iter().filter(|name| *name == kept).count(),
            count,
            "{kept}: {head}"
        );
    }
    // The backend's close is not the client's.
    raw.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(raw.read_head().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn what_is_ambiguous_in_the_request_is_framed_anew() {
    let backend = crate::harness::Backend::recording().await;
    let gate = Sidegate::before(&backend).config(PUBLIC).start().await;
    let answer = send(
        &gate,
        "POST /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\
         content_length: 9\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    )
    .await;
    // Refused, or forwarded in one reading: never both framings.
    if answer.starts_with("HTTP/1.1 200 ") {
        let seen = backend.only_request();
        assert_eq!(&seen.body[..], b"hello");
        assert_eq!(seen.header("transfer-encoding"), Some("chunked"));
        assert!(!seen.has_header("content-length"));
        assert!(!seen.has_header("content_length"));
    } else {
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
}
