//! Contract §2 and §3.10: backends that cannot be reached, are slow, break off, or speak nonsense.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Response;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::harness::{Act, Backend, OK, Place, Raw, Sidegate, Wire, eventually, read_head, soon};

const PUBLIC: &str = "[[routes]]\npath = \"/\"\naccess = \"public\"";

#[tokio::test]
async fn a_backend_that_is_not_there_is_502() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for url in [
        format!("http://{port}"),
        "http://no-such-host.invalid".to_owned(),
    ] {
        let gate = Sidegate::before_url(&url).config(PUBLIC).start().await;
        for _ in 0..2 {
            let answer = gate.get("/a").await;
            answer.expect_refusal(502, "upstream_unreachable");
            assert!(
                !answer.text().contains("invalid"),
                "no inner error: {answer:?}"
            );
        }
        gate.call()
            .post("/a", "body")
            .await
            .expect_refusal(502, "upstream_unreachable");
    }
}

#[tokio::test]
async fn a_connection_that_takes_longer_than_connect_timeout_is_504() {
    let silent = Backend::raw(|mut stream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let gate = Sidegate::before_url(&format!("https://{}", silent.addr))
        .upstream("connect_timeout = \"100ms\"")
        .config(PUBLIC)
        .start()
        .await;
    gate.get("/a").await.expect_refusal(504, "upstream_timeout");
}

#[tokio::test]
async fn an_answer_that_takes_longer_than_response_timeout_is_504() {
    for begun in [
        "",
        "HTTP/1.1 200 OK\r\nX-Slow",
        "HTTP/1.1 100 Continue\r\n\r\n",
    ] {
        let wire = Wire::always(Act::hang(begun)).await;
        let gate = wire
            .gate()
            .upstream("response_timeout = \"100ms\"")
            .config(PUBLIC)
            .start()
            .await;
        gate.get("/a").await.expect_refusal(504, "upstream_timeout");
        assert_eq!(wire.places(), [(0, 0)]);
        // What nobody waits for any more is ended.
        wire.all_closed().await;
    }
}

#[tokio::test]
async fn response_timeout_runs_from_the_last_byte_of_the_request() {
    const LIMIT: Duration = Duration::from_millis(200);
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .upstream("response_timeout = \"200ms\"")
        .config(PUBLIC)
        .start()
        .await;
    let mut raw = gate.raw().await;
    raw.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
        .await;
    // What is measured is time: twice the limit passes in the middle of the body.
    tokio::time::sleep(LIMIT * 2).await;
    raw.send("cd").await;
    let head = raw.read_head().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(&backend.only_request().body[..], b"abcd");

    let wire = Wire::always(Act::hang("")).await;
    let gate = wire
        .gate()
        .upstream("response_timeout = \"200ms\"")
        .config(PUBLIC)
        .start()
        .await;
    let mut raw = gate.raw().await;
    raw.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
        .await;
    tokio::time::sleep(LIMIT * 2).await;
    let last = Instant::now();
    raw.send("cd").await;
    let head = raw.read_head().await;
    assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
    assert!(last.elapsed() >= LIMIT, "{:?}", last.elapsed());
}

#[tokio::test]
async fn response_timeout_bounds_the_head_and_not_the_body() {
    let backend = Backend::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
            .await;
        tokio::time::sleep(Duration::from_millis(250)).await;
        let _ = stream.write_all(b"cd").await;
    })
    .await;
    let gate = Sidegate::before(&backend)
        .upstream("response_timeout = \"100ms\"")
        .config(PUBLIC)
        .start()
        .await;
    let answer = gate.get("/a").await;
    assert_eq!(answer.text(), "abcd");
}

/// All bytes until the peer closes, and whether that close was a reset.
async fn to_the_end(raw: &mut Raw) -> (String, bool) {
    let stream = raw.stream();
    let mut all = Vec::new();
    let ended = soon("the peer closes", stream.read_to_end(&mut all)).await;
    (String::from_utf8_lossy(&all).into_owned(), ended.is_err())
}

