//! The lines others read (contract §9): their members, and what must never stand in them.

use serde_json::{Value, json};

use crate::harness::{Answer, Backend, SECRET, Sidegate, run};

const TOKENS: &str = "/api/oauth2/server/tokens";
const MEMBERS: [&str; 20] = [
    "time",
    "kind",
    "request_id",
    "client_ip",
    "method",
    "path",
    "route",
    "status",
    "credential",
    "client_id",
    "token_id",
    "sudo",
    "tenant",
    "request_bytes",
    "response_bytes",
    "duration_ms",
    "upstream_ms",
    "error",
    "limit",
    "limit_ns",
];

/// The one access line of the request with this id.
async fn access(gate: &Sidegate, id: &str) -> Value {
    let line = gate.logged("access", |line| line["request_id"] == id).await;
    let mut members: Vec<_> = line
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    members.retain(|name| *name != "observed");
    let mut expected = MEMBERS.to_vec();
    members.sort_unstable();
    expected.sort_unstable();
    assert_eq!(members, expected);
    let time = line["time"].as_str().unwrap();
    assert!(
        time.len() == "2026-01-02T03:04:05.000006Z".len() && time.ends_with('Z'),
        "{time}"
    );
    assert!(
        line["duration_ms"].is_f64() || line["duration_ms"].is_u64(),
        "{line}"
    );
    line
}

fn call(gate: &Sidegate, id: &str) -> crate::harness::Call {
    gate.call().header("x-request-id", id)
}

#[tokio::test]
async fn a_forwarded_request_leaves_all_that_is_known_of_it() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("demo", "sudo")
        .start()
        .await;
    let token = gate.token("demo").await;
    let answer = call(&gate, "id-1")
        .bearer(&token)
        .post("/a/b?sudo=loginName:li&tenantCode=ACME&page=2", "12345")
        .await;
    answer.expect_status(200);
    let seen = backend.only_request();
    let line = access(&gate, "id-1").await;
    assert_eq!(line["client_ip"], "127.0.0.1");
    assert_eq!(line["method"], "POST");
    assert_eq!(line["path"], "/a/b");
    assert_eq!(line["route"], "/");
    assert_eq!(line["status"], 200);
    assert_eq!(line["credential"], "bearer");
    assert_eq!(line["client_id"], "demo");
    assert_eq!(
        line["token_id"].to_string(),
        seen.header("x-auth-token-id").unwrap()
    );
    assert_eq!(line["sudo"], "loginName:li");
    assert_eq!(line["tenant"], "code:ACME");
    assert_eq!(line["request_bytes"], 5);
    assert_eq!(line["response_bytes"], 2);
    assert!(line["upstream_ms"].is_number());
    assert_eq!(line["error"], Value::Null);
    assert_eq!(line["limit"], Value::Null);
    assert_eq!(line["limit_ns"], Value::Null);

    let audit = gate.logged("audit", |line| line["event"] == "sudo").await;
    assert_eq!(audit["request_id"], "id-1");
    assert_eq!(audit["client_id"], "demo");
    assert_eq!(audit["sudo"], "loginName:li");
    assert_eq!(audit["client_ip"], "127.0.0.1");
}

#[tokio::test]
async fn how_the_credential_came_is_told() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("demo", "sudo")
        .start()
        .await;
    let token = gate.token("demo").await;
    call(&gate, "q")
        .get(&format!("/x?access_token={token}"))
        .await
        .expect_status(200);
    assert_eq!(access(&gate, "q").await["credential"], "query");
    call(&gate, "n").get("/x").await.expect_status(401);
    let line = access(&gate, "n").await;
    assert_eq!(line["credential"], "none");
    assert_eq!(line["error"], "missing_token");
    assert_eq!(line["client_id"], Value::Null);
    assert_eq!(line["upstream_ms"], Value::Null);
    assert_eq!(line["path"], "/x");
}

