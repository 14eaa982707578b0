//! Contract §3.6: acting as a user.

use crate::harness::{Backend, Sidegate};

async fn start(backend: &Backend) -> Sidegate {
    Sidegate::before(backend)
        .client("demo", "sudo")
        .client("sodu", "sodu")
        .client("plain", "orders")
        .client("wide", "orders sudo")
        .client_with(
            "narrow",
            "sudo",
            "sudo = [\"uid:7*\", \"email:*@Example.com\", \"loginName:svc-?\"]",
        )
        .client_with("none", "sudo", "sudo = []")
        .start()
        .await
}

#[tokio::test]
async fn each_kind_sets_its_own_header_and_no_other() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let call = gate.as_client("demo").await;
    let names = [
        "x-auth-user-id",
        "x-auth-user-login",
        "x-auth-user-email",
        "x-auth-user-mobile",
    ];
    for (sudo, name, value) in [
        ("uid:7", names[0], "7"),
        ("loginName:ann", names[1], "ann"),
        ("username:ann", names[1], "ann"),
        ("email:a@example.com", names[2], "a@example.com"),
        ("mobile:%2B8613800000000", names[3], "+8613800000000"),
        ("uid%3A7", names[0], "7"),
        ("uid:a:b", names[0], "a:b"),
    ] {
        call.get(&format!("/a?sudo={sudo}"))
            .await
            .expect_status(200);
        let seen = backend.requests().pop().unwrap();
        assert_eq!(seen.target(), "/a");
        for other in names {
            let expected = (other == name).then_some(value);
            assert_eq!(seen.header(other), expected, "{sudo}");
        }
    }
}

#[tokio::test]
async fn anything_else_is_400_invalid_sudo() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let call = gate.as_client("demo").await;
    for sudo in [
        "",
        "7",
        "uid",
        "uid:",
        "UID:7",
        "Uid:7",
        "loginname:x",
        "email:",
        "phone:1",
        ":7",
        "user:7",
        "uid=7",
        "username:",
    ] {
        let answer = call.get(&format!("/a?sudo={sudo}")).await;
        answer.expect_refusal(400, "invalid_sudo");
    }
    call.get("/a?sudo")
        .await
        .expect_refusal(400, "invalid_sudo");
    assert!(backend.requests().is_empty());
}

#[tokio::test]
async fn white_space_controls_and_invalid_utf8_fail_loudly() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let call = gate.as_client("demo").await;
    for sudo in [
        "mobile:+8613800000000",
        "uid:%207",
        "uid:7%20",
        "uid:7+",
        "+uid:7",
        "uid:%0a7",
        "uid:7%00",
        "uid:%7f",
        "uid:%ff",
        "uid:%c3",
        "uid:%C2%A07",
    ] {
        let answer = call.get(&format!("/a?sudo={sudo}")).await;
        answer.expect_status(400);
    }
    assert!(backend.requests().is_empty());
}

#[tokio::test]
async fn it_needs_a_token_whose_scope_holds_sudo_or_sodu() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    for client in ["demo", "sodu", "wide"] {
        let call = gate.as_client(client).await;
        call.get("/a?sudo=uid:7").await.expect_status(200);
    }
    assert_eq!(
        backend.requests()[1].header("x-auth-scope"),
        Some("sodu"),
        "scopes stay as they were given"
    );
    let answer = gate.as_client("plain").await.get("/a?sudo=uid:7").await;
    answer.expect_refusal(403, "insufficient_scope");
    let challenge = answer.header("www-authenticate").unwrap();
    assert_eq!(
        challenge,
        "Bearer realm=\"sidegate\", error=\"insufficient_scope\", scope=\"sudo\""
    );
    assert_eq!(backend.requests().len(), 3);
}

#[tokio::test]
async fn a_clients_patterns_bound_whom_it_may_act_as() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let narrow = gate.as_client("narrow").await;
    for sudo in [
        "uid:7",
        "uid:77",
        "email:a@example.com",
        "email:A@EXAMPLE.COM",
    ] {
        narrow
            .get(&format!("/a?sudo={sudo}"))
            .await
            .expect_status(200);
    }
    for sudo in [
        "uid:8",
        "uid:17",
        "email:a@example.com.evil.test",
        "email:a@example.org",
        "loginName:7",
        "mobile:7",
        "loginName:svc-1",
    ] {
        let answer = narrow.get(&format!("/a?sudo={sudo}")).await;
        answer.expect_refusal(403, "sudo_not_allowed");
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Bearer realm=\"sidegate\", error=\"sudo_not_allowed\"")
        );
    }
    let none = gate.as_client("none").await;
    none.get("/a?sudo=uid:7")
        .await
        .expect_refusal(403, "sudo_not_allowed");
    none.get("/a").await.expect_status(200);
}

#[tokio::test]
async fn username_is_the_login_name_also_for_patterns() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client_with("logins", "sudo", "sudo = [\"loginName:ann\"]")
        .start()
        .await;
    let call = gate.as_client("logins").await;
    let answer = call.get("/a?sudo=username:ann").await;
    answer.expect_status(200);
    assert_eq!(answer.header("deprecation"), Some("@1704067200"));
    let answer = call.get("/a?sudo=loginName:ann").await;
    assert_eq!(answer.header("deprecation"), None);
    call.get("/a?sudo=username:bob")
        .await
        .expect_refusal(403, "sudo_not_allowed");
}

#[tokio::test]
async fn every_sudo_is_one_line_in_the_audit_log() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let call = gate
        .as_client("demo")
        .await
        .header("x-request-id", "audit-1");
    call.get("/a?sudo=email:a%40example.com&tenantCode=ACME")
        .await
        .expect_status(200);
    let line = gate.logged("audit", |line| line["event"] == "sudo").await;
    assert_eq!(line["client_id"], "demo");
    assert_eq!(line["sudo"], "email:a@example.com");
    assert_eq!(line["request_id"], "audit-1");
    let call = gate
        .as_client("narrow")
        .await
        .header("x-request-id", "audit-2");
    call.get("/a?sudo=uid:8").await.expect_status(403);
    let refused = gate
        .logged("audit", |line| line["request_id"] == "audit-2")
        .await;
    assert_eq!(refused["event"], "sudo");
    assert_eq!(refused["sudo"], "uid:8");
    assert_eq!(refused["detail"], "refused: sudo_not_allowed");
    gate.get("/a").await;
    gate.logged("access", |line| line["error"] == "missing_token")
        .await;
    let lines = gate.log("audit");
    let sudos = lines.iter().filter(|line| line["event"] == "sudo").count();
    assert_eq!(sudos, 2, "{lines:#?}");
}

#[tokio::test]
async fn whom_a_value_names_is_encoded_for_the_header() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let call = gate.as_client("demo").await;
    for (sent, header) in [
        ("uid:a%20b", "a%20b"),
        ("uid:a+b", "a%20b"),
        ("uid:%E5%B0%8F", "%E5%B0%8F"),
        ("uid:小", "%E5%B0%8F"),
        ("uid:50%25", "50%25"),
        ("uid:a%2Cb", "a,b"),
        ("uid:%C3%A9", "%C3%A9"),
        ("uid:~!", "~!"),
    ] {
        let mut raw = gate.raw().await;
        let token = gate.token("demo").await;
        raw.send(format!(
            "GET /a?sudo={sent} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        ))
        .await;
        let answer = raw.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{sent}: {answer}");
        let seen = backend.requests().pop().unwrap();
        assert_eq!(seen.header("x-auth-user-id"), Some(header), "{sent}");
    }
    drop(call);
}