#[tokio::test]
async fn a_backend_that_breaks_off_leaves_the_client_with_a_broken_transfer() {
    for begun in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello",
        "HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\nhello",
    ] {
        for version in ["1.1", "1.0"] {
            let wire = Wire::always(Act::last(begun)).await;
            let gate = wire.gate().config(PUBLIC).start().await;
            let mut raw = gate.raw().await;
            raw.send(format!("GET /a HTTP/{version}\r\nHost: a\r\n\r\n"))
                .await;
            let (answer, reset) = to_the_end(&mut raw).await;
            // A break so early that no head had gone out may be told in words.
            if answer.starts_with("HTTP/1.1 502 ") || answer.starts_with("HTTP/1.0 502 ") {
                continue;
            }
            let lower = answer.to_ascii_lowercase();
            let visible = if lower.contains("transfer-encoding: chunked") {
                !answer.ends_with("\r\n0\r\n\r\n")
            } else if lower.contains("content-length: 10") {
                answer.split("\r\n\r\n").nth(1).unwrap_or_default().len() < 10
            } else {
                reset
            };
            assert!(visible, "HTTP/{version} {begun:?}: looks whole: {answer:?}");
            let line = gate.logged("access", |line| line["path"] == "/a").await;
            assert_eq!(line["status"], 200, "{line}");
        }
    }
}

#[tokio::test]
async fn a_reset_in_the_middle_of_an_answer_that_ends_with_its_connection_is_broken_too() {
    let backend = Backend::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello").await;
        // Only once the client has read the beginning.
        let _ = stream.read_u8().await;
        let _ = stream.set_zero_linger();
    })
    .await;
    let gate = Sidegate::before(&backend).config(PUBLIC).start().await;
    for version in ["1.1", "1.0"] {
        let mut raw = gate.raw().await;
        raw.send(format!(
            "POST /a HTTP/{version}\r\nHost: a\r\nContent-Length: 1\r\n\r\n"
        ))
        .await;
        let begun = raw.read_until("hello").await;
        raw.send("x").await;
        let (rest, reset) = to_the_end(&mut raw).await;
        if begun
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked")
        {
            assert!(!rest.ends_with("0\r\n\r\n"), "looks whole: {rest:?}");
        } else {
            assert!(reset, "looks whole: {begun:?} {rest:?}");
        }
    }
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_502() {
    let wire = Wire::always(Act::hang(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n",
    ))
    .await;
    let gate = wire.gate().config(PUBLIC).start().await;
    gate.get("/a")
        .await
        .expect_refusal(502, "upstream_unreachable");
    let call = gate
        .call()
        .header("connection", "upgrade")
        .header("upgrade", "foo");
    call.get("/a")
        .await
        .expect_refusal(502, "upstream_unreachable");
    wire.all_closed().await;
}

#[tokio::test]
async fn an_answer_that_is_no_http_or_has_two_readings_is_502() {
    let many = format!(
        "HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n",
        "X-A: b\r\n".repeat(5000)
    );
    let large = format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n\r\n", "a".repeat(2 << 20));
    for answer in [
        "\r\n\r\n\r\n\r\n",
        "SSH-2.0-OpenSSH_9.6\r\n\r\n",
        "hello world\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 99 X\r\n\r\n",
        "HTTP/1.1 2000 X\r\n\r\n",
        "HTTP/3.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nX-A : b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX A: b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-A: b\rX-B: c\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-A: b\r\n folded: c\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n",
        &many,
        &large,
    ] {
        let wire = Wire::always(Act::last(answer)).await;
        let gate = wire.gate().config(PUBLIC).start().await;
        let got = gate.get("/a").await;
        let shown = &answer[..answer.len().min(90)];
        assert_eq!(got.status, 502, "{shown:?}: {got:?}");
        got.expect_refusal(502, "upstream_unreachable");
    }
}

