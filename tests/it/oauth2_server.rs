//! The legacy OAuth 2 server (contract §4 and §5), as its clients meet it.

use std::time::Duration;

use serde_json::json;
use sidegate::base::clock::{Clock, UnixMillis};

use crate::harness::{Answer, Backend, SECRET, Sidegate};

const TOKENS: &str = "/api/oauth2/server/tokens";

async fn gate(backend: &Backend) -> Sidegate {
    Sidegate::before(backend)
        .client("demo", "sudo read")
        .client("old", "sodu")
        .client("none", "")
        .clock(Clock::manual(UnixMillis(1_800_000_000_000)))
        .start()
        .await
}

fn grant(client: &str) -> String {
    format!("grant_type=client_credentials&client_id={client}&client_secret={SECRET}")
}

/// The same parameters in the query of a GET, in the query of a POST, and in its form.
async fn every_way(gate: &Sidegate, path: &str, parameters: &str) -> [Answer; 3] {
    let form = gate
        .call()
        .header("content-type", "application/x-www-form-urlencoded");
    [
        gate.get(&format!("{path}?{parameters}")).await,
        gate.call().post(&format!("{path}?{parameters}"), "").await,
        form.post(path, parameters.to_owned()).await,
    ]
}

#[track_caller]
fn assert_never_stored(answer: &Answer) {
    assert_eq!(
        answer.header("cache-control"),
        Some("no-store"),
        "{answer:?}"
    );
    assert_eq!(
        answer.header("content-type"),
        Some("application/json"),
        "{answer:?}"
    );
    assert!(answer.header("x-request-id").is_some());
}

#[tokio::test]
async fn a_token_is_four_members_with_expires_in_a_string_of_twelve_hours() {
    let backend = Backend::recording().await;
    let gate = gate(&backend).await;
    for answer in every_way(&gate, TOKENS, &grant("demo")).await {
        answer.expect_status(200);
        assert_never_stored(&answer);
        let body = answer.json();
        let token = body["access_token"].as_str().unwrap();
        assert!(token.starts_with("sgt_"), "{token}");
        let expected = json!({
            "access_token": token, "token_type": "bearer", "expires_in": "43200", "scope": "sudo read"
        });
        assert_eq!(body, expected);
        gate.call().bearer(token).get("/").await.expect_status(200);
    }
    assert_eq!(backend.requests().len(), 3);
}

#[tokio::test]
async fn every_token_is_a_new_one_and_none_is_in_the_store_file() {
    let backend = Backend::recording().await;
    let gate = gate(&backend).await;
    let (one, two) = (gate.token("demo").await, gate.token("demo").await);
    assert_ne!(one, two);
    let mut files = 0;
    for entry in std::fs::read_dir(gate.folder()).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("sidegate.db")
        {
            let bytes = std::fs::read(&path).unwrap();
            files += 1;
            for secret in [&one["sgt_".len()..], &two["sgt_".len()..]] {
                let found = bytes
                    .windows(20)
                    .any(|part| part == &secret.as_bytes()[..20]);
                assert!(!found, "{}", path.display());
            }
        }
    }
    assert!(files > 0);
}

#[tokio::test]
async fn scopes_are_those_of_the_client_spelled_as_it_was_given_them() {
    let backend = Backend::recording().await;
    let gate = gate(&backend).await;
    for (client, scope, shown) in [
        ("demo", None, "sudo read"),
        ("demo", Some("read"), "read"),
        ("old", None, "sodu"),
        ("old", Some("sudo"), "sodu"),
        ("old", Some("sodu"), "sodu"),
        ("none", None, ""),
    ] {
        let scope = scope.map_or(String::new(), |scope| format!("&scope={scope}"));
        let answer = gate
            .get(&format!("{TOKENS}?{}{scope}", grant(client)))
            .await;
        answer.expect_status(200);
        assert_eq!(answer.json()["scope"], shown, "{client} {scope}");
        let token = answer.json()["access_token"].as_str().unwrap().to_owned();
        let checked = gate.get(&format!("{TOKENS}/check?token={token}")).await;
        assert_eq!(checked.json()["scope"], shown, "{client} {scope}");
    }
    // Sodu is as good as sudo.
    let old = gate.as_client("old").await;
    old.get("/?sudo=uid:7").await.expect_status(200);
    assert_eq!(backend.only_request().header("x-auth-scope"), Some("sodu"));
}

