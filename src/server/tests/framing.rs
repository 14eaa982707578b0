//! Heads with two readings, sent as bytes: refused here or by the HTTP library.

use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt as _;

use super::super::settings::Settings;
use super::super::tests_support::{Answers, Client, full};
use super::super::{Handler, Received};
use super::*;

/// Refuses as the front does, or names the host it understood and the one to send on.
fn judging() -> impl Handler {
    Answers(|request: Request<Received>| -> BoxFuture<'static, _> {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let answer = match check(&parts) {
                Err(refusal) => return refusal.render("id", false).map(full),
                Ok(framed) => format!("[{}] [{:?}]\n", framed.host, framed.host_header),
            };
            let _ = body.collect().await;
            Response::new(full(answer))
        })
    })
}

/// Sends raw bytes; the status, and whether the connection closes. 0: closed without an answer.
async fn send(raw: &[u8]) -> (u16, bool, String) {
    let mut client = Client::connect(&Settings::default(), judging());
    client.send(raw).await;
    let start = tokio::time::Instant::now();
    let got = client.read_to_end().await;
    let at_once = start.elapsed().as_secs() < 5; // else by a time-out
    let status = got.get(9..12).map_or(0, |status| status.parse().unwrap());
    (status, at_once, got)
}

async fn is_refused(raw: &[u8]) {
    let (status, closes, got) = send(raw).await;
    let shown = String::from_utf8_lossy(raw);
    assert_eq!((status, closes), (400, true), "{shown:?}: {got}");
    assert_eq!(got.matches("HTTP/1.").count(), 1, "{shown:?}: {got}");
}

async fn passes(raw: &[u8]) -> String {
    let (status, _, got) = send(raw).await;
    let shown = String::from_utf8_lossy(raw);
    assert_eq!(status, 200, "{shown:?}: {got}");
    let (_, body) = got.split_once("\r\n\r\n").unwrap();
    body.trim_end().to_owned()
}

#[tokio::test(start_paused = true)]
async fn hosts_that_are_missing_repeated_or_malformed_are_refused() {
    for lines in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nhost: b\r\n",
        "Host:\r\n",
        "Host: \r\n",
        "Host: a,b\r\n",
        "Host: a, a\r\n",
        "Host: a b\r\n",
        "Host: a\tb\r\n",
        "Host: user@a\r\n",
        "Host: user:pw@a\r\n",
        "Host: http://a\r\n",
        "Host: a/b\r\n",
        "Host: a?b\r\n",
        "Host: a#b\r\n",
        "Host: a\\b\r\n",
        "Host: a%62\r\n",
        "Host: \"a\"\r\n",
        "Host: .\r\n",
        "Host: a..b\r\n",
        "Host: .a\r\n",
        "Host: a..\r\n",
        "Host: :80\r\n",
        "Host: a:x\r\n",
        "Host: a:80:80\r\n",
        "Host: a:65536\r\n",
        "Host: a:0\r\n",
        "Host: a:+80\r\n",
        "Host: a:080000\r\n",
        "Host: ::1\r\n",
        "Host: [::1\r\n",
        "Host: [::1]x\r\n",
        "Host: [::1]:x\r\n",
        "Host: [::g]\r\n",
        "Host: [fe80::1%eth0]\r\n",
        "Host: [v1.a]\r\n",
        "Host: []\r\n",
        "Host: ä\r\n",
    ] {
        is_refused(format!("GET / HTTP/1.1\r\n{lines}\r\n").as_bytes()).await;
    }
    is_refused(b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n").await;
    is_refused(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n").await;
    let long = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(256));
    is_refused(long.as_bytes()).await;
}

