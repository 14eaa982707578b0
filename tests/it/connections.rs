//! How many connections there may be (contract §2): the longest idle makes room, requests in flight never.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::harness::{Backend, Raw, Sidegate, eventually};

const PUBLIC: &str = "[[routes]]\npath = \"/\"\naccess = \"public\"\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: s\r\n\r\n";

async fn with(backend: &Backend, keys: &str) -> Sidegate {
    Sidegate::before(backend)
        .config(PUBLIC)
        .server(keys)
        .start()
        .await
}

async fn ask(raw: &mut Raw) {
    raw.send(GET).await;
    let head = raw.read_head().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    raw.read_until("ok").await;
}

#[tokio::test]
async fn at_max_connections_the_longest_idle_one_makes_room() {
    let backend = Backend::recording().await;
    let gate = with(&backend, "max_connections = 2").await;
    let mut first = gate.raw().await;
    ask(&mut first).await;
    let mut second = gate.raw().await;
    ask(&mut second).await;
    // Now the second is the longest idle.
    ask(&mut first).await;

    let mut third = gate.raw().await;
    ask(&mut third).await;

    assert_eq!(second.read_to_end().await, "");
    ask(&mut first).await;
    ask(&mut third).await;
    assert_eq!(gate.metric("sidegate_connections").await, 2.0);
    assert_eq!(
        gate.metric("sidegate_connections_accepted_total").await,
        3.0
    );
    assert_eq!(
        gate.metric("sidegate_connections_closed_for_room_total")
            .await,
        1.0
    );
}

#[tokio::test]
async fn a_request_in_flight_is_never_closed_for_room() {
    let release = Arc::new(Notify::new());
    let hold = Arc::clone(&release);
    let backend = Backend::raw(move |mut stream: TcpStream| {
        let hold = Arc::clone(&hold);
        async move {
            let mut chunk = [0; 4096];
            let n = stream.read(&mut chunk).await.unwrap_or(0);
            if chunk[..n].starts_with(b"GET /held") {
                hold.notified().await;
            }
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                .await;
        }
    })
    .await;
    let gate = with(&backend, "max_connections = 1").await;
    let mut held = gate.raw().await;
    held.send("GET /held HTTP/1.1\r\nHost: s\r\n\r\n").await;
    eventually("the request is in flight", async || {
        gate.metric("sidegate_connections").await == 1.0
    })
    .await;

    let mut waits = gate.raw().await;
    waits.send(GET).await;
    release.notify_one();

    held.read_until("ok").await;
    waits.read_until("ok").await;
}

#[tokio::test]
async fn silent_connections_cannot_lock_others_out() {
    let backend = Backend::recording().await;
    let gate = with(&backend, "max_connections = 4").await;
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(gate.raw().await);
    }
    let mut caller = gate.raw().await;
    ask(&mut caller).await;
}

#[tokio::test]
async fn one_address_has_no_more_than_its_share() {
    let backend = Backend::recording().await;
    let gate = with(&backend, "max_connections_per_ip = 2").await;
    let mut first = gate.raw().await;
    ask(&mut first).await;
    let mut second = gate.raw().await;
    ask(&mut second).await;

    let mut third = gate.raw().await;
    assert_eq!(third.read_to_end().await, "");
    // Nobody else paid for it, and a place that is given back can be taken.
    ask(&mut first).await;
    ask(&mut second).await;
    drop(second);
    eventually("the place is free", async || {
        gate.metric("sidegate_connections").await == 1.0
    })
    .await;
    ask(&mut gate.raw().await).await;
    assert_eq!(
        gate.metric("sidegate_connections_refused_per_ip_total")
            .await,
        1.0
    );
}
