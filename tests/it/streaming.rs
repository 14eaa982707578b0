//! Contract §3.10: bodies flow in both directions as they come, and nobody keeps them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};

use crate::harness::{Act, Backend, OK, Raw, Sidegate, Wire, eventually, read_head, soon};

const PUBLIC: &str = "[[routes]]\npath = \"/\"\naccess = \"public\"";
const MIB: usize = 1 << 20;

async fn public(backend: &Backend) -> Sidegate {
    Sidegate::before(backend).config(PUBLIC).start().await
}

/// A byte that tells where in the stream it stands.
fn pattern(at: u64) -> u8 {
    (at % 251) as u8
}

fn chunk(from: u64, length: usize) -> Vec<u8> {
    (from..from + length as u64).map(pattern).collect()
}

/// Reads `total` bytes of the pattern.
async fn expect_pattern(stream: &mut TcpStream, total: u64) {
    let mut buf = vec![0; 256 << 10];
    let mut at = 0;
    while at < total {
        let most = buf.len().min((total - at) as usize);
        let n = stream.read(&mut buf[..most]).await.unwrap();
        assert!(n > 0, "closed after {at}");
        let expected = chunk(at, n);
        assert!(buf[..n] == expected, "not what was sent, near {at}");
        at += n as u64;
    }
}

/// Sends `total` bytes of the pattern, counting what has left.
async fn send_pattern(stream: &mut TcpStream, total: u64, sent: &AtomicU64) {
    let mut at = 0;
    while at < total {
        let piece = chunk(at, (64 << 10).min((total - at) as usize));
        stream.write_all(&piece).await.unwrap();
        at += piece.len() as u64;
        sent.store(at, Ordering::SeqCst);
    }
}

/// Waits until the count has stood still for a while: whoever sends is held back.
async fn stalled(count: &AtomicU64) -> u64 {
    let mut last = count.load(Ordering::SeqCst);
    let mut still = 0;
    eventually("the sender is held back", async || {
        let now = count.load(Ordering::SeqCst);
        still = if now == last && now > 0 { still + 1 } else { 0 };
        last = now;
        still > 40
    })
    .await;
    last
}

const LARGE: u64 = 64 * MIB as u64;
/// What sockets and codecs on the way may hold together; far below what is sent.
const HELD_AT_MOST: u64 = 24 * MIB as u64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_upload_is_held_back_by_a_backend_that_does_not_read_and_arrives_whole() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let backend = Backend::raw(move |mut stream| {
        let wait = Arc::clone(&wait);
        async move {
            read_head(&mut stream).await;
            wait.notified().await;
            expect_pattern(&mut stream, LARGE).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
        }
    })
    .await;
    let gate = public(&backend).await;
    let mut raw = gate.raw().await;
    raw.send(format!(
        "PUT /blob HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n"
    ))
    .await;
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let sending = tokio::spawn(async move {
        send_pattern(raw.stream(), LARGE, &count).await;
        raw.read_until("ok").await
    });
    let held = stalled(&sent).await;
    assert!(
        held < HELD_AT_MOST,
        "{held} bytes were taken though nobody reads"
    );
    go.notify_one();
    let answer = soon("the upload ends", sending).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let line = gate.logged("access", |line| line["path"] == "/blob").await;
    assert_eq!(line["request_bytes"], LARGE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_download_is_held_back_by_a_client_that_does_not_read_and_arrives_whole() {
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let backend = Backend::raw(move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            read_head(&mut stream).await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            send_pattern(&mut stream, LARGE, &count).await;
            // Read on until the sidecar has closed, so that nothing is lost by a reset.
            let _ = stream.read_u8().await;
        }
    })
    .await;
    let gate = public(&backend).await;
    let mut stream = TcpStream::connect(gate.addr).await.unwrap();
    stream
        .write_all(b"GET /blob HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let head = read_head(&mut stream).await.unwrap();
    assert!(
        head.contains(&format!("content-length: {LARGE}\r\n")),
        "{head}"
    );
    let held = stalled(&sent).await;
    assert!(
        held < HELD_AT_MOST,
        "{held} bytes were taken though nobody reads"
    );
    soon("the download ends", expect_pattern(&mut stream, LARGE)).await;
    let line = gate.logged("access", |line| line["path"] == "/blob").await;
    assert_eq!(line["response_bytes"], LARGE);
}

