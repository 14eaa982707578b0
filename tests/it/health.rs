//! What probes ask (contract §1 and §9).

use crate::harness::{Backend, Program, Sidegate, program, run, run_with};

const ADMIN: &str = "SIDEGATE__SERVER__ADMIN_LISTEN";

async fn health(program: &Program) -> crate::harness::Ran {
    let admin = program.admin.to_string();
    run_with(&program.folder(), &["health"], &[(ADMIN, &admin)], "").await
}

#[tokio::test]
async fn livez_and_readyz_answer_200_once_it_serves() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend).start().await;
    for path in ["/livez", "/readyz"] {
        let answer = gate.admin_get(path).await;
        answer.expect_status(200);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    gate.admin_get("/nowhere").await.expect_status(404);
    // The admin listener proxies nothing, and the data listener is no admin listener.
    gate.admin_get("/api/oauth2/server/tokens")
        .await
        .expect_status(404);
    for path in ["/livez", "/readyz", "/metrics"] {
        gate.get(path).await.expect_refusal(401, "missing_token");
    }
    assert_eq!(backend.requests().len(), 0);
    gate.running().begin_drain();
    gate.admin_get("/readyz").await.expect_status(503);
    gate.admin_get("/livez").await.expect_status(200);
}

#[tokio::test]
async fn health_is_0_when_ready_and_1_when_draining_or_gone() {
    let backend = Backend::recording().await;
    let mut sidecar = Sidegate::before(&backend).spawn().await;
    let ran = health(&sidecar).await.expect_code(0);
    assert_eq!(ran.out, "");
    sidecar.run(&["drain"]).await.expect_code(0);
    let ran = health(&sidecar).await.expect_code(1);
    assert!(ran.err.contains("503"), "{ran:?}");
    sidecar.signal("TERM");
    sidecar.ended().await;
    let ran = health(&sidecar).await.expect_code(1);
    assert!(ran.err.contains(&sidecar.admin.to_string()), "{ran:?}");
}

#[tokio::test]
async fn health_is_1_when_somebody_else_answers_or_nobody_answers_in_time() {
    let backend = Backend::raw(async |mut stream: tokio::net::TcpStream| {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut chunk = [0; 1024];
        let _ = stream.read(&mut chunk).await;
        let _ = stream.write_all(b"220 mail.test ESMTP\r\n").await;
    })
    .await;
    let silent = Backend::raw(|_| std::future::pending::<()>()).await;
    let folder = Sidegate::before(&backend).write();
    for addr in [backend.addr, silent.addr] {
        let addr = addr.to_string();
        let arguments = ["health", "--timeout", "200ms"];
        run_with(folder.path(), &arguments, &[(ADMIN, &addr)], "")
            .await
            .expect_code(1);
    }
}

#[tokio::test]
async fn health_with_a_broken_configuration_is_1() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["health"]).await.expect_code(1);
    std::fs::write(folder.path().join("config.toml"), "[server]\nlisten = 7\n").unwrap();
    run(folder.path(), &["health"]).await.expect_code(1);
}

#[tokio::test]
async fn wrong_usage_is_64_and_help_is_0() {
    for (arguments, code) in [
        (&["nonsense"][..], 64),
        (&["token", "revoke"], 64),
        (&["token", "revoke", "1", "--client", "a"], 64),
        (&["token", "issue"], 64),
        (&["client", "add"], 64),
        (&[], 64),
        (&["--help"], 0),
        (&["--version"], 0),
        (&["token", "revoke", "--help"], 0),
    ] {
        let mut command = program();
        command.args(arguments);
        let ran = crate::harness::ran(command, "").await;
        assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:?}");
    }
}
