//! Contract §3.2 to §3.4: the credential in all its forms, on every kind of route.

use std::time::Duration;

use sidegate::base::clock::Clock;

use crate::harness::{Backend, Sidegate};

const CHALLENGE: &str = "Bearer realm=\"sidegate\"";
const BAD_TOKEN: &str = "Bearer realm=\"sidegate\", error=\"invalid_token\"";

const ROUTES: &str = r#"
[[routes]]
path = "/"
[[routes]]
path = "/optional"
access = "optional"
[[routes]]
path = "/public"
access = "public"
[[routes]]
path = "/kept"
forward_credentials = true
[[routes]]
path = "/scoped"
scopes = ["orders:read", "orders:write"]
"#;

async fn start(backend: &Backend) -> Sidegate {
    Sidegate::before(backend)
        .client("demo", "sudo")
        .client("orders", "orders:read orders:write")
        .config(ROUTES)
        .start()
        .await
}

#[tokio::test]
async fn a_bearer_token_passes_in_any_case_of_the_scheme_and_never_reaches_the_backend() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let token = gate.token("demo").await;
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let call = gate
            .call()
            .header("authorization", &format!("{scheme} {token}"));
        call.get("/orders").await.expect_status(200);
    }
    let requests = backend.requests();
    assert_eq!(requests.len(), 4);
    for seen in requests {
        assert!(!seen.has_header("authorization"), "{seen:?}");
        assert_eq!(seen.header("x-auth-client-id"), Some("demo"));
        assert!(!format!("{seen:?}").contains(&token));
    }
}

#[tokio::test]
async fn access_token_passes_in_every_spelling_of_its_name_and_is_cut() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let token = gate.token("demo").await;
    for name in [
        "access_token",
        "ACCESS_TOKEN",
        "Access_Token",
        "%61ccess%5ftoken",
        "access%5Ftoken",
    ] {
        gate.get(&format!("/orders?{name}={token}"))
            .await
            .expect_status(200);
    }
    for seen in backend.requests() {
        assert_eq!(seen.target(), "/orders");
        assert_eq!(seen.header("x-auth-client-id"), Some("demo"));
        assert!(!format!("{seen:?}").contains(&token));
    }
}

#[tokio::test]
async fn no_token_on_a_required_route_is_401_with_a_bare_challenge() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "FOO"] {
        let answer = gate.call().send(method, "/orders", "").await;
        answer.expect_refusal(401, "missing_token");
        assert_eq!(answer.header("www-authenticate"), Some(CHALLENGE));
    }
    let head = gate.call().send("HEAD", "/orders", "").await;
    head.expect_status(401);
    assert_eq!(head.header("www-authenticate"), Some(CHALLENGE));
    assert!(backend.requests().is_empty());
}

#[tokio::test]
async fn two_credentials_or_an_empty_one_are_400() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let token = gate.token("demo").await;
    let bearer = format!("Bearer {token}");
    for path in ["/orders", "/optional/x", "/kept"] {
        let both = gate.call().header("authorization", &bearer);
        both.get(&format!("{path}?access_token={token}"))
            .await
            .expect_refusal(400, "invalid_request");
        for other in [&bearer[..], "Basic eDp5", "Digest x=\"y\""] {
            let twice = gate
                .call()
                .header("authorization", &bearer)
                .header("authorization", other);
            twice.get(path).await.expect_refusal(400, "invalid_request");
            let turned = gate
                .call()
                .header("authorization", other)
                .header("authorization", &bearer);
            turned
                .get(path)
                .await
                .expect_refusal(400, "invalid_request");
        }
        for empty in ["Bearer", "Bearer ", "bearer", "", "Bearer \t"] {
            let call = gate.call().header("authorization", empty);
            call.get(path).await.expect_refusal(400, "invalid_request");
        }
        for query in [
            "access_token=",
            "access_token",
            &format!("access_token={token}&access_token={token}"),
            &format!("access_token={token}&ACCESS%5FTOKEN={token}"),
        ] {
            gate.get(&format!("{path}?{query}"))
                .await
                .expect_refusal(400, "invalid_request");
        }
    }
    assert!(backend.requests().is_empty());
}