#[tokio::test]
async fn an_answer_whose_framing_is_doubled_goes_on_in_one_reading() {
    for (answer, expected) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            "content-length: 5",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
            "content-length: 5",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 005\r\n\r\nhello",
            "content-length: 5",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "transfer-encoding: chunked",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "transfer-encoding: chunked",
        ),
    ] {
        let wire = Wire::always(Act::last(answer)).await;
        let gate = wire.gate().config(PUBLIC).start().await;
        let mut raw = gate.raw().await;
        raw.send("GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await;
        let got = raw.read_to_end().await.to_ascii_lowercase();
        if got.starts_with("http/1.1 502 ") {
            continue;
        }
        let framing: Vec<_> = got
            .lines()
            .filter(|line| {
                line.starts_with("content-length") || line.starts_with("transfer-encoding")
            })
            .collect();
        assert_eq!(framing, [expected], "{answer:?}: {got}");
        assert!(got.contains("hello"), "{got}");
    }
}

#[tokio::test]
async fn the_length_that_an_answer_to_head_tells_is_one_number_too() {
    for (lines, expected) in [
        ("Content-Length: 5\r\nContent-Length: 6\r\n", None),
        ("Content-Length: 5, 6\r\n", None),
        ("Content-Length: +5\r\n", None),
        ("Content-Length: x\r\n", None),
        ("Content-Length: \r\n", None),
        ("Content-Length: 99999999999999999999\r\n", None),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Some("5")),
        ("Content-Length: 5 , 5\r\n", Some("5")),
        ("Content-Length: 005\r\n", Some("5")),
        ("Content-Length: 0\r\n", Some("0")),
    ] {
        let wire = Wire::always(Act::last(format!("HTTP/1.1 200 OK\r\n{lines}\r\n"))).await;
        let gate = wire.gate().config(PUBLIC).start().await;
        let answer = gate.call().send("HEAD", "/a", "").await;
        match expected {
            Some(length) => {
                answer.expect_status(200);
                assert_eq!(answer.header("content-length"), Some(length), "{lines:?}");
            }
            None => {
                answer.expect_status(502);
            }
        }
    }
}

#[tokio::test]
async fn bytes_behind_an_answer_never_answer_another_request() {
    const POISON: &str = "HTTP/1.1 200 OK\r\nX-Poison: 1\r\nContent-Length: 6\r\n\r\npoison";
    for (method, answer) in [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"),
        ("POST", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let poisoned = format!("{answer}{POISON}");
        let wire = Wire::new(move |place: Place, _: &str| match place {
            Place {
                connection: 0,
                request: 0,
            } => Act::answer(&poisoned),
            _ => Act::answer(OK),
        })
        .await;
        let gate = wire
            .gate()
            .upstream("idle_timeout = \"60s\"")
            .config(PUBLIC)
            .start()
            .await;
        let first = gate.call().send(method, "/a", "").await;
        assert!(!first.text().contains("poison"), "{first:?}");
        for _ in 0..2 {
            let second = gate.get("/b").await;
            second.expect_status(200);
            assert_eq!(second.text(), "ok", "{method} {answer:?}");
            assert!(second.header("x-poison").is_none());
        }
    }
}

#[tokio::test]
async fn interim_answers_are_not_taken_for_the_answer() {
    let wire = Wire::always(Act::answer(format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n{OK}"
    )))
    .await;
    let gate = wire.gate().config(PUBLIC).start().await;
    let answer = gate.get("/a").await;
    answer.expect_status(200);
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.header("link"), None);
}

