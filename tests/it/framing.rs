//! Bytes that could be read in two ways (contract §3, "Framing"): refused, or written anew, and never a
//! second request.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::harness::{Backend, Sidegate, eventually, exchange};

const PUBLIC: &str = "[[routes]]\npath = \"/\"\naccess = \"public\"\n";
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: s\r\n\r\n";

async fn public(backend: &Backend) -> Sidegate {
    Sidegate::before(backend).config(PUBLIC).start().await
}

fn assert_nothing_smuggled(backend: &Backend) {
    for seen in backend.requests() {
        assert!(!seen.target.contains("smuggled"), "{seen:#?}");
    }
}

/// `POST / HTTP/1.1` with these lines and a body that reads as a request of its own.
fn with_lines(lines: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: s\r\n{lines}\r\n\r\n0\r\n\r\n{SMUGGLED}").into_bytes()
}

fn attacks() -> Vec<(&'static str, Vec<u8>)> {
    let raw = |text: &str| text.as_bytes().to_vec();
    let mut attacks: Vec<(&str, Vec<u8>)> = [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: 005",
        "Content-Length: 18446744073709551621",
        "Content-Length: 18446744073709551615",
        "Content-Length:",
        "Content-Length : 5",
        "Content-Length: five",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding:\u{b}chunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\r\n chunked",
        " Transfer-Encoding: chunked",
        "X: a\r\n folded",
        "X: a\rTransfer-Encoding: chunked",
        "X: a\0b",
        "X\0: a",
        "X y: a",
        ": a",
        "no colon",
        "Expect: 200-ok\r\nContent-Length: 0",
        "Host: other",
    ]
    .into_iter()
    .map(|lines| (lines, with_lines(lines)))
    .collect();
    attacks.extend([
        (
            "chunked in HTTP/1.0",
            raw("POST / HTTP/1.0\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        ("no Host", raw("GET / HTTP/1.1\r\nX: y\r\n\r\n")),
        ("empty Host", raw("GET / HTTP/1.1\r\nHost:\r\n\r\n")),
        (
            "two hosts in one",
            raw("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
        ),
        (
            "Host with a path",
            raw("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
        ),
        (
            "Host with a user",
            raw("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
        ),
        (
            "Host with a space",
            raw("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        ),
        (
            "Host with a bad port",
            raw("GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n"),
        ),
        (
            "target with a user",
            raw("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        ),
        (
            "target of another scheme",
            raw("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        ),
        (
            "target of an authority",
            raw("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
        ),
        ("asterisk for GET", raw("GET * HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("two spaces", raw("GET  / HTTP/1.1\r\nHost: a\r\n\r\n")),
        (
            "a space in the target",
            raw("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
        ),
        ("no version", raw("GET /\r\nHost: a\r\n\r\n")),
        ("version 1.2", raw("GET / HTTP/1.2\r\nHost: a\r\n\r\n")),
        ("version 2.0", raw("GET / HTTP/2.0\r\nHost: a\r\n\r\n")),
        (
            "version in lower case",
            raw("GET / http/1.1\r\nHost: a\r\n\r\n"),
        ),
        (
            "a method that is no token",
            raw("G@T/ / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ),
        (
            "the preface of HTTP/2",
            raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ),
        (
            "a TLS greeting",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        ),
    ]);
    attacks
}

#[tokio::test]
async fn what_has_two_readings_is_400_and_the_connection_closes() {
    let backend = Backend::recording().await;
    // What waits for more is closed by its time, without the answer that is asked for here.
    let gate = Sidegate::before(&backend)
        .config(PUBLIC)
        .server("header_read_timeout = \"500ms\"\nidle_timeout = \"500ms\"\nstream_idle_timeout = \"500ms\"")
        .start()
        .await;

    let mut passed = Vec::new();
    for (name, bytes) in attacks() {
        let mut raw = gate.raw().await;
        raw.send(&bytes).await;
        // To the end: nothing that follows is answered.
        let answer = raw.read_to_end().await;
        let refused = match name {
            // To the library a head is too large that announces a body it cannot count.
            "Content-Length: 18446744073709551615" => answer.starts_with("HTTP/1.1 431 "),
            // There is no answer that such a client would understand.
            "the preface of HTTP/2" => answer.is_empty(),
            _ => answer.starts_with("HTTP/1.1 400 "),
        };
        if !refused || answer.matches("HTTP/1.1 ").count() > 1 {
            passed.push((name, answer));
        }
    }
    assert!(passed.is_empty(), "{passed:#?}");

    assert_eq!(backend.requests().len(), 0, "{:#?}", backend.requests());
}

#[tokio::test]
async fn malformed_chunks_never_reach_the_backend_as_a_whole_body() {
    let backend = Backend::recording().await;
    let gate = public(&backend).await;
    let head = "POST /chunks HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n";
    for chunks in [
        "-1\r\n",
        "0x1\r\na\r\n0\r\n\r\n",
        "g\r\n",
        "fffffffffffffffff\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "1;x\n\r\na\r\n0\r\n\r\n",
        " 1\r\na\r\n0\r\n\r\n",
        "\r\n1\r\na\r\n0\r\n\r\n",
    ] {
        let answer = exchange(gate.addr, format!("{head}{chunks}{SMUGGLED}")).await;
        let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 400 ");
        assert!(refused, "{chunks:?}: {answer:?}");
        assert!(!answer.contains("HTTP/1.1 200"), "{chunks:?}: {answer:?}");
    }
    assert_nothing_smuggled(&backend);
}

#[tokio::test]
async fn what_the_library_already_read_one_way_goes_on_freshly_framed() {
    let backend = Backend::recording().await;
    let gate = public(&backend).await;
    for (name, bytes, body) in [
        (
            "length beside chunked",
            "POST /a HTTP/1.1\r\nHost: s\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "hello",
        ),
        (
            "chunked beside length",
            "POST /a HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: Chunked\r\nContent-Length: 300\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "hello",
        ),
        (
            "the same length twice",
            "POST /a HTTP/1.1\r\nHost: s\r\nContent-Length: 5\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
            "hello",
        ),
        (
            "bare line feeds",
            "POST /a HTTP/1.1\nHost: s\nContent-Length: 5\nConnection: close\n\nhello",
            "hello",
        ),
        (
            "extensions of chunks",
            "POST /a HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
            "hello",
        ),
        (
            "an empty line before the request",
            "\r\nPOST /a HTTP/1.1\r\nHost: s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "",
        ),
        (
            "a fragment",
            "GET /a#/../admin?x HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n",
            "",
        ),
    ] {
        let before = backend.requests().len();
        let answer = exchange(gate.addr, bytes).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{name}: {answer:?}");
        let seen = backend.requests()[before..].to_vec();
        assert_eq!(seen.len(), 1, "{name}: {seen:#?}");
        assert_eq!(seen[0].target(), "/a", "{name}");
        assert_eq!(seen[0].body, body, "{name}");
        let framings: Vec<_> = seen[0]
            .headers
            .iter()
            .filter(|(own, _)| own == "content-length" || own == "transfer-encoding")
            .collect();
        let most = usize::from(seen[0].method == "POST");
        assert!(framings.len() <= most, "{name}: {framings:?}");
    }
}

#[tokio::test]
async fn an_absolute_target_takes_the_place_of_host_for_the_backend() {
    let backend = Backend::recording().await;
    let gate = public(&backend).await;
    let bytes =
        "GET http://Asked.Test:81/x?y=1 HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n";
    let answer = exchange(gate.addr, bytes).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    let seen = backend.only_request();
    assert_eq!(seen.target(), "/x?y=1");
    assert_eq!(seen.header("host"), Some("Asked.Test:81"));
    assert_eq!(seen.header("x-forwarded-host"), Some("Asked.Test:81"));
}

#[tokio::test]
async fn connect_and_trace_are_405_and_reach_nobody() {
    let backend = Backend::recording().await;
    let gate = public(&backend).await;
    for head in [
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ] {
        let answer = exchange(gate.addr, format!("{head}{SMUGGLED}")).await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer:?}");
        assert!(answer.to_lowercase().contains("\r\nallow: "), "{answer:?}");
    }
    assert_eq!(backend.requests().len(), 0);
}

#[tokio::test]
async fn heads_that_are_too_large_are_431() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .config(PUBLIC)
        .server("max_header_bytes = \"8KiB\"\nmax_headers = 20")
        .start()
        .await;
    let long = "a".repeat(9 << 10);
    let many: String = (0..21).map(|n| format!("X-{n}: y\r\n")).collect();
    for bytes in [
        format!("GET / HTTP/1.1\r\nHost: s\r\nX: {long}\r\n\r\n"),
        format!("GET /{long} HTTP/1.1\r\nHost: s\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: s\r\nX: {long}"),
        format!("GET / HTTP/1.1\r\nHost: s\r\n{many}\r\n"),
    ] {
        let answer = exchange(gate.addr, &bytes).await;
        let start = &bytes[..40];
        assert!(answer.starts_with("HTTP/1.1 431 "), "{start:?}: {answer:?}");
    }
    assert_eq!(backend.requests().len(), 0);

    // The largest that may pass does.
    let most: String = (0..18).map(|n| format!("X-{n}: y\r\n")).collect();
    let fits = "a".repeat(6 << 10);
    let bytes = format!("GET /{fits} HTTP/1.1\r\nHost: s\r\nConnection: close\r\n{most}\r\n");
    let answer = exchange(gate.addr, bytes).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_413_and_is_not_read() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .config(PUBLIC)
        .server("max_body = \"10B\"")
        .start()
        .await;
    let answer = gate.call().post("/", "12345678901").await;
    answer.expect_refusal(413, "body_too_large");
    assert_eq!(backend.requests().len(), 0);

    // Before a byte of it was sent.
    let head = "PUT / HTTP/1.1\r\nHost: s\r\nContent-Length: 999999999\r\n\r\n";
    let answer = exchange(gate.addr, head).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer:?}");

    let answer = gate.call().post("/", "1234567890").await;
    answer.expect_status(200);
    assert_eq!(backend.only_request().body, "1234567890");
}

#[tokio::test]
async fn a_body_that_turns_out_too_large_is_413_and_the_backend_gets_no_whole_one() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .config(PUBLIC)
        .server("max_body = \"10B\"")
        .start()
        .await;
    let head =
        "POST / HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    let answer = exchange(
        gate.addr,
        format!("{head}6\r\n123456\r\n6\r\n123456\r\n0\r\n\r\n"),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer:?}");
    assert!(
        answer.contains("\"error\":\"body_too_large\""),
        "{answer:?}"
    );
    // What the recording backend notes of it broke off: the body is not there.
    for seen in backend.requests() {
        assert_eq!(seen.body, "");
    }
    let line = gate.logged("access", |line| line["status"] == 413).await;
    assert_eq!(line["error"], "body_too_large");
}

#[tokio::test]
async fn the_body_of_a_refused_request_is_never_read_as_a_request() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("demo", "sudo")
        .config(
            "[[routes]]\npath = \"/api\"\n[[routes]]\npath = \"/smuggled\"\naccess = \"public\"\n",
        )
        .start()
        .await;
    let large = SMUGGLED.repeat(3000);
    for target in [
        "/api/x",                    // 401
        "/api/x?sudo=uid:1&sudo=2",  // 400 or 401
        "/nowhere",                  // 404
        "/api/%2e%2e/smuggled",      // 400
        "/api/oauth2/server/tokens", // own endpoint: no form
        "/api/oauth2/server/tokens/check",
    ] {
        for body in [SMUGGLED, &large] {
            let length = body.len();
            let chunked = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
            for (framing, body) in [
                (format!("Content-Length: {length}"), body),
                ("Transfer-Encoding: chunked".to_owned(), chunked.as_str()),
                (
                    format!("Content-Length: {length}\r\nExpect: 100-continue"),
                    body,
                ),
            ] {
                let head = format!("POST {target} HTTP/1.1\r\nHost: s\r\n{framing}\r\n\r\n");
                let last = "GET /nowhere/last HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n";
                let answer = exchange(gate.addr, format!("{head}{body}{last}")).await;
                // Its own answer, and the one to the last request where the connection went on.
                let answers = answer.replace("HTTP/1.1 100 Continue", "");
                let answers: Vec<_> = answers.match_indices("HTTP/1.1 ").collect();
                assert!((1..=2).contains(&answers.len()), "{head:?}: {answer:?}");
                assert!(!answer.contains("HTTP/1.1 2"), "{head:?}: {answer:?}");
                // Own endpoints do read the body; whoever is refused is not asked for it.
                if !target.starts_with("/api/oauth2") {
                    assert!(!answer.contains("100 Continue"), "{head:?}: {answer:?}");
                }
            }
        }
    }
    assert_eq!(backend.requests().len(), 0, "{:#?}", backend.requests());
}

#[tokio::test]
async fn a_small_body_of_a_refused_request_leaves_the_connection_open() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend).start().await;
    let mut raw = gate.raw().await;
    for _ in 0..3 {
        raw.send("POST /x HTTP/1.1\r\nHost: s\r\nContent-Length: 5\r\n\r\nhello")
            .await;
        let head = raw.read_head().await;
        assert!(head.starts_with("HTTP/1.1 401 "), "{head:?}");
        raw.read_until("}").await;
    }
}

/// A backend that answers each head at once, without reading the body, and keeps what arrived on each
/// connection.
async fn hasty() -> (Backend, Arc<Mutex<Vec<Vec<u8>>>>, Arc<Notify>) {
    let seen: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let closed = Arc::new(Notify::new());
    let (keep, tell) = (Arc::clone(&seen), Arc::clone(&closed));
    let backend = Backend::raw(move |mut stream: TcpStream| {
        let (keep, tell) = (Arc::clone(&keep), Arc::clone(&tell));
        async move {
            let index = {
                let mut all = keep.lock().unwrap();
                all.push(Vec::new());
                all.len() - 1
            };
            let mut chunk = [0; 4096];
            let mut answered = false;
            loop {
                match stream.read(&mut chunk).await {
                    Ok(0) | Err(_) => break,
                    Ok(n) => {
                        let whole = {
                            let mut all = keep.lock().unwrap();
                            all[index].extend_from_slice(&chunk[..n]);
                            all[index].windows(4).any(|part| part == b"\r\n\r\n")
                        };
                        if whole && !answered {
                            answered = true;
                            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly";
                            let _ = stream.write_all(answer).await;
                        }
                    }
                }
            }
            tell.notify_one();
        }
    })
    .await;
    (backend, seen, closed)
}

#[tokio::test]
async fn an_answer_before_the_body_was_read_desynchronises_no_connection() {
    let (backend, seen, _) = hasty().await;
    // Each connection of this backend answers once.
    let gate = Sidegate::before(&backend)
        .config(PUBLIC)
        .upstream("idle_connections = 0")
        .start()
        .await;
    let length = 40 + SMUGGLED.len();
    let mut raw = gate.raw().await;
    raw.send(format!(
        "POST /first HTTP/1.1\r\nHost: s\r\nContent-Length: {length}\r\n\r\n{}",
        "x".repeat(40)
    ))
    .await;
    let head = raw.read_head().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head:?}");
    raw.read_until("early").await;

    // Another client meanwhile: its request must not go into the first one's body.
    let answer = gate.get("/second").await;
    answer.expect_status(200);
    {
        let seen = seen.lock().unwrap();
        for one in seen.iter() {
            let text = String::from_utf8_lossy(one);
            assert!(
                !(text.contains("/first") && text.contains("/second")),
                "{text}"
            );
        }
    }

    // The rest of the first body looks like a request and is none.
    raw.send(SMUGGLED).await;
    raw.send("GET /third HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n")
        .await;
    let rest = raw.read_to_end().await;
    assert!(rest.matches("HTTP/1.1 ").count() <= 1, "{rest:?}");
    let seen = seen.lock().unwrap();
    for one in seen.iter() {
        let text = String::from_utf8_lossy(one);
        assert!(!text.starts_with("GET /smuggled"), "{text}");
        assert!(
            text.contains("/first") || !text.contains("smuggled"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_each_by_its_own_answer() {
    let backend = Backend::answering(|seen| {
        http::Response::new(http_body_util::Full::new(bytes::Bytes::from(format!(
            "[{}]",
            seen.target
        ))))
    })
    .await;
    let gate = public(&backend).await;
    let mut bytes = String::new();
    for n in 0..5 {
        bytes.push_str(&format!(
            "POST /{n} HTTP/1.1\r\nHost: s\r\nX-Request-Id: id-{n}\r\nContent-Length: 3\r\n\r\nabc"
        ));
    }
    bytes.push_str(
        "GET /last HTTP/1.1\r\nHost: s\r\nX-Request-Id: id-5\r\nConnection: close\r\n\r\n",
    );
    let answer = exchange(gate.addr, bytes).await;
    let bodies: Vec<_> = answer
        .match_indices('[')
        .map(|(at, _)| &answer[at..=at + answer[at..].find(']').unwrap()])
        .collect();
    assert_eq!(bodies, ["[/0]", "[/1]", "[/2]", "[/3]", "[/4]", "[/last]"]);
    let ids: Vec<_> = (0..6)
        .map(|n| answer.find(&format!("id-{n}")).unwrap())
        .collect();
    assert!(ids.is_sorted(), "{answer}");
}

#[tokio::test]
async fn a_body_that_breaks_off_reaches_the_backend_broken_off() {
    let (backend, seen, closed) = hasty().await;
    let gate = public(&backend).await;
    let mut raw = gate.raw().await;
    raw.send("POST /cut HTTP/1.1\r\nHost: s\r\nContent-Length: 100\r\n\r\nonly this")
        .await;
    eventually("the body arrives", async || {
        seen.lock()
            .unwrap()
            .iter()
            .any(|one| one.ends_with(b"only this"))
    })
    .await;
    drop(raw);
    crate::harness::soon("the backend's connection closes", closed.notified()).await;
    // Not filled up, and no other request put behind it.
    gate.get("/next").await.expect_status(200);
    let seen = seen.lock().unwrap();
    assert!(
        seen[0].ends_with(b"only this"),
        "{:?}",
        String::from_utf8_lossy(&seen[0])
    );
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_502() {
    let backend = Backend::raw(|mut stream: TcpStream| async move {
        let mut chunk = [0; 4096];
        let _ = stream.read(&mut chunk).await;
        let _ = stream
            .write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            )
            .await;
        let _ = stream.read(&mut chunk).await;
    })
    .await;
    let gate = public(&backend).await;
    let answer = gate.get("/").await;
    answer.expect_refusal(502, "upstream_unreachable");
}