#[tokio::test]
async fn a_header_that_cannot_be_read_is_400_and_never_absent() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    for value in [
        &b"Bearer \xff\xfe"[..],
        b"\xffBearer x",
        b"Bearer a b",
        b"Bearer x,y",
    ] {
        for path in ["/orders", "/optional/x"] {
            let mut raw = gate.raw().await;
            raw.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: "))
                .await;
            raw.send(value).await;
            raw.send("\r\n\r\n").await;
            let head = raw.read_head().await;
            assert!(head.starts_with("HTTP/1.1 400 "), "{value:?}: {head}");
        }
    }
    assert!(backend.requests().is_empty());
}

#[tokio::test]
async fn a_token_that_is_not_good_is_401_invalid_token_also_on_optional_routes() {
    let backend = Backend::recording().await;
    let clock = Clock::manual(sidegate::base::clock::UnixMillis(1_700_000_000_000));
    let gate = Sidegate::before(&backend)
        .client("demo", "sudo")
        .config(ROUTES)
        .config("[tokens]\naccess_token_ttl = \"1h\"")
        .clock(clock.clone())
        .start()
        .await;
    let revoked = gate.token("demo").await;
    gate.get(&format!("/api/oauth2/server/tokens/revoke?token={revoked}"))
        .await
        .expect_status(200);
    let expired = gate.token("demo").await;
    gate.call()
        .header("authorization", &format!("Bearer {expired}"))
        .get("/orders")
        .await
        .expect_status(200);
    clock.advance(Duration::from_secs(3601));
    let forged = format!("{}x", &expired[..expired.len() - 1]);
    let unknown_uuid = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
    let passed = backend.requests().len();
    for token in [&revoked[..], &expired, &forged, unknown_uuid, "nonsense"] {
        for path in ["/orders", "/optional/x"] {
            let call = gate
                .call()
                .header("authorization", &format!("Bearer {token}"));
            let answer = call.get(path).await;
            answer.expect_refusal(401, "invalid_token");
            assert_eq!(answer.header("www-authenticate"), Some(BAD_TOKEN));
            assert!(!answer.text().contains(token), "{answer:?}");
            let answer = gate.get(&format!("{path}?access_token={token}")).await;
            answer.expect_refusal(401, "invalid_token");
            assert_eq!(answer.header("www-authenticate"), Some(BAD_TOKEN));
            assert!(!answer.text().contains(token), "{answer:?}");
        }
    }
    assert_eq!(backend.requests().len(), passed);
    let log = gate.log_text();
    for token in [&revoked, &expired, &forged] {
        assert!(!log.contains(token.as_str()), "a token in the log");
    }
}

#[tokio::test]
async fn a_revoked_token_is_refused_by_the_next_request() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let token = gate.token("demo").await;
    let call = gate
        .call()
        .header("authorization", &format!("Bearer {token}"));
    for _ in 0..3 {
        call.get("/orders").await.expect_status(200);
    }
    gate.get(&format!("/api/oauth2/server/tokens/revoke?token={token}"))
        .await
        .expect_status(200);
    call.get("/orders")
        .await
        .expect_refusal(401, "invalid_token");
}

#[tokio::test]
async fn other_schemes_are_no_credential_and_pass_unchanged() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let token = gate.token("demo").await;
    let basic = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
    let call = gate.call().header("authorization", basic);
    call.get("/orders")
        .await
        .expect_refusal(401, "missing_token");
    assert!(backend.requests().is_empty());
    for target in [
        "/optional/x".to_owned(),
        "/public".to_owned(),
        format!("/orders?access_token={token}"),
        format!("/optional/x?access_token={token}"),
    ] {
        call.get(&target).await.expect_status(200);
        let seen = backend.requests().pop().unwrap();
        assert_eq!(seen.header("authorization"), Some(basic), "{target}");
    }
    // Several lines of other schemes are none of ours to judge.
    let two = call.clone().header("authorization", "Custom x=1");
    two.get("/public").await.expect_status(200);
    let seen = backend.requests().pop().unwrap();
    let lines: Vec<_> = seen
        .headers
        .iter()
        .filter(|(name, _)| name == "authorization")
        .collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[tokio::test]
