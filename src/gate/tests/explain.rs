//! A story tells what decide did, and no secret.

use http::HeaderValue;

use super::*;
use crate::gate::tests_support::*;

async fn story(world: &World, target: &str, lines: &[(&str, &str)]) -> Story {
    let way = Way {
        peer_ip: CALLER,
        trusted: false,
        scheme: "http",
        host_header: &HeaderValue::from_static("app.example.com"),
        request_id: &HeaderValue::from_static("id-1"),
    };
    let parts = request(target, lines);
    explain(
        &world.gate,
        parts,
        "app.example.com",
        CALLER,
        &way,
        world.clock.now(),
    )
    .await
}

#[tokio::test]
async fn a_request_that_passes_is_told_step_by_step_with_what_is_sent() {
    let world = Setting::usual().build().await;
    let line = format!("Bearer {}", world.token("demo", "sudo read"));
    let lines = [
        ("authorization", line.as_str()),
        ("x-auth-user-id", "forged"),
    ];
    let story = story(&world, "/a?b=1&sudo=uid:7&tenantId=9", &lines).await;
    assert!(story.passes());
    let told = story.to_string();
    for expected in [
        "route      /: a token is required",
        "credential Authorization: Bearer",
        "token      number 42 of client demo is good",
        "scopes     sudo read",
        "sudo       uid:7",
        "tenant     id:9",
        "verdict    forwarded to upstream \"default\"",
        "sends      GET /a?b=1",
        "removes    authorization",
        "sets       x-auth-user-id: 7",
        "sets       x-auth-tenant-id: 9",
    ] {
        assert!(told.contains(expected), "{expected} in:\n{told}");
    }
    assert!(!told.contains("forged"), "{told}");
}

#[tokio::test]
async fn a_refusal_is_told_with_its_word() {
    let world = Setting::usual().build().await;
    let story = story(&world, "/a", &[]).await;
    assert!(!story.passes());
    assert!(
        story
            .to_string()
            .contains("verdict    refused with 401 missing_token: ")
    );
}

#[tokio::test]
async fn an_observing_route_tells_what_would_have_been_said() {
    let world = Setting::usual().build().await;
    let story = story(&world, "/obs", &[]).await;
    assert!(story.passes());
    assert!(
        story
            .to_string()
            .contains("observed   would be refused with 401 missing_token")
    );
}

#[tokio::test]
async fn no_token_is_told_wherever_it_stands() {
    let world = Setting::usual()
        .root(|route| route.forward_credentials = true)
        .build()
        .await;
    let token = world.token("demo", "sudo read");
    let line = format!("Bearer {token}");
    let encoded = token.replace("sgt_", "sgt%5F");
    let uuid = "7d1f0f3c-3c1e-4b8e-9f43-0d5f5a0b7c1d";
    for (target, header) in [
        (format!("/a?x={token}&sudo=uid:{token}"), line.as_str()),
        (
            format!("/a?access_token={token}"),
            "Basic c2VjcmV0OnNlY3JldA==",
        ),
        (format!("/a?access_token={encoded}"), "Digest abcdefghijk"),
        (format!("/pub/{token}?x={token}"), line.as_str()),
        (
            format!("/pub?access_token={uuid}&x={uuid}"),
            "Basic c2VjcmV0OnNlY3JldA==",
        ),
        (
            format!("/obs?access_token={uuid}&sudo=uid:{uuid}"),
            "Bearer eyJhbGciOi.e30.signature",
        ),
    ] {
        let told = story(&world, &target, &[("authorization", header)])
            .await
            .to_string();
        for secret in [
            &token[4..],
            uuid,
            "c2VjcmV0OnNlY3JldA",
            "signature",
            "abcdefghijk",
        ] {
            assert!(!told.contains(secret), "{secret} of {target} in:\n{told}");
        }
    }
}