#[tokio::test]
async fn bodies_arrive_whole_be_they_sized_or_in_chunks_whatever_the_method() {
    let backend = Backend::recording().await;
    let gate = public(&backend).await;
    for method in ["POST", "PUT", "GET", "DELETE", "OPTIONS", "PATCH", "FOO"] {
        let mut raw = gate.raw().await;
        raw.send(format!(
            "{method} /sized HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
        ))
        .await;
        raw.read_until("ok").await;
        let seen = backend.requests().pop().unwrap();
        assert_eq!(&seen.body[..], b"hello", "{method}");
        assert_eq!(seen.header("content-length"), Some("5"), "{method}");
        assert!(!seen.has_header("transfer-encoding"));

        raw.send(format!(
            "{method} /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;ext=1\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
        ))
        .await;
        raw.read_until("ok").await;
        let seen = backend.requests().pop().unwrap();
        assert_eq!(&seen.body[..], b"hello", "{method}");
        assert_eq!(
            seen.header("transfer-encoding"),
            Some("chunked"),
            "{method}"
        );
        assert!(!seen.has_header("content-length"));

        raw.send(format!(
            "{method} /empty HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ))
        .await;
        raw.read_until("ok").await;
        let seen = backend.requests().pop().unwrap();
        assert!(seen.body.is_empty(), "{method}");

        raw.send(format!(
            "{method} /zero HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
        ))
        .await;
        raw.read_until("ok").await;
        let seen = backend.requests().pop().unwrap();
        assert_eq!(seen.header("content-length"), Some("0"), "{method}");
        assert!(!seen.has_header("transfer-encoding"));

        raw.send(format!("{method} /none HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        raw.read_until("ok").await;
        let seen = backend.requests().pop().unwrap();
        assert_eq!(seen.target(), "/none");
        assert!(
            seen.body.is_empty() && !seen.has_header("transfer-encoding"),
            "{method}"
        );
    }
}

#[tokio::test]
async fn each_piece_of_an_upload_arrives_before_the_next_is_sent() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let backend = Backend::raw(move |mut stream| {
        let tell = tell.clone();
        async move {
            read_head(&mut stream).await;
            while let Ok(byte) = stream.read_u8().await {
                let _ = tell.send(byte);
            }
        }
    })
    .await;
    let gate = public(&backend).await;
    let mut raw = gate.raw().await;
    raw.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n")
        .await;
    for byte in b"abcdefg" {
        raw.send([*byte]).await;
        assert_eq!(soon("the byte arrives", told.recv()).await, Some(*byte));
    }
}

#[tokio::test]
async fn each_server_sent_event_arrives_before_the_next_is_sent() {
    let (tell, events) = mpsc::unbounded_channel::<Bytes>();
    let events = Arc::new(std::sync::Mutex::new(Some(events)));
    let backend = Backend::answering(move |_| {
        let mut events = events.lock().unwrap().take().unwrap();
        let frames = futures_util::stream::poll_fn(move |cx| {
            let next = events.poll_recv(cx);
            next.map(|next| next.map(|data| Ok::<_, std::io::Error>(Frame::data(data))))
        });
        Response::builder()
            .header("content-type", "text/event-stream")
            .body(StreamBody::new(frames))
            .unwrap()
    })
    .await;
    for version in ["1.1"] {
        let gate = public(&backend).await;
        let mut raw = gate.raw().await;
        raw.send(format!(
            "GET /events HTTP/{version}\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n"
        ))
        .await;
        let head = raw.read_head().await;
        assert!(
            head.contains("content-type: text/event-stream\r\n"),
            "{head}"
        );
        for i in 0..5 {
            tell.send(Bytes::from(format!("data: {i}\n\n"))).unwrap();
            raw.read_until(&format!("data: {i}\n\n")).await;
        }
    }
    drop(tell);
}

/// Fails when `100 Continue` came, else gives the head.
fn without_100(head: String) -> String {
    assert!(
        !head.starts_with("HTTP/1.1 100"),
        "asked for a body: {head}"
    );
    head
}

#[tokio::test]
async fn a_body_that_waits_for_100_is_asked_for_only_once_the_request_is_let_through() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("demo", "orders")
        .server("max_body = \"1KiB\"")
        .config("[[routes]]\npath = \"/\"\n[[routes]]\npath = \"/scoped\"\nscopes = [\"admin\"]\n[[routes]]\npath = \"/get\"\nmethods = [\"GET\"]")
        .start()
        .await;
    let token = gate.token("demo").await;
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let expect = "Host: a\r\nExpect: 100-continue\r\n";

    for (line, lines, status) in [
        ("POST /a", "Content-Length: 5\r\n".to_owned(), 401),
        (
            "POST /a",
            "Content-Length: 5\r\nAuthorization: Bearer x\r\n".to_owned(),
            401,
        ),
        (
            "POST /scoped",
            format!("Content-Length: 5\r\n{bearer}"),
            403,
        ),
        ("POST /get", format!("Content-Length: 5\r\n{bearer}"), 405),
        (
            "POST /a?sudo=uid:1",
            format!("Content-Length: 5\r\n{bearer}"),
            403,
        ),
        ("POST /a", format!("Content-Length: 5000\r\n{bearer}"), 413),
        ("POST /a", "Transfer-Encoding: chunked\r\n".to_owned(), 401),
    ] {
        let mut raw = gate.raw().await;
        raw.send(format!("{line} HTTP/1.1\r\n{expect}{lines}\r\n"))
            .await;
        let head = without_100(raw.read_head().await);
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{line}: {head}"
        );
        // The client may send its body all the same, or not: the connection cannot know, and closes.
        assert!(
            head.to_ascii_lowercase().contains("connection: close\r\n"),
            "{head}"
        );
        raw.send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let rest = raw.read_to_end().await;
        assert!(!rest.contains("HTTP/1.1 "), "{rest}");
    }
    assert!(backend.requests().is_empty());

    let mut raw = gate.raw().await;
    for _ in 0..2 {
        raw.send(format!(
            "POST /a HTTP/1.1\r\n{expect}Content-Length: 5\r\n{bearer}\r\n"
        ))
        .await;
        assert_eq!(raw.read_head().await, "HTTP/1.1 100 Continue\r\n\r\n");
        raw.send("hello").await;
        let head = raw.read_head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        raw.read_until("ok").await;
    }
    let seen = backend.requests().pop().unwrap();
    assert_eq!(&seen.body[..], b"hello");
    assert!(!seen.has_header("expect"));
}

#[tokio::test]
async fn a_body_that_waits_for_100_is_not_asked_for_where_no_backend_is() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let gate = Sidegate::before_url(&format!("http://{port}"))
        .config(PUBLIC)
        .start()
        .await;
    let mut raw = gate.raw().await;
    raw.send("POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .await;
    let head = without_100(raw.read_head().await);
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
}

#[tokio::test]
async fn a_backend_may_answer_before_it_has_read_the_body() {
    let backend = Backend::raw(|mut stream| async move {
        read_head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nsmall")
            .await
            .unwrap();
        // Then it reads what comes.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let gate = public(&backend).await;
    let mut raw = gate.raw().await;
    raw.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nbegin")
        .await;
    let head = raw.read_head().await;
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    raw.read_until("small").await;
}

#[tokio::test]
async fn an_answer_before_a_close_reaches_a_client_that_is_still_sending() {
    // It answers and closes with unread bytes in its socket, which resets the connection.
    let backend = Backend::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let mut some = vec![0; 64 << 10];
        stream.read_exact(&mut some).await.unwrap();
        let _ = stream
            .write_all(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 5\r\n\r\nsmall")
            .await;
    })
    .await;
    let gate = public(&backend).await;
    for i in 0..20 {
        let mut raw = gate.raw().await;
        raw.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
            .await;
        let stream = raw.stream();
        let (mut reader, mut writer) = stream.split();
        let writing = async {
            let piece = vec![b'x'; 256 << 10];
            while writer.write_all(&piece).await.is_ok() {}
            std::future::pending::<()>().await;
        };
        let reading = async {
            let mut all = Vec::new();
            while !all.ends_with(b"small") {
                match reader.read_u8().await {
                    Ok(byte) => all.push(byte),
                    Err(_) => break,
                }
            }
            String::from_utf8_lossy(&all).into_owned()
        };
        let answer = tokio::select! {
            answer = soon("the answer", reading) => answer,
            () = writing => unreachable!(),
        };
        assert!(answer.starts_with("HTTP/1.1 413 "), "{i}: {answer}");
        assert!(answer.ends_with("small"), "{i}: {answer}");
    }
}

#[tokio::test]
async fn the_answer_may_flow_while_the_body_does() {
    let backend = Backend::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        for _ in 0..3 {
            let byte = stream.read_u8().await.unwrap();
            let _ = stream
                .write_all(&[b'1', b'\r', b'\n', byte, b'\r', b'\n'])
                .await;
        }
        let _ = stream.write_all(b"0\r\n\r\n").await;
    })
    .await;
    let gate = public(&backend).await;
    let mut raw = gate.raw().await;
    raw.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
        .await;
    raw.read_head().await;
    for byte in ["a", "b", "c"] {
        raw.send(byte).await;
        raw.read_until(&format!("1\r\n{byte}\r\n")).await;
    }
    raw.read_until("0\r\n\r\n").await;
}