async fn an_optional_route_lets_pass_without_identity_or_with_a_good_token() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    gate.get("/optional/x").await.expect_status(200);
    assert!(!backend.only_request().has_header("x-auth-client-id"));
    gate.as_client("demo")
        .await
        .get("/optional/x")
        .await
        .expect_status(200);
    let seen = backend.requests().pop().unwrap();
    assert_eq!(seen.header("x-auth-client-id"), Some("demo"));
    assert!(!seen.has_header("authorization"));
}

#[tokio::test]
async fn on_a_public_route_credentials_are_cut_and_not_looked_at() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let token = gate.token("demo").await;
    let good = format!("Bearer {token}");
    for value in [&good[..], "Bearer nonsense", "bearer", "Bearer"] {
        let call = gate.call().header("authorization", value);
        call.get(&format!("/public/a?access_token={token}&access_token=&b=1"))
            .await
            .expect_status(200);
        let seen = backend.requests().pop().unwrap();
        assert_eq!(seen.target(), "/public/a?b=1");
        assert!(!seen.has_header("authorization"), "{seen:?}");
        assert!(!seen.has_header("x-auth-client-id"));
    }
}

#[tokio::test]
async fn forward_credentials_leaves_either_form_in_place_beside_the_identity() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let token = gate.token("demo").await;
    let bearer = format!("Bearer {token}");
    gate.call()
        .header("authorization", &bearer)
        .get("/kept/a?x=1")
        .await
        .expect_status(200);
    let seen = backend.only_request();
    assert_eq!(seen.header("authorization"), Some(&bearer[..]));
    assert_eq!(seen.header("x-auth-client-id"), Some("demo"));
    gate.get(&format!("/kept/a?x=1&access_token={token}&sudo=uid:7&y=2"))
        .await
        .expect_status(200);
    let seen = backend.requests().pop().unwrap();
    assert_eq!(
        seen.target(),
        format!("/kept/a?x=1&access_token={token}&y=2")
    );
    assert_eq!(seen.header("x-auth-user-id"), Some("7"));
}

#[tokio::test]
async fn every_scope_of_the_route_is_needed() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let answer = gate.as_client("demo").await.get("/scoped/1").await;
    answer.expect_refusal(403, "insufficient_scope");
    assert_eq!(
        answer.header("www-authenticate"),
        Some(
            "Bearer realm=\"sidegate\", error=\"insufficient_scope\", scope=\"orders:read orders:write\""
        )
    );
    assert!(backend.requests().is_empty());
    gate.as_client("orders")
        .await
        .get("/scoped/1")
        .await
        .expect_status(200);
    assert_eq!(
        backend.only_request().header("x-auth-scope"),
        Some("orders:read orders:write")
    );
}

#[tokio::test]
async fn grpc_callers_are_refused_in_trailers_only() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let call = gate.call().header("content-type", "application/grpc+proto");
    let answer = call.post("/pkg.Service/Call", "").await;
    answer.expect_status(200);
    assert_eq!(answer.header("grpc-status"), Some("16"));
    assert!(answer.body.is_empty());
    assert!(backend.requests().is_empty());
}

#[tokio::test]
async fn the_access_line_tells_who_called_and_never_the_token_nor_the_query() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let token = gate.token("demo").await;
    gate.get(&format!("/orders?access_token={token}&q=hidden-word"))
        .await
        .expect_status(200);
    let line = gate
        .logged("access", |line| line["path"] == "/orders")
        .await;
    assert_eq!(line["credential"], "query");
    assert_eq!(line["client_id"], "demo");
    assert_eq!(line["status"], 200);
    assert_eq!(line["route"], "/");
    let log = gate.log_text();
    assert!(!log.contains(&token));
    assert!(!log.contains("hidden-word"));
}