#[tokio::test]
async fn errors_of_tokens_are_those_of_rfc_6749() {
    let backend = Backend::recording().await;
    let gate = gate(&backend).await;
    let good = grant("demo");
    for (parameters, status, error) in [
        (
            "grant_type=client_credentials&client_id=demo&client_secret=wrong".to_owned(),
            401,
            "invalid_client",
        ),
        (
            format!("grant_type=client_credentials&client_id=nobody&client_secret={SECRET}"),
            401,
            "invalid_client",
        ),
        (
            format!("grant_type=client_credentials&client_id=DEMO&client_secret={SECRET}"),
            401,
            "invalid_client",
        ),
        (
            format!("grant_type=password&client_id=demo&client_secret={SECRET}"),
            400,
            "unsupported_grant_type",
        ),
        (
            format!("client_id=demo&client_secret={SECRET}"),
            400,
            "invalid_request",
        ),
        (
            format!("grant_type=&client_id=demo&client_secret={SECRET}"),
            400,
            "invalid_request",
        ),
        (
            format!("grant_type=client_credentials&client_secret={SECRET}"),
            400,
            "invalid_request",
        ),
        (
            "grant_type=client_credentials&client_id=demo".to_owned(),
            400,
            "invalid_request",
        ),
        (
            format!("{good}&grant_type=client_credentials"),
            400,
            "invalid_request",
        ),
        (format!("{good}&client_id=demo"), 400, "invalid_request"),
        (
            format!("{good}&client_secret={SECRET}"),
            400,
            "invalid_request",
        ),
        (
            format!("{good}&%73cope=read&scope=read"),
            400,
            "invalid_request",
        ),
        (format!("{good}&x=%zz"), 400, "invalid_request"),
        (format!("{good}&scope=admin"), 400, "invalid_scope"),
        (format!("{good}&scope=read+admin"), 400, "invalid_scope"),
        (format!("{good}&scope=%22"), 400, "invalid_scope"),
    ] {
        for answer in every_way(&gate, TOKENS, &parameters).await {
            assert_eq!(answer.status, status, "{parameters}: {answer:?}");
            assert_never_stored(&answer);
            let body = answer.json();
            assert_eq!(body["error"], error, "{parameters}");
            assert!(body["error_description"].is_string(), "{parameters}");
            assert_eq!(body.as_object().unwrap().len(), 2, "{parameters}");
            assert!(!answer.text().contains(SECRET), "{parameters}");
        }
    }
    // One half in the query, the other in the form: still repeated.
    let form = gate
        .call()
        .header("content-type", "application/x-www-form-urlencoded");
    let answer = form.post(&format!("{TOKENS}?client_id=demo"), good).await;
    assert_eq!(answer.json()["error"], "invalid_request");
    assert_eq!(backend.requests().len(), 0);
}

#[tokio::test]
async fn bodies_that_are_no_form_are_invalid_requests() {
    let backend = Backend::recording().await;
    let gate = gate(&backend).await;
    let json = gate.call().header("content-type", "application/json");
    let none = gate.call();
    let form = gate
        .call()
        .header("content-type", "application/x-www-form-urlencoded");
    let large = format!("{}&x={}", grant("demo"), "a".repeat(70 << 10));
    for (call, body) in [
        (&json, "{\"grant_type\":\"client_credentials\"}".to_owned()),
        (&none, grant("demo")),
        (&form, large),
    ] {
        let answer = call.post(TOKENS, body).await;
        assert!(matches!(answer.status.as_u16(), 400 | 413), "{answer:?}");
        assert!(answer.json()["error"].is_string(), "{answer:?}");
    }
    let bytes = form.post(TOKENS, vec![b'a', b'=', 0xff]).await;
    assert_eq!(bytes.json()["error"], "invalid_request");
}

#[tokio::test]
async fn check_tells_the_seconds_that_are_left_and_then_that_it_is_over() {
    let backend = Backend::recording().await;
    let gate = gate(&backend).await;
    let token = gate.token("demo").await;
    gate.clock.advance(Duration::from_secs(3600));
    let parameters = format!("token={token}");
    for answer in every_way(&gate, &format!("{TOKENS}/check"), &parameters).await {
        answer.expect_status(200);
        assert_never_stored(&answer);
        let expected = json!({
            "access_token": token, "token_type": "bearer", "expires_in": "39600", "scope": "sudo read"
        });
        assert_eq!(answer.json(), expected);
    }
    gate.clock.advance(Duration::from_secs(39_599));
    let answer = gate.get(&format!("{TOKENS}/check?token={token}")).await;
    assert_eq!(answer.json()["expires_in"], "1");
    gate.clock.advance(Duration::from_secs(1));
    for answer in every_way(&gate, &format!("{TOKENS}/check"), &parameters).await {
        answer.expect_status(400);
        assert_eq!(answer.json()["error"], "invalid_token");
        assert!(answer.json()["error_description"].is_string());
    }
    gate.call()
        .bearer(&token)
        .get("/")
        .await
        .expect_refusal(401, "invalid_token");
}