#[tokio::test]
async fn refusals_of_every_step_are_told_with_their_word() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client_with("demo", "sudo", "tenants = [\"id:7\"]\nsudo = [\"uid:*\"]")
        .client("plain", "read")
        .config("[[routes]]\npath = \"/api\"\n[[routes]]\npath = \"/get\"\nmethods = [\"GET\"]\n[[routes]]\npath = \"/write\"\nscopes = [\"write\"]\n")
        .start()
        .await;
    let (demo, plain) = (gate.token("demo").await, gate.token("plain").await);
    for (at, (token, method, target, status, word)) in [
        (&demo, "GET", "/nowhere", 404, "no_route"),
        (&demo, "GET", "/api/../get", 400, "invalid_path"),
        (&demo, "POST", "/get", 405, "method_not_allowed"),
        (
            &demo,
            "GET",
            "/api?sudo=uid:1&sudo=uid:2",
            400,
            "invalid_request",
        ),
        (&demo, "GET", "/api?sudo=nobody", 400, "invalid_sudo"),
        (&plain, "GET", "/api?sudo=uid:1", 403, "insufficient_scope"),
        (
            &demo,
            "GET",
            "/api?sudo=email:a%40b",
            403,
            "sudo_not_allowed",
        ),
        (&demo, "GET", "/api?tenantId=8", 403, "tenant_not_allowed"),
        (&demo, "GET", "/write", 403, "insufficient_scope"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("r-{at}");
        let answer = call(&gate, &id)
            .bearer(token)
            .send(method, target, "")
            .await;
        answer.expect_refusal(status, word);
        assert_eq!(answer.header("x-request-id"), Some(&*id));
        let line = access(&gate, &id).await;
        assert_eq!(line["error"], word, "{line}");
        assert_eq!(line["status"], status, "{line}");
    }
    // A sudo that was refused is audited as well.
    let refused = gate
        .logged("audit", |line| {
            line["event"] == "sudo" && line["sudo"] == "email:a@b"
        })
        .await;
    assert!(
        refused["detail"]
            .as_str()
            .unwrap()
            .contains("sudo_not_allowed"),
        "{refused}"
    );
}

#[tokio::test]
async fn own_endpoints_leave_access_and_audit_lines() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("demo", "sudo")
        .start()
        .await;
    let granted =
        format!("{TOKENS}?grant_type=client_credentials&client_id=demo&client_secret={SECRET}");
    let answer = call(&gate, "issue").get(&granted).await;
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let line = access(&gate, "issue").await;
    assert_eq!(line["path"], TOKENS);
    assert_eq!(line["route"], Value::Null);
    assert_eq!(line["client_id"], "demo");
    assert!(line["token_id"].is_i64());
    let id = line["token_id"].clone();

    let issued = gate
        .logged("audit", |line| line["event"] == "token_issued")
        .await;
    assert_eq!(issued["client_id"], "demo");
    assert_eq!(issued["token_id"], id);
    assert_eq!(issued["request_id"], "issue");

    call(&gate, "revoke")
        .get(&format!("{TOKENS}/revoke?token={token}"))
        .await
        .expect_status(200);
    let revoked = gate
        .logged("audit", |line| line["event"] == "token_revoked")
        .await;
    assert_eq!(revoked["token_id"], id);
    assert_eq!(revoked["client_id"], "demo");
    assert_eq!(revoked["request_id"], "revoke");

    let wrong = format!("{TOKENS}?grant_type=client_credentials&client_id=demo&client_secret=no");
    call(&gate, "wrong").get(&wrong).await.expect_status(401);
    assert_eq!(access(&gate, "wrong").await["error"], "invalid_client");
    call(&gate, "check")
        .get(&format!("{TOKENS}/check?token={token}"))
        .await
        .expect_status(400);
    assert_eq!(access(&gate, "check").await["error"], "invalid_token");
}

#[tokio::test]
async fn what_observe_mode_let_pass_is_told() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .server("mode = \"observe\"")
        .start()
        .await;
    call(&gate, "o").get("/").await.expect_status(200);
    let line = access(&gate, "o").await;
    assert_eq!(line["observed"], "missing_token");
    assert_eq!(line["error"], Value::Null);
    assert_eq!(
        gate.metric("sidegate_observed_refusals_total{error=\"missing_token\"}")
            .await,
        1.0
    );
}

#[tokio::test]
async fn access_lines_can_be_switched_off_and_audit_lines_stay() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("demo", "sudo")
        .config("[log]\naccess = false\n")
        .start()
        .await;
    gate.as_client("demo")
        .await
        .get("/?sudo=uid:1")
        .await
        .expect_status(200);
    gate.logged("audit", |line| line["event"] == "sudo").await;
    assert_eq!(gate.log("access"), Vec::<Value>::new());
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_its_line() {
    let backend = Backend::raw(|_| std::future::pending::<()>()).await;
    let gate = Sidegate::before(&backend)
        .config("[[routes]]\npath = \"/\"\naccess = \"public\"\n")
        .start()
        .await;
    let mut raw = gate.raw().await;
    raw.send("GET /left HTTP/1.1\r\nHost: s\r\n\r\n").await;
    crate::harness::eventually("the request is in flight", async || {
        gate.metric("sidegate_connections").await == 1.0
    })
    .await;
    drop(raw);
    let line = gate.logged("access", |line| line["path"] == "/left").await;
    assert_eq!(line["status"], 499);
}

#[tokio::test]
async fn request_ids_that_are_not_sane_are_replaced() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .config("[[routes]]\npath = \"/\"\naccess = \"public\"\n")
        .start()
        .await;
    for id in ["a b", "\"},{\"kind\":\"audit\"", "", &"x".repeat(129), "ä"] {
        let answer = call(&gate, id).get("/").await;
        let made = answer.header("x-request-id").unwrap().to_owned();
        assert_ne!(made, id);
        assert!((1..=128).contains(&made.len()));
        assert_eq!(
            backend.requests().last().unwrap().header("x-request-id"),
            Some(&*made)
        );
    }
    let twice = call(&gate, "one")
        .header("x-request-id", "two")
        .get("/")
        .await;
    assert!(!["one", "two"].contains(&twice.header("x-request-id").unwrap()));
}

