//! The main job in one test: a client's token in, a backend that knows who is calling.

use crate::harness::{Backend, Sidegate};

#[tokio::test]
async fn a_token_in_and_a_backend_that_knows_who_is_calling() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("demo-app", "sudo")
        .start()
        .await;

    gate.get("/orders")
        .await
        .expect_refusal(401, "missing_token");

    let caller = gate.as_client("demo-app").await;
    let answer = caller
        .get("/orders?page=2&sudo=email:li.lei%40example.com&tenantId=7")
        .await;

    answer.expect_status(200);
    let seen = backend.only_request();
    assert_eq!(seen.target(), "/orders?page=2");
    assert_eq!(seen.header("x-auth-client-id"), Some("demo-app"));
    assert_eq!(seen.header("x-auth-user-email"), Some("li.lei@example.com"));
    assert_eq!(seen.header("x-auth-tenant-id"), Some("7"));
    assert!(!seen.has_header("authorization"));
    gate.stop().await;
}