#[tokio::test]
async fn check_of_what_is_no_token_is_invalid_token_and_of_nothing_invalid_request() {
    let backend = Backend::recording().await;
    let gate = gate(&backend).await;
    let token = gate.token("demo").await;
    let mut forged = token.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'a' { 'b' } else { 'a' });
    for text in [
        "x",
        "sgt_x",
        &forged,
        "00000000-0000-4000-8000-000000000000",
    ] {
        let answer = gate.get(&format!("{TOKENS}/check?token={text}")).await;
        answer.expect_status(400);
        assert_eq!(answer.json()["error"], "invalid_token", "{text}");
    }
    for query in [
        "",
        "?token=",
        "?Token=x",
        &format!("?token={token}&token={token}"),
    ] {
        let answer = gate.get(&format!("{TOKENS}/check{query}")).await;
        answer.expect_status(400);
        assert_eq!(answer.json()["error"], "invalid_request", "{query}");
        let answer = gate.get(&format!("{TOKENS}/revoke{query}")).await;
        answer.expect_status(400);
        assert_eq!(answer.json()["error"], "invalid_request", "{query}");
    }
}

#[tokio::test]
async fn a_forged_token_costs_no_store_read() {
    let backend = Backend::recording().await;
    let gate = gate(&backend).await;
    let token = gate.token("demo").await;
    let mut forged = token.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'a' { 'b' } else { 'a' });
    let before = gate
        .metric("sidegate_store_reads_total{result=\"ok\"}")
        .await;
    for text in [forged.as_str(), "sgt_", "x"] {
        gate.call()
            .bearer(text)
            .get("/")
            .await
            .expect_refusal(401, "invalid_token");
    }
    let after = gate
        .metric("sidegate_store_reads_total{result=\"ok\"}")
        .await;
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_revoked_token_is_refused_by_the_next_request() {
    let backend = Backend::recording().await;
    let gate = gate(&backend).await;
    for way in 0..3 {
        let token = gate.token("demo").await;
        let kept = gate.token("demo").await;
        let caller = gate.call().bearer(&token);
        // In the cache now.
        caller.get("/").await.expect_status(200);
        let path = format!("{TOKENS}/revoke");
        let answer = match way {
            0 => gate.get(&format!("{path}?token={token}")).await,
            1 => gate.call().post(&format!("{path}?token={token}"), "").await,
            _ => {
                let form = gate
                    .call()
                    .header("content-type", "application/x-www-form-urlencoded");
                form.post(&path, format!("token={token}")).await
            }
        };
        answer.expect_status(200);
        assert_never_stored(&answer);
        assert_eq!(answer.json(), json!({"code": 0, "msg": "success"}));
        caller.get("/").await.expect_refusal(401, "invalid_token");
        let checked = gate.get(&format!("{TOKENS}/check?token={token}")).await;
        checked.expect_status(400);
        gate.call().bearer(&kept).get("/").await.expect_status(200);
        // A second time there is nothing to revoke.
        let again = gate.get(&format!("{path}?token={token}")).await;
        again.expect_status(200);
        assert_eq!(again.json(), json!({"code": 1, "msg": "token not found"}));
    }
}

#[tokio::test]
async fn a_token_that_is_not_there_is_told_as_not_found() {
    let backend = Backend::recording().await;
    let gate = gate(&backend).await;
    let expired = gate.token("demo").await;
    gate.clock.advance(Duration::from_secs(43_200));
    for token in [expired.as_str(), "never-issued", "sgt_x"] {
        let answer = gate.get(&format!("{TOKENS}/revoke?token={token}")).await;
        answer.expect_status(200);
        assert_eq!(answer.json(), json!({"code": 1, "msg": "token not found"}));
    }
}

