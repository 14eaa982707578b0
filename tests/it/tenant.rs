//! Contract §3.7: the tenant a request acts in.

use crate::harness::{Backend, Sidegate};

async fn start(backend: &Backend) -> Sidegate {
    Sidegate::before(backend)
        .client("demo", "sudo")
        .client_with("all", "x", "tenants = [\"*\"]")
        .client_with("few", "x", "tenants = [\"id:7\", \"code:ACME\"]")
        .client_with("none", "x", "tenants = []")
        .start()
        .await
}

#[tokio::test]
async fn each_parameter_sets_its_own_header() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    for client in ["demo", "all", "few"] {
        let call = gate.as_client(client).await;
        call.get("/a?tenantId=7&x=1").await.expect_status(200);
        let seen = backend.requests().pop().unwrap();
        assert_eq!(seen.target(), "/a?x=1");
        assert_eq!(seen.header("x-auth-tenant-id"), Some("7"));
        assert!(!seen.has_header("x-auth-tenant-code"));
        call.get("/a?TENANTCODE=ACME").await.expect_status(200);
        let seen = backend.requests().pop().unwrap();
        assert_eq!(seen.target(), "/a");
        assert_eq!(seen.header("x-auth-tenant-code"), Some("ACME"));
        assert!(!seen.has_header("x-auth-tenant-id"));
        call.get("/a").await.expect_status(200);
        let seen = backend.requests().pop().unwrap();
        assert!(!seen.has_header("x-auth-tenant-code"));
        assert!(!seen.has_header("x-auth-tenant-id"));
    }
}

#[tokio::test]
async fn both_at_once_or_an_empty_one_is_400() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let call = gate.as_client("demo").await;
    for query in [
        "tenantId=7&tenantCode=ACME",
        "tenantCode=ACME&x=1&TENANTID=7",
        "tenantId=",
        "tenantId",
        "tenantCode=",
        "tenantId=&tenantCode=",
    ] {
        let answer = call.get(&format!("/a?{query}")).await;
        answer.expect_refusal(400, "invalid_request");
    }
    assert!(backend.requests().is_empty());
}

#[tokio::test]
async fn a_tenant_outside_the_clients_own_is_403() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    for (client, query) in [
        ("few", "tenantId=8"),
        ("few", "tenantId=77"),
        ("few", "tenantId=ACME"),
        ("few", "tenantCode=7"),
        ("few", "tenantCode=acme"),
        ("none", "tenantId=7"),
        ("none", "tenantCode=ACME"),
    ] {
        let call = gate.as_client(client).await;
        let answer = call.get(&format!("/a?{query}")).await;
        answer.expect_refusal(403, "tenant_not_allowed");
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Bearer realm=\"sidegate\", error=\"tenant_not_allowed\"")
        );
    }
    assert!(backend.requests().is_empty());
    let none = gate.as_client("none").await;
    none.get("/a").await.expect_status(200);
}

#[tokio::test]
async fn sudo_is_judged_before_the_tenant() {
    let backend = Backend::recording().await;
    let gate = start(&backend).await;
    let call = gate.as_client("few").await;
    call.get("/a?tenantId=8&sudo=uid:1")
        .await
        .expect_refusal(403, "insufficient_scope");
    call.get("/a?tenantId=7&tenantCode=ACME&sudo=uid:1")
        .await
        .expect_refusal(403, "insufficient_scope");
}