/// A backend that tells when a request of it has begun and when its connection has ended.
async fn watched(begin: &'static str) -> (Backend, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (begun, ended) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (b, e) = (Arc::clone(&begun), Arc::clone(&ended));
    let backend = Backend::raw(move |mut stream| {
        let (begun, ended) = (Arc::clone(&b), Arc::clone(&e));
        async move {
            if read_head(&mut stream).await.is_none() {
                return;
            }
            let _ = stream.write_all(begin.as_bytes()).await;
            begun.fetch_add(1, Ordering::SeqCst);
            let mut buf = [0; 4096];
            while !matches!(stream.read(&mut buf).await, Ok(0) | Err(_)) {}
            ended.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    (backend, begun, ended)
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_backends_request() {
    for (begin, request) in [
        // Before an answer, in the middle of a body, and in the middle of an answer.
        ("", "GET /a HTTP/1.1\r\nHost: a\r\n\r\n"),
        (
            "",
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
        ),
        (
            "",
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
            "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
    ] {
        let (backend, begun, ended) = watched(begin).await;
        let gate = public(&backend).await;
        let mut raw = gate.raw().await;
        raw.send(request).await;
        eventually("the request begins", async || {
            begun.load(Ordering::SeqCst) == 1
        })
        .await;
        drop(raw);
        eventually("the backend's request ends", async || {
            ended.load(Ordering::SeqCst) == 1
        })
        .await;
        let line = gate.logged("access", |line| line["path"] == "/a").await;
        assert!(line["status"].is_number(), "{line}");
    }
}

#[tokio::test]
async fn a_body_that_is_cut_short_never_looks_whole_to_the_backend() {
    for (request, more) in [
        (
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
            "",
        ),
        (
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "",
        ),
        (
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "zz\r\n",
        ),
        (
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "0\r\n",
        ),
    ] {
        let (tell, mut told) = mpsc::unbounded_channel();
        let backend = Backend::raw(move |mut stream| {
            let tell = tell.clone();
            async move {
                read_head(&mut stream).await;
                let mut all = Vec::new();
                let _ = stream.read_to_end(&mut all).await;
                let _ = tell.send(String::from_utf8_lossy(&all).into_owned());
            }
        })
        .await;
        let gate = public(&backend).await;
        let mut raw = gate.raw().await;
        raw.send(request).await;
        raw.send(more).await;
        drop(raw);
        let body = soon("the backend's connection ends", told.recv())
            .await
            .unwrap();
        assert!(
            body == "half" || body == "4\r\nhalf\r\n" || body.is_empty(),
            "{body:?}"
        );
    }
}

#[tokio::test]
async fn a_body_above_max_body_is_413_counted_while_it_streams() {
    let (backend, _, ended) = watched("").await;
    let gate = Sidegate::before(&backend)
        .server("max_body = \"10B\"")
        .config(PUBLIC)
        .start()
        .await;
    let mut raw = gate.raw().await;
    raw.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world")
        .await;
    let head = raw.read_head().await;
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    assert_eq!(ended.load(Ordering::SeqCst), 0);

    let mut raw = gate.raw().await;
    raw.send("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        .await;
    raw.send("6\r\n world\r\n").await;
    let answer = raw.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("\"body_too_large\""), "{answer}");
    eventually("the backend's request ends", async || {
        ended.load(Ordering::SeqCst) == 1
    })
    .await;

    let fits = Backend::recording().await;
    let gate = Sidegate::before(&fits)
        .server("max_body = \"10B\"")
        .config(PUBLIC)
        .start()
        .await;
    gate.call()
        .post("/a", "0123456789")
        .await
        .expect_status(200);
}

#[tokio::test]
async fn trailers_of_an_answer_reach_a_client_that_wants_them() {
    let wire = Wire::always(Act::answer(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 42\r\n\r\n",
    ))
    .await;
    let gate = wire.gate().config(PUBLIC).start().await;
    let mut raw = gate.raw().await;
    raw.send("GET /a HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n")
        .await;
    let head = raw.read_head().await;
    assert!(
        head.to_ascii_lowercase().contains("trailer: x-sum\r\n"),
        "{head}"
    );
    let body = raw.read_until("\r\n\r\n").await;
    assert!(
        body.to_ascii_lowercase()
            .ends_with("0\r\nx-sum: 42\r\n\r\n"),
        "{body}"
    );
}

#[tokio::test]
async fn an_http_1_0_client_gets_whole_answers_and_no_chunks() {
    let backend = Backend::answering(|_| {
        let frames =
            ["he", "llo"].map(|piece| Ok::<_, std::io::Error>(Frame::data(Bytes::from(piece))));
        Response::new(StreamBody::new(futures_util::stream::iter(frames)))
    })
    .await;
    let gate = public(&backend).await;
    let mut raw = gate.raw().await;
    raw.send("GET /a HTTP/1.0\r\n\r\n").await;
    let answer = raw.read_to_end().await;
    assert!(
        !answer.to_ascii_lowercase().contains("transfer-encoding"),
        "{answer}"
    );
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_each_and_in_order() {
    let backend = Backend::answering(|seen| Response::new(Full::from(seen.target.clone()))).await;
    let gate = public(&backend).await;
    let mut raw = gate.raw().await;
    raw.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    for path in ["/1", "/2", "/3"] {
        raw.read_head().await;
        assert_eq!(raw.read_until(path).await, path);
    }
}

#[tokio::test]
async fn a_body_of_a_refused_request_is_never_taken_for_the_next_request() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend).start().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for (framing, body) in [
        (
            format!("Content-Length: {}", smuggled.len()),
            smuggled.to_owned(),
        ),
        (
            "Transfer-Encoding: chunked".to_owned(),
            format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len()),
        ),
    ] {
        let mut raw = gate.raw().await;
        raw.send(format!(
            "POST /a HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        ))
        .await;
        let all = raw.read_to_end().await;
        // One answer, then a close; or one for each of the two requests. Never a third.
        let answers = all.matches("HTTP/1.1 401 ").count();
        assert!((1..=2).contains(&answers), "{all}");
        gate.logged("access", |line| line["path"] == "/a").await;
        assert!(
            gate.log("access")
                .iter()
                .all(|line| line["path"] != "/smuggled")
        );
    }
}

#[tokio::test]
async fn a_stream_that_moves_no_byte_ends_after_stream_idle_timeout() {
    let (backend, _, ended) =
        watched("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
    let gate = Sidegate::before(&backend)
        .server("stream_idle_timeout = \"200ms\"")
        .config(PUBLIC)
        .start()
        .await;
    let mut raw: Raw = gate.raw().await;
    let begun = std::time::Instant::now();
    raw.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = raw.read_to_end().await;
    assert!(answer.ends_with("4\r\nhalf\r\n"), "{answer}");
    assert!(begun.elapsed() >= Duration::from_millis(200));
    eventually("the backend's request ends", async || {
        ended.load(Ordering::SeqCst) == 1
    })
    .await;
}