#[tokio::test]
async fn other_methods_are_405_and_head_issues_and_revokes_nothing() {
    let backend = Backend::recording().await;
    let gate = gate(&backend).await;
    let token = gate.token("demo").await;
    let issued = gate.metric("sidegate_tokens_issued_total").await;
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS"] {
        for path in [
            TOKENS,
            &format!("{TOKENS}/check"),
            &format!("{TOKENS}/revoke"),
        ] {
            let answer = gate.call().send(method, path, "").await;
            answer.expect_refusal(405, "method_not_allowed");
            assert!(
                answer.header("allow").unwrap().contains("GET"),
                "{answer:?}"
            );
        }
    }
    let head = gate
        .call()
        .send("HEAD", &format!("{TOKENS}?{}", grant("demo")), "")
        .await;
    head.expect_status(405);
    let head = gate
        .call()
        .send("HEAD", &format!("{TOKENS}/revoke?token={token}"), "")
        .await;
    head.expect_status(405);
    assert_eq!(gate.metric("sidegate_tokens_issued_total").await, issued);
    gate.call().bearer(&token).get("/").await.expect_status(200);
}

#[tokio::test]
async fn exact_paths_are_ours_and_their_neighbours_reach_the_backend() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("demo", "sudo")
        .config("[[routes]]\npath = \"/\"\naccess = \"public\"\n")
        .start()
        .await;
    let neighbours = [
        "/api/oauth2/server",
        "/api/oauth2/server/",
        "/api/oauth2/server/tokens/",
        "/api/oauth2/server/tokens/checks",
        "/api/oauth2/server/tokens/check/x",
        "/api/oauth2/server/Tokens",
        "/api/oauth2/server/token",
        "/api/oauth2/server/%74okens",
        "/x/api/oauth2/server/tokens",
        "/api/oauth2/token",
    ];
    for path in neighbours {
        let answer = gate.get(path).await;
        answer.expect_status(200);
        assert_eq!(answer.text(), "ok", "{path}");
    }
    let seen: Vec<_> = backend
        .requests()
        .into_iter()
        .map(|seen| seen.target)
        .collect();
    assert_eq!(seen, neighbours);
    // Ours even below a public route, and with any Host.
    let answer = gate
        .call()
        .without("host")
        .header("host", "other.test")
        .get(TOKENS)
        .await;
    answer.expect_status(400);
    assert_eq!(answer.json()["error"], "invalid_request");
}

#[tokio::test]
async fn endpoints_move_and_can_be_switched_off() {
    let backend = Backend::recording().await;
    let public = "[[routes]]\npath = \"/\"\naccess = \"public\"\n";
    let moved = Sidegate::before(&backend)
        .client("demo", "sudo")
        .config(public)
        .config("[endpoints]\noauth2_server = \"/auth\"\n")
        .start()
        .await;
    moved
        .get(&format!("/auth/tokens?{}", grant("demo")))
        .await
        .expect_status(200);
    assert_eq!(moved.get(TOKENS).await.text(), "ok");
    let off = Sidegate::before(&backend)
        .config(public)
        .config("[endpoints]\noauth2_server = \"\"\n")
        .start()
        .await;
    assert_eq!(off.get(TOKENS).await.text(), "ok");
}

#[tokio::test]
async fn own_endpoints_never_observe() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("demo", "sudo")
        .server("mode = \"observe\"")
        .start()
        .await;
    let wrong = format!("{TOKENS}?grant_type=client_credentials&client_id=demo&client_secret=no");
    gate.get(&wrong).await.expect_status(401);
    gate.get(&format!("{TOKENS}/check?token=x"))
        .await
        .expect_status(400);
    assert_eq!(backend.requests().len(), 0);
}

#[tokio::test]
async fn the_lifetime_is_the_one_configured() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("demo", "sudo")
        .config("[tokens]\naccess_token_ttl = \"90s\"\n")
        .clock(Clock::manual(UnixMillis(1_800_000_000_000)))
        .start()
        .await;
    let answer = gate.get(&format!("{TOKENS}?{}", grant("demo"))).await;
    assert_eq!(answer.json()["expires_in"], "90");
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let caller = gate.call().bearer(&token);
    caller.get("/").await.expect_status(200);
    gate.clock.advance(Duration::from_secs(89));
    caller.get("/").await.expect_status(200);
    gate.clock.advance(Duration::from_secs(1));
    caller.get("/").await.expect_refusal(401, "invalid_token");
}