#[tokio::test(start_paused = true)]
async fn hosts_are_read_without_port_case_and_last_dot() {
    for (host, read) in [
        ("example.com", "example.com"),
        ("Example.COM.:8080", "example.com"),
        ("a_b-c~d", "a_b-c~d"),
        ("a:", "a"),
        ("a:65535", "a"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("[2001:DB8:0::1]:8443", "[2001:db8::1]"),
    ] {
        let raw = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let expected = format!("[{read}] [Some({host:?})]");
        assert_eq!(passes(raw.as_bytes()).await, expected);
    }
    assert_eq!(passes(b"GET / HTTP/1.0\r\n\r\n").await, "[] [None]");
}

#[tokio::test(start_paused = true)]
async fn an_absolute_target_takes_the_place_of_host() {
    for target in [
        "http://B.example:81",
        "HTTP://B.example:81/x?y",
        "https://B.example:81/",
    ] {
        let raw = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let got = passes(raw.as_bytes()).await;
        assert_eq!(got, "[b.example] [Some(\"B.example:81\")]", "{target}");
    }
    assert_eq!(
        passes(b"GET http://b/ HTTP/1.0\r\n\r\n").await,
        "[b] [Some(\"b\")]"
    );
    for (target, lines) in [
        ("http://b/", ""),
        ("http://b/", "Host: a\r\nHost: b\r\n"),
        ("http://b/", "Host: a b\r\n"),
        ("http://user@b/", "Host: b\r\n"),
        ("http://user:pw@b/", "Host: b\r\n"),
        ("http://b:99999/", "Host: b\r\n"),
        ("http://b%2f/", "Host: b\r\n"),
        ("http:///", "Host: b\r\n"),
        ("http:b", "Host: b\r\n"),
        ("ftp://b/", "Host: b\r\n"),
        ("ws://b/", "Host: b\r\n"),
        ("file:///etc/passwd", "Host: b\r\n"),
    ] {
        is_refused(format!("GET {target} HTTP/1.1\r\n{lines}\r\n").as_bytes()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn only_options_has_the_asterisk_and_nothing_has_a_bare_authority() {
    passes(b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    for target in ["*", "b", "b:80", "?x", "#x", "a/b", "", "**"] {
        is_refused(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn connect_and_trace_are_405_and_what_follows_connect_is_no_request() {
    for (target, method) in [("b:80", "CONNECT"), ("/", "TRACE"), ("/", "CONNECT")] {
        let raw = format!(
            "{method} {target} HTTP/1.1\r\nHost: b\r\n\r\nGET /inner HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n"
        );
        let (status, closes, got) = send(raw.as_bytes()).await;
        // http's Uri takes no path for CONNECT: hyper refuses that one itself, or we do.
        assert!(
            status == 405 && closes || status == 400,
            "{method} {target}: {got}"
        );
        if status == 405 {
            assert!(got.to_lowercase().contains("\r\nallow: get, head"), "{got}");
        }
        let answers = got.matches("HTTP/1.").count();
        assert_eq!(answers, if method == "TRACE" { 2 } else { 1 }, "{got}");
    }
}

#[tokio::test(start_paused = true)]
async fn lengths_with_two_readings_are_refused() {
    for lines in [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: ",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\x0bchunked",
        "Transfer-Encoding:\r\n chunked",
        "Content-Length: 05",
        "Content-Length: 00",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 5, 5",
        "Content-Length: 5 5",
        "Content-Length: 0x5",
        "Content-Length: 5.0",
        "Content-Length: ",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 18446744073709551617",
        "Content-Length: 1000000000000000000",
        "Content-Length : 5",
        "Content-Length: 5\r\n folded: x",
        "Expect: 200-ok",
        "Expect: 100-continue, x",
        "Expect: 100-continue\r\nExpect: 100-continue",
        "No colon",
        "A\0: b",
        "A: b\0c",
        "A: b\rc",
        "A(: b",
    ] {
        let raw = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n0\r\n\r\n");
        is_refused(raw.as_bytes()).await;
    }
    // hyper takes this one for a head too large.
    let raw = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n";
    let (status, closes, _) = send(raw).await;
    assert_eq!((status, closes), (431, true));
    is_refused(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
    is_refused(b"GET / HTTP/1.1\r\n Host: a\r\n\r\n").await;
    is_refused(b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    is_refused(b"GET / HTTP/1.2\r\nHost: a\r\n\r\n").await;
    is_refused(b"GET / http/1.1\r\nHost: a\r\n\r\n").await;
    is_refused(b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    is_refused(b"GET /\r\n\r\n").await;
}

#[tokio::test(start_paused = true)]
async fn what_has_one_reading_passes() {
    for lines in [
        "Transfer-Encoding: chunked",
        "transfer-encoding:\t CHUNKED \t",
        // hyper has made one reading of these: chunked wins, equal lengths are one.
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nExpect: 100-Continue",
        "Content-Length: 0",
        "a_b.c~d!e: odd names are the gate's to fold",
    ] {
        let raw =
            format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n\r\n0\r\n\r\n");
        let mut client = Client::connect(&Settings::default(), judging());
        client.send(raw.as_bytes()).await;
        let got = client.read_to_end().await;
        assert!(got.contains("HTTP/1.1 200"), "{lines}: {got}");
    }
    passes(b"GET / HTTP/1.1\r\nHost: a\r\nA: \xff\x80\r\nConnection: close\r\n\r\n").await;
    passes(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    passes(b"GET / HTTP/1.1\nHost: a\nConnection: close\n\n").await;
    passes(b"GET / HTTP/1.0\r\nExpect: x\r\n\r\n").await;
    passes(b"PURGE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
}

#[tokio::test(start_paused = true)]
async fn malformed_chunks_end_the_connection() {
    for chunks in [
        "x\r\n",
        "5;a\nb\r\n12345\r\n",
        "-1\r\n",
        "5\r\n123456\r\n",
        "fffffffffffffffff\r\n",
    ] {
        let raw = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\nGET /inner HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        let (_, closes, got) = send(raw.as_bytes()).await;
        assert!(closes, "{chunks:?}: {got}");
        assert!(got.matches("HTTP/1.").count() <= 1, "{chunks:?}: {got}");
    }
}
