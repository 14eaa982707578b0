//! Contract §3, "Observe mode": refusals of steps 2 to 8 become forwarding as on a public route.

use crate::harness::{Backend, Sidegate};

const ROUTES: &str = r#"
[[routes]]
path = "/"
rate_limits = ["tiny"]
[[routes]]
path = "/scoped"
scopes = ["admin"]
[[routes]]
path = "/reads"
methods = ["GET"]
[[routes]]
path = "/enforced"
mode = "enforce"
[rate_limits.tiny]
key = "ip"
rate = "1/h"
burst = 1000
[rate_limits.none-left]
key = "ip"
rate = "1/h"
burst = 1
[[routes]]
path = "/limited"
rate_limits = ["none-left"]
"#;

async fn start(backend: &Backend) -> Sidegate {
    Sidegate::before(backend)
        .server("mode = \"observe\"")
        .client("demo", "orders")
        .client_with("bound", "sudo", "sudo = [\"uid:7\"]\ntenants = [\"id:1\"]")
        .config(ROUTES)
        .start()
        .await
}

#[tokio::test]
async fn what_would_be_refused_passes_without_identity_and_is_logged_and_counted() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let demo = format!("Bearer {}", gate.token("demo").await);
    let bound = format!("Bearer {}", gate.token("bound").await);
    for (i, (authorization, sent, arrives, word)) in [
        (None, "/a0?x=1", "/a0?x=1", "missing_token"),
        (Some("Bearer"), "/a1", "/a1", "invalid_request"),
        (
            Some(&demo[..]),
            "/a2?sudo=uid:7&x=1",
            "/a2?x=1",
            "insufficient_scope",
        ),
        (
            Some(&demo[..]),
            "/a3?sudo=uid:7&sudo=uid:7",
            "/a3",
            "insufficient_scope",
        ),
        (
            Some(&bound[..]),
            "/a4?sudo=uid:8",
            "/a4",
            "sudo_not_allowed",
        ),
        (Some(&bound[..]), "/a5?sudo=foo", "/a5", "invalid_sudo"),
        (
            Some(&bound[..]),
            "/a6?tenantId=2",
            "/a6",
            "tenant_not_allowed",
        ),
        (
            Some(&demo[..]),
            "/scoped/7",
            "/scoped/7",
            "insufficient_scope",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let word = if i == 3 { "invalid_request" } else { word };
        let mut call = gate.call().header("x-auth-user-id", "forged");
        if let Some(value) = authorization {
            call = call.header("authorization", value);
        }
        call.get(sent).await.expect_status(200);
        let seen = backend.requests().pop().unwrap();
        assert_eq!(seen.target(), arrives);
        assert!(
            !seen
                .headers
                .iter()
                .any(|(name, _)| name.starts_with("x-auth-")),
            "{sent}: {seen:?}"
        );
        if authorization.is_some_and(|value| value.len() > 20) {
            assert!(!seen.has_header("authorization"), "{seen:?}");
        }
        let path = arrives.split('?').next().unwrap();
        let line = gate.logged("access", |line| line["path"] == path).await;
        assert_eq!(line["status"], 200);
        assert_eq!(line["observed"], word, "{line}");
    }
    let text = gate.admin_get("/metrics").await.text();
    let counted = text.lines().any(|line| {
        line.contains("observ") && line.contains("sudo_not_allowed") && line.ends_with(" 1")
    });
    assert!(counted, "{text}");
}

#[tokio::test]
async fn a_good_request_has_its_identity() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let call = gate.as_client("bound").await;
    call.get("/a?sudo=uid:7").await.expect_status(200);
    let seen = backend.only_request();
    assert_eq!(seen.header("x-auth-user-id"), Some("7"));
    assert_eq!(seen.header("x-auth-client-id"), Some("bound"));
    assert!(!seen.has_header("authorization"));
}

#[tokio::test]
async fn a_bearer_that_is_no_sidegate_token_stays_and_ours_is_cut() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let foreign = "Bearer eyJhbGciOiJIUzI1NiJ9.e30.abc";
    gate.call()
        .header("authorization", foreign)
        .get("/a")
        .await
        .expect_status(200);
    let seen = backend.requests().pop().unwrap();
    assert_eq!(seen.header("authorization"), Some(foreign));
    let token = gate.token("demo").await;
    gate.get(&format!("/api/oauth2/server/tokens/revoke?token={token}"))
        .await
        .expect_status(200);
    let revoked = format!("Bearer {token}");
    gate.call()
        .header("authorization", &revoked)
        .get("/a")
        .await
        .expect_status(200);
    let seen = backend.requests().pop().unwrap();
    assert!(!format!("{seen:?}").contains(&token));
}

#[tokio::test]
async fn limits_are_observed_too() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let call = gate.as_client("demo").await;
    call.get("/limited").await.expect_status(200);
    call.get("/limited/over").await.expect_status(200);
    let line = gate
        .logged("access", |line| line["path"] == "/limited/over")
        .await;
    assert_eq!(line["observed"], "rate_limited");
    assert_eq!(line["limit"], "none-left");
    let seen = backend.requests().pop().unwrap();
    assert!(!seen.has_header("x-auth-client-id"));
}

#[tokio::test]
async fn path_framing_route_and_hidden_parameters_are_refused_all_the_same() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    gate.get("/a%zz").await.expect_refusal(400, "invalid_path");
    gate.get("/a/../scoped")
        .await
        .expect_refusal(400, "invalid_path");
    gate.call()
        .post("/reads", "")
        .await
        .expect_refusal(405, "method_not_allowed");
    gate.get("/a?x;sudo=uid:7")
        .await
        .expect_refusal(400, "invalid_request");
    gate.get("/enforced")
        .await
        .expect_refusal(401, "missing_token");
    let mut raw = gate.raw().await;
    raw.send("GET /a HTTP/1.1\r\n\r\n").await;
    assert!(raw.read_to_end().await.starts_with("HTTP/1.1 400 "));
    assert!(backend.requests().is_empty());
}

#[tokio::test]
async fn own_endpoints_never_observe() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let answer = gate
        .get("/api/oauth2/server/tokens?grant_type=client_credentials&client_id=demo&client_secret=wrong")
        .await;
    answer.expect_status(401);
    assert!(backend.requests().is_empty());
}
