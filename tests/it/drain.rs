//! Winding down (contract §9): what is in flight finishes, whoever asks is told, and the process ends well.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::harness::{Backend, Program, Raw, Sidegate, eventually, run};

const PUBLIC: &str = "[[routes]]\npath = \"/\"\naccess = \"public\"\n";

/// A backend that holds `/held` until it is told, and says when such a request has come.
struct Holding {
    backend: Backend,
    arrived: Arc<Notify>,
    release: Arc<Notify>,
}

async fn holding() -> Holding {
    let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (came, hold) = (Arc::clone(&arrived), Arc::clone(&release));
    let backend = Backend::raw(move |mut stream: TcpStream| {
        let (came, hold) = (Arc::clone(&came), Arc::clone(&hold));
        async move {
            let mut chunk = [0; 4096];
            let n = stream.read(&mut chunk).await.unwrap_or(0);
            if chunk[..n].starts_with(b"GET /held") {
                came.notify_one();
                hold.notified().await;
            }
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                .await;
        }
    })
    .await;
    Holding {
        backend,
        arrived,
        release,
    }
}

impl Holding {
    async fn program(&self, keys: &str) -> Program {
        Sidegate::before(&self.backend)
            .config(PUBLIC)
            .server(keys)
            .spawn()
            .await
    }

    /// A request in flight.
    async fn request(&self, program: &Program) -> Raw {
        let mut raw = Raw::connect(program.addr).await;
        raw.send("GET /held HTTP/1.1\r\nHost: s\r\n\r\n").await;
        crate::harness::soon("the request arrives", self.arrived.notified()).await;
        raw
    }
}

async fn until_unready(program: &Program) {
    eventually("it is unready", async || {
        program.admin_get("/readyz").await.status == 503
    })
    .await;
}

async fn until_closed(program: &Program) {
    eventually("nobody listens", async || {
        TcpStream::connect(program.addr).await.is_err()
    })
    .await;
}

#[tokio::test]
async fn sigterm_lets_what_is_in_flight_finish_and_ends_with_0() {
    let holding = holding().await;
    let mut program = holding.program("").await;
    let mut idle = Raw::connect(program.addr).await;
    idle.send("GET / HTTP/1.1\r\nHost: s\r\n\r\n").await;
    idle.read_until("ok").await;
    let mut held = holding.request(&program).await;

    program.signal("TERM");

    until_unready(&program).await;
    until_closed(&program).await;
    assert_eq!(idle.read_to_end().await, "");
    program.admin_get("/livez").await.expect_status(200);
    assert!(program.is_running());

    holding.release.notify_one();
    let answer = held.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(
        answer.to_lowercase().contains("\r\nconnection: close\r\n"),
        "{answer}"
    );
    assert!(answer.ends_with("ok"), "{answer}");
    assert_eq!(program.ended().await, Some(0));
    // The last line of the log is written.
    let log = program.log("access");
    assert!(
        log.iter()
            .any(|line| line["path"] == "/held" && line["status"] == 200),
        "{log:#?}"
    );
    assert!(!program.folder().join("control.sock").exists());
}

#[tokio::test]
async fn sigint_does_the_same() {
    let holding = holding().await;
    let mut program = holding.program("").await;
    program.signal("INT");
    assert_eq!(program.ended().await, Some(0));
}

#[tokio::test]
async fn a_second_sigterm_ends_it_at_once() {
    let holding = holding().await;
    let mut program = holding.program("").await;
    let mut held = holding.request(&program).await;
    program.signal("TERM");
    until_closed(&program).await;
    assert!(program.is_running());
    let begun = Instant::now();
    program.signal("TERM");
    program.ended().await;
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    let answer = held.read_to_end().await;
    assert!(!answer.contains("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn what_is_not_finished_within_drain_timeout_is_cut_off() {
    let holding = holding().await;
    let mut program = holding.program("drain_timeout = \"200ms\"").await;
    let mut held = holding.request(&program).await;
    program.signal("TERM");
    assert_eq!(program.ended().await, Some(0));
    let answer = held.read_to_end().await;
    assert!(!answer.contains("HTTP/1.1 200"), "{answer}");
    // The log does not blame the caller.
    let lines = program.log("access");
    let line = lines.iter().find(|line| line["path"] == "/held").unwrap();
    assert_eq!(
        (&line["status"], &line["error"]),
        (&499.into(), &"drain_timeout".into())
    );
    assert!(program.log_text().contains("drain_timeout passed"));
}

#[tokio::test]
async fn the_drain_command_turns_it_unready_while_it_keeps_serving() {
    let holding = holding().await;
    let mut program = holding.program("").await;
    program.admin_get("/readyz").await.expect_status(200);
    let mut old = Raw::connect(program.addr).await;
    old.send("GET / HTTP/1.1\r\nHost: s\r\n\r\n").await;
    let head = old.read_head().await;
    assert!(!head.to_lowercase().contains("connection: close"), "{head}");
    old.read_until("ok").await;
    let mut held = holding.request(&program).await;

    // What finds no sidecar says that its log tells where the socket is; it does.
    assert!(
        program.log_text().contains("control.sock"),
        "{}",
        program.log_text()
    );
    // Returns at once, though a request is in flight.
    let drained = program.run(&["drain"]).await.expect_code(0);
    assert_eq!(drained.out, "");

    program.admin_get("/readyz").await.expect_status(503);
    program.admin_get("/livez").await.expect_status(200);
    for _ in 0..3 {
        let answer = program.get("/").await;
        answer.expect_status(200);
        assert_eq!(answer.header("connection"), Some("close"));
    }
    // Our own answers and refusals ask for it too.
    let own = program.get("/api/oauth2/server/tokens").await;
    assert_eq!(own.header("connection"), Some("close"));
    old.send("GET / HTTP/1.1\r\nHost: s\r\n\r\n").await;
    let last = old.read_to_end().await;
    assert!(last.to_lowercase().contains("connection: close"), "{last}");
    holding.release.notify_one();
    held.read_until("ok").await;
    assert!(program.is_running());
    // A second time nothing changes.
    program.run(&["drain"]).await.expect_code(0);

    program.signal("TERM");
    assert_eq!(program.ended().await, Some(0));
}

#[tokio::test]
async fn the_drain_command_finds_nobody_where_nobody_runs() {
    let backend = Backend::recording().await;
    let folder = Sidegate::before(&backend).write();
    let ran = run(folder.path(), &["drain"]).await.expect_code(69);
    assert!(ran.err.contains("no running sidecar"), "{ran:?}");
}

#[tokio::test]
async fn sighup_ends_nothing() {
    let backend = Backend::recording().await;
    let program = Sidegate::before(&backend).config(PUBLIC).spawn().await;
    program.signal("HUP");
    eventually("it is noted", async || {
        program.log_text().contains("SIGHUP")
    })
    .await;
    program.get("/").await.expect_status(200);
    program.admin_get("/readyz").await.expect_status(200);
}