#[tokio::test]
async fn an_http_1_0_backend_is_understood() {
    for (answer, goes_on) in [
        ("HTTP/1.0 200 OK\r\n\r\nwhole", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nwhole", false),
        // It would go on, but to whoever spoke HTTP/1.0 no chunk could be sent.
        (
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nwhole",
            true,
        ),
    ] {
        let act = if goes_on {
            Act::answer(answer)
        } else {
            Act::last(answer)
        };
        let wire = Wire::always(act).await;
        let gate = wire.gate().config(PUBLIC).start().await;
        let mut raw = gate.raw().await;
        for _ in 0..2 {
            raw.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let head = raw.read_head().await.to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 200 "), "{head}");
            if head.contains("transfer-encoding: chunked") {
                assert_eq!(raw.read_until("0\r\n\r\n").await, "5\r\nwhole\r\n0\r\n\r\n");
            } else {
                assert!(head.contains("content-length: 5"), "{head}");
                assert_eq!(raw.read_until("whole").await, "whole");
            }
        }
        assert_eq!(wire.places(), [(0, 0), (1, 0)], "{answer:?}");
        assert!(
            wire.heads()
                .iter()
                .all(|head| head.contains(" HTTP/1.1\r\n"))
        );
    }
}

#[tokio::test]
async fn idle_connections_are_reused_and_closed_after_idle_timeout() {
    let wire = Wire::always(Act::answer(OK)).await;
    let gate = wire
        .gate()
        .upstream("idle_timeout = \"300ms\"")
        .config(PUBLIC)
        .start()
        .await;
    for _ in 0..3 {
        gate.get("/a").await.expect_status(200);
    }
    assert_eq!(wire.places(), [(0, 0), (0, 1), (0, 2)]);
    let idle = Instant::now();
    assert_eq!(wire.open(), 1);
    wire.all_closed().await;
    assert!(
        idle.elapsed() < Duration::from_secs(2),
        "{:?}",
        idle.elapsed()
    );
    gate.get("/a").await.expect_status(200);
    assert_eq!(wire.places().last(), Some(&(1, 0)));
}

#[tokio::test]
async fn one_upstreams_long_idle_timeout_does_not_keep_anothers_connections() {
    let long = Wire::always(Act::answer(OK)).await;
    let short = Wire::always(Act::answer(OK)).await;
    let gate = long
        .gate()
        .upstream("idle_timeout = \"60s\"")
        .config(PUBLIC)
        .config(&format!(
            "[upstreams.short]\nurl = \"http://{}\"\nidle_timeout = \"100ms\"\n\
             [[routes]]\npath = \"/short\"\nupstream = \"short\"\naccess = \"public\"",
            short.addr()
        ))
        .start()
        .await;
    gate.get("/a").await.expect_status(200);
    gate.get("/short").await.expect_status(200);
    short.all_closed().await;
    assert_eq!(long.open(), 1);
}

#[tokio::test]
async fn no_more_than_idle_connections_are_kept() {
    for most in [0, 2] {
        let wire = Wire::always(Act::answer(OK)).await;
        let gate = wire
            .gate()
            .upstream(&format!(
                "idle_timeout = \"60s\"\nidle_connections = {most}"
            ))
            .config(PUBLIC)
            .start()
            .await;
        let call = gate.call();
        let all = futures_util::future::join_all((0..8).map(|_| call.get("/a"))).await;
        assert!(all.iter().all(|answer| answer.status == 200));
        eventually("the others close", async || wire.open() <= most).await;
    }
}

#[tokio::test]
async fn a_connection_on_which_a_request_is_unfinished_is_not_used_for_another() {
    let backend = Backend::raw(|mut stream| async move {
        // Answers at once, reads nothing of the body, and keeps the connection.
        while read_head(&mut stream)
            .await
            .is_some_and(|head| head.contains(" /small "))
        {
            let _ = stream.write_all(OK.as_bytes()).await;
        }
        let _ = stream.write_all(OK.as_bytes()).await;
        std::future::pending::<()>().await;
    })
    .await;
    let gate = Sidegate::before(&backend)
        .upstream("idle_timeout = \"60s\"")
        .config(PUBLIC)
        .start()
        .await;
    // The answer comes while the body is still to be sent, be it small or large.
    for size in (1..40).map(|step| step * (200 << 10)) {
        let mut raw = gate.raw().await;
        raw.send(format!(
            "POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
        ))
        .await;
        let head = raw.read_head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let body = vec![b'x'; size];
        let sending = async {
            raw.send(&body).await;
            std::future::pending::<()>().await;
        };
        let asking = async {
            gate.get("/small").await.expect_status(200);
        };
        tokio::select! {
            () = asking => {}
            () = sending => {}
        }
    }
}

struct Pki {
    folder: tempfile::TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "Test CA");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let pki = Self {
            folder: tempfile::TempDir::new().unwrap(),
            ca,
        };
        std::fs::write(pki.file("ca.pem"), pki.ca.pem()).unwrap();
        pki
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `NAME.pem` and `NAME.key`.
    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages.push(usage);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        std::fs::write(self.file(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        roots
    }

    /// A backend for `name`; asks for client certificates of this CA where told to.
    async fn backend(&self, name: &str, client_auth: bool) -> Backend {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if client_auth {
            let roots = Arc::new(self.roots());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let chain = CertificateDer::from_pem_file(self.file(&format!("{name}.pem"))).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.file(&format!("{name}.key"))).unwrap();
        let config = builder.with_single_cert(vec![chain], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Backend::raw(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let sni = stream
                    .get_ref()
                    .1
                    .server_name()
                    .unwrap_or("none")
                    .to_owned();
                let service = service_fn(move |_| {
                    let sni = sni.clone();
                    async move {
                        Ok::<_, std::convert::Infallible>(Response::new(Full::new(
                            bytes::Bytes::from(sni),
                        )))
                    }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        })
        .await
    }
}

fn keys(pairs: &[(&str, &Path)]) -> String {
    pairs
        .iter()
        .map(|(key, file)| format!("{key} = \"{}\"\n", file.display()))
        .collect()
}

#[tokio::test]
async fn https_is_spoken_with_a_private_ca_and_a_server_name() {
    let pki = Pki::new();
    pki.issue("inner.test", ExtendedKeyUsagePurpose::ServerAuth);
    let backend = pki.backend("inner.test", false).await;
    let url = format!("https://{}", backend.addr);
    let gate = Sidegate::before_url(&url)
        .upstream(&keys(&[("ca", &pki.file("ca.pem"))]))
        .upstream("server_name = \"inner.test\"")
        .config(PUBLIC)
        .start()
        .await;
    for _ in 0..2 {
        let answer = gate.get("/a").await;
        answer.expect_status(200);
        assert_eq!(answer.text(), "inner.test", "the SNI");
    }

    // Without the name the certificate is another's; without the CA, or with one that signed nothing, nobody's.
    let wrong_name = Sidegate::before_url(&url)
        .upstream(&keys(&[("ca", &pki.file("ca.pem"))]))
        .config(PUBLIC)
        .start()
        .await;
    wrong_name
        .get("/a")
        .await
        .expect_refusal(502, "upstream_unreachable");
    let other = Pki::new();
    let wrong_ca = Sidegate::before_url(&url)
        .upstream(&keys(&[("ca", &other.file("ca.pem"))]))
        .upstream("server_name = \"inner.test\"")
        .config(PUBLIC)
        .start()
        .await;
    wrong_ca
        .get("/a")
        .await
        .expect_refusal(502, "upstream_unreachable");
}

#[tokio::test]
async fn a_backend_that_asks_for_a_client_certificate_is_shown_it() {
    let pki = Pki::new();
    pki.issue("inner.test", ExtendedKeyUsagePurpose::ServerAuth);
    pki.issue("sidecar", ExtendedKeyUsagePurpose::ClientAuth);
    let backend = pki.backend("inner.test", true).await;
    let url = format!("https://{}", backend.addr);
    let with = Sidegate::before_url(&url)
        .upstream(&keys(&[
            ("ca", &pki.file("ca.pem")),
            ("client_cert", &pki.file("sidecar.pem")),
            ("client_key", &pki.file("sidecar.key")),
        ]))
        .upstream("server_name = \"inner.test\"")
        .config(PUBLIC)
        .start()
        .await;
    with.get("/a").await.expect_status(200);
    let without = Sidegate::before_url(&url)
        .upstream(&keys(&[("ca", &pki.file("ca.pem"))]))
        .upstream("server_name = \"inner.test\"")
        .config(PUBLIC)
        .start()
        .await;
    without
        .get("/a")
        .await
        .expect_refusal(502, "upstream_unreachable");
}

#[tokio::test]
async fn a_certificate_file_that_cannot_be_used_is_told_at_the_start() {
    let pki = Pki::new();
    std::fs::write(pki.file("empty.pem"), "no certificate here").unwrap();
    for (key, file) in [("ca", "missing.pem"), ("ca", "empty.pem")] {
        let started = Sidegate::before_url("https://127.0.0.1:1")
            .upstream(&keys(&[(key, &pki.file(file))]))
            .config(PUBLIC)
            .try_start()
            .await;
        let error = started.err().unwrap();
        assert!(error.contains(file), "{error}");
        assert!(error.contains("default"), "{error}");
    }
}
