//! Peers that do nothing, or too little (contract §2, `[server]`): closed in time, and nobody else is.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::harness::{Backend, Sidegate, soon};

const PUBLIC: &str = "[[routes]]\npath = \"/\"\naccess = \"public\"\n";
const SHORT: Duration = Duration::from_millis(100);
/// Far below any default, far above [`SHORT`].
const LONG: Duration = Duration::from_secs(8);

async fn with(backend: &Backend, keys: &str) -> Sidegate {
    Sidegate::before(backend)
        .config(PUBLIC)
        .server(keys)
        .start()
        .await
}

#[tokio::test]
async fn a_silent_peer_is_closed_after_header_read_timeout() {
    let backend = Backend::recording().await;
    let gate = with(&backend, "header_read_timeout = \"100ms\"").await;
    let begun = Instant::now();
    let mut raw = gate.raw().await;
    assert_eq!(raw.read_to_end().await, "");
    assert!(
        (SHORT..LONG).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_half_head_is_closed_after_header_read_timeout_however_it_dribbles() {
    let backend = Backend::recording().await;
    let gate = with(&backend, "header_read_timeout = \"100ms\"").await;
    let mut raw = gate.raw().await;
    raw.send("GET / HTTP/1.1\r\nHost: s\r\n").await;
    let begun = Instant::now();
    let (mut read, mut write) = raw.stream().split();
    let dribble = async {
        let mut pause = tokio::time::interval(Duration::from_millis(10));
        loop {
            pause.tick().await;
            if write.write_all(b"X: y\r\n").await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let closed = async {
        let mut bytes = Vec::new();
        let _ = read.read_to_end(&mut bytes).await;
        bytes
    };
    let answer = soon("it is closed", async {
        tokio::select! { bytes = closed => bytes, () = dribble => Vec::new() }
    })
    .await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
    assert_eq!(backend.requests().len(), 0);
}

#[tokio::test]
async fn a_second_head_that_stays_half_is_closed_too() {
    let backend = Backend::recording().await;
    let gate = with(&backend, "header_read_timeout = \"100ms\"").await;
    let mut raw = gate.raw().await;
    raw.send("GET / HTTP/1.1\r\nHost: s\r\n\r\n").await;
    let head = raw.read_head().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    raw.read_until("ok").await;
    raw.send("GET /second").await;
    let rest = raw.read_to_end().await;
    assert!(!rest.contains("HTTP/1.1 200"), "{rest}");
    assert_eq!(backend.requests().len(), 1);
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_idle_timeout_and_one_whose_backend_thinks_is_not() {
    let think = Arc::new(Notify::new());
    let thinking = Arc::clone(&think);
    let backend = Backend::raw(move |mut stream: TcpStream| {
        let thinking = Arc::clone(&thinking);
        async move {
            let mut chunk = [0; 4096];
            let n = stream.read(&mut chunk).await.unwrap_or(0);
            if chunk[..n].starts_with(b"GET /slow") {
                thinking.notified().await;
            }
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                .await;
        }
    })
    .await;
    let gate = with(&backend, "idle_timeout = \"100ms\"\nheader_read_timeout = \"100ms\"\nstream_idle_timeout = \"100ms\"").await;

    let mut slow = gate.raw().await;
    slow.send("GET /slow HTTP/1.1\r\nHost: s\r\n\r\n").await;
    let mut idle = gate.raw().await;
    idle.send("GET /quick HTTP/1.1\r\nHost: s\r\n\r\n").await;
    idle.read_until("ok").await;
    let begun = Instant::now();
    assert_eq!(idle.read_to_end().await, "");
    assert!(
        (SHORT..LONG).contains(&(begun.elapsed() + Duration::from_millis(5))),
        "{:?}",
        begun.elapsed()
    );

    think.notify_one();
    let answer = slow.read_until("ok").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// A backend that keeps what arrived, sends `answer` after the head, and says when its connection ended.
async fn keeping(answer: &'static str) -> (Backend, Arc<Mutex<Vec<u8>>>, Arc<Notify>) {
    let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
    let ended = Arc::new(Notify::new());
    let (keep, tell) = (Arc::clone(&seen), Arc::clone(&ended));
    let backend = Backend::raw(move |mut stream: TcpStream| {
        let (keep, tell) = (Arc::clone(&keep), Arc::clone(&tell));
        async move {
            let mut chunk = [0; 4096];
            let mut first = true;
            loop {
                match stream.read(&mut chunk).await {
                    Ok(0) | Err(_) => break,
                    Ok(n) => keep.lock().unwrap().extend_from_slice(&chunk[..n]),
                }
                if std::mem::take(&mut first) {
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            }
            tell.notify_one();
        }
    })
    .await;
    (backend, seen, ended)
}

#[tokio::test]
async fn a_request_body_that_stops_is_ended_by_stream_idle_timeout_on_both_sides() {
    let (backend, seen, ended) = keeping("").await;
    let gate = with(&backend, "stream_idle_timeout = \"100ms\"").await;
    let mut raw = gate.raw().await;
    raw.send("POST / HTTP/1.1\r\nHost: s\r\nContent-Length: 100\r\n\r\nhalf")
        .await;
    let answer = raw.read_to_end().await;
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    soon("the backend's connection ends", ended.notified()).await;
    assert!(seen.lock().unwrap().ends_with(b"half"));
}

#[tokio::test]
async fn an_answer_that_stops_is_ended_by_stream_idle_timeout_and_looks_broken() {
    let (backend, _, ended) =
        keeping("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
    let gate = with(&backend, "stream_idle_timeout = \"100ms\"").await;
    let mut raw = gate.raw().await;
    raw.send("GET / HTTP/1.1\r\nHost: s\r\n\r\n").await;
    let answer = raw.read_to_end().await;
    assert!(answer.contains("first"), "{answer}");
    assert!(!answer.contains("0\r\n\r\n"), "{answer}");
    soon("the backend's connection ends", ended.notified()).await;
}

#[tokio::test]
async fn without_stream_idle_timeout_a_quiet_stream_lives_on() {
    let (backend, _, _) =
        keeping("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").await;
    let gate = with(
        &backend,
        "idle_timeout = \"100ms\"\nheader_read_timeout = \"100ms\"",
    )
    .await;
    let mut stream = gate.raw().await;
    stream.send("GET /events HTTP/1.1\r\nHost: s\r\n\r\n").await;
    stream.read_until("data: 1\n\n").await;
    // A peer that came later is closed by its time; the stream is not.
    let mut silent = gate.raw().await;
    assert_eq!(silent.read_to_end().await, "");
    let mut byte = [0; 1];
    let more = tokio::time::timeout(SHORT, stream.stream().read(&mut byte)).await;
    assert!(more.is_err() || matches!(more, Ok(Ok(1))), "{more:?}");
}

#[tokio::test]
async fn a_form_that_never_comes_whole_holds_no_own_endpoint() {
    let backend = Backend::recording().await;
    let gate = with(&backend, "header_read_timeout = \"100ms\"").await;
    let mut raw = gate.raw().await;
    raw.send("POST /api/oauth2/server/tokens HTTP/1.1\r\nHost: s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ngrant_type=").await;
    let begun = Instant::now();
    let answer = raw.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_admin_listener_closes_silent_peers_too() {
    let backend = Backend::recording().await;
    let gate = with(&backend, "header_read_timeout = \"100ms\"").await;
    let mut raw = crate::harness::Raw::connect(gate.admin).await;
    assert_eq!(raw.read_to_end().await, "");
}