/// Everything that could carry a secret out: all of an answer.
fn whole(answer: &Answer) -> String {
    format!("{:?} {:?} {}", answer.status, answer.headers, answer.text())
}

#[tokio::test]
async fn secrets_never_leak() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("demo", "sudo")
        .config("[[routes]]\npath = \"/\"\n[[routes]]\npath = \"/public\"\naccess = \"public\"\n[log]\nlevel = \"debug\"\n[rate_limits.failed-credentials]\nrate = \"1/min\"\nburst = 6\n")
        .start()
        .await;
    let token = gate.token("demo").await;
    let dead = gate.token("demo").await;
    gate.get(&format!("{TOKENS}/revoke?token={dead}"))
        .await
        .expect_status(200);
    let cut = &token[..token.len() - 1];
    let mut answers = Vec::new();
    // In every place and in every state, right and wrong.
    for secret in [&*token, &*dead, cut, SECRET] {
        for target in [
            "/ok".to_owned(),
            format!("/ok?access_token={secret}"),
            format!("/ok?Access%5FToken={secret}&access_token={secret}"),
            format!("/ok?access.token={secret}"),
            format!("/ok?x=1;access_token={secret}"),
            format!("/public?access_token={secret}"),
            format!("/ok/..%2f?access_token={secret}"),
            format!("{TOKENS}/check?token={secret}&token={secret}"),
            format!("{TOKENS}/revoke?token={secret}x"),
            format!("{TOKENS}?grant_type=x&client_id=demo&client_secret={secret}"),
            format!(
                "{TOKENS}?grant_type=client_credentials&client_id={secret}&client_secret={secret}x"
            ),
            format!(
                "{TOKENS}?grant_type=client_credentials&client_id=demo&client_secret={SECRET}&scope={secret}"
            ),
            format!("{TOKENS}/?access_token={secret}"),
        ] {
            answers.push(gate.get(&target).await);
            answers.push(gate.call().bearer(secret).get(&target).await);
            answers.push(
                gate.call()
                    .header("authorization", secret)
                    .get(&target)
                    .await,
            );
            answers.push(
                gate.call()
                    .bearer(&format!("{secret} "))
                    .post(&target, secret.to_owned())
                    .await,
            );
        }
    }
    for bytes in [
        format!("GET /?access_token={token} HTTP/1.1\r\nHost: a, b\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {token}@h\r\n\r\n"),
        format!("GET http://u:{SECRET}@h/ HTTP/1.1\r\nHost: h\r\n\r\n"),
        format!("{token} / HTTP/1.1\r\nHost: h\r\n\r\n"),
    ] {
        let text = crate::harness::exchange(gate.addr, bytes).await;
        assert!(!text.contains("sgt_") && !text.contains(SECRET), "{text}");
    }
    for answer in &answers {
        let text = whole(answer);
        for secret in [&*token, &*dead, cut, SECRET] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    let metrics = gate.admin_get("/metrics").await.text();
    let listed = run(gate.folder(), &["token", "list", "--all", "--json"])
        .await
        .expect_code(0);
    let clients = run(gate.folder(), &["client", "list", "--json"])
        .await
        .expect_code(0);
    for text in [
        metrics,
        listed.out + &listed.err,
        clients.out + &clients.err,
        gate.log_text(),
    ] {
        // Not even a piece of one.
        for secret in [&token[..12], &dead[..12], &SECRET[..12]] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    for seen in backend.requests() {
        let mut text = format!("{} {:?}", seen.target, seen.headers);
        // Another scheme than Bearer is none of Sidegate's.
        if seen.has_header("authorization") {
            text.clear();
        }
        assert!(!text.contains(&token) && !text.contains(&dead), "{seen:#?}");
    }
    gate.stop().await;
}

#[tokio::test]
async fn no_peer_can_forge_a_line() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("demo", "sudo")
        .start()
        .await;
    let caller = gate
        .as_client("demo")
        .await
        .header("x-request-id", "forger");
    caller
        .get("/x?sudo=uid:%22%7D%2C%7B%22kind%22%3A%22audit%22")
        .await
        .expect_status(200);
    let audit = gate
        .logged("audit", |line| line["request_id"] == "forger")
        .await;
    assert_eq!(audit["sudo"], "uid:\"},{\"kind\":\"audit\"");
    // A line feed in it is refused before anything is written.
    caller.get("/x?sudo=uid:a%0Ab").await.expect_status(400);
    for line in gate.log_text().lines() {
        let kind = serde_json::from_str::<Value>(line).unwrap()["kind"].clone();
        assert!(
            [json!("access"), json!("audit"), json!("log")].contains(&kind),
            "{line}"
        );
    }
}
