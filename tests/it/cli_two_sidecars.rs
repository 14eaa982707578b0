//! Commands while sidecars run (contract §1): what they do holds when they return, in every sidecar of the
//! store; what they print can be read by scripts.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Backend, Program, SECRET, Sidegate, run, run_with};

const TOKENS: &str = "/api/oauth2/server/tokens";

fn grant(client: &str, secret: &str) -> String {
    format!("{TOKENS}?grant_type=client_credentials&client_id={client}&client_secret={secret}")
}

/// Two sidecars on one store: one in this process, one of its own.
async fn two(backend: &Backend) -> (Sidegate, Program) {
    let first = Sidegate::before(backend)
        .client("file", "sudo read")
        .start()
        .await;
    let second = Sidegate::before(backend)
        .client("file", "sudo read")
        .beside(&first)
        .spawn()
        .await;
    (first, second)
}

async fn expect_everywhere(first: &Sidegate, second: &Program, token: &str, status: u16) {
    first
        .call()
        .bearer(token)
        .get("/")
        .await
        .expect_status(status);
    second
        .call()
        .bearer(token)
        .get("/")
        .await
        .expect_status(status);
}

#[track_caller]
fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[tokio::test]
async fn a_client_lives_in_every_sidecar_from_add_to_remove() {
    let backend = Backend::recording().await;
    let (first, second) = two(&backend).await;
    let folder = first.folder();

    let added = run(
        folder,
        &[
            "client", "add", "reports", "--scope", "read", "--tenant", "id:7",
        ],
    )
    .await
    .expect_code(0);
    let secret = added.word().to_owned();
    assert_eq!(added.out, format!("{secret}\n"), "the secret alone");
    assert!(
        secret.len() >= 32 && !added.err.contains(&secret),
        "{added:?}"
    );
    first
        .get(&grant("reports", &secret))
        .await
        .expect_status(200);
    let answer = second.get(&grant("reports", &secret)).await;
    answer.expect_status(200);
    assert_eq!(answer.json()["scope"], "read");
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let caller = first.call().bearer(&token);
    caller.get("/?tenantId=7").await.expect_status(200);
    caller
        .get("/?tenantId=8")
        .await
        .expect_refusal(403, "tenant_not_allowed");

    run(folder, &["client", "add", "reports"])
        .await
        .expect_code(1);
    run(folder, &["client", "add", "file"]).await.expect_code(1);
    run(folder, &["client", "add", "no good"])
        .await
        .expect_code(64);
    run(
        folder,
        &["client", "add", "x", "--sudo", "uid:*", "--scope", "read"],
    )
    .await
    .expect_code(64);

    run(folder, &["client", "remove", "reports"])
        .await
        .expect_code(0);
    expect_everywhere(&first, &second, &token, 401).await;
    first
        .get(&grant("reports", &secret))
        .await
        .expect_status(401);
    second
        .get(&grant("reports", &secret))
        .await
        .expect_status(401);
    run(folder, &["client", "remove", "reports"])
        .await
        .expect_code(1);
    run(folder, &["client", "remove", "file"])
        .await
        .expect_code(1);
}

#[tokio::test]
async fn a_rotated_secret_ends_at_once_or_after_its_overlap() {
    let backend = Backend::recording().await;
    let (first, second) = two(&backend).await;
    let folder = first.folder();
    let one = run(folder, &["client", "add", "app", "--json"])
        .await
        .expect_code(0)
        .json();
    assert_eq!(keys(&one), ["client_id", "client_secret"]);
    assert_eq!(one["client_id"], "app");
    let one = one["client_secret"].as_str().unwrap().to_owned();

    let two = run(
        folder,
        &["client", "rotate-secret", "app", "--overlap", "24h"],
    )
    .await
    .expect_code(0);
    let three = run(
        folder,
        &["client", "rotate-secret", "app", "--overlap", "1h"],
    )
    .await
    .expect_code(0);
    for secret in [&one, two.word(), three.word()] {
        first.get(&grant("app", secret)).await.expect_status(200);
        second.get(&grant("app", secret)).await.expect_status(200);
    }

    let four = run_with(
        folder,
        &["client", "rotate-secret", "app", "--secret-stdin"],
        &[],
        "a-secret-of-my-own-0123456789\n",
    )
    .await
    .expect_code(0);
    assert_eq!(four.out, "");
    for secret in [&one, two.word(), three.word()] {
        first.get(&grant("app", secret)).await.expect_status(401);
        second.get(&grant("app", secret)).await.expect_status(401);
    }
    first
        .get(&grant("app", "a-secret-of-my-own-0123456789"))
        .await
        .expect_status(200);
    second
        .get(&grant("app", "a-secret-of-my-own-0123456789"))
        .await
        .expect_status(200);
    run(folder, &["client", "rotate-secret", "nobody"])
        .await
        .expect_code(1);
    run(folder, &["client", "rotate-secret", "file"])
        .await
        .expect_code(1);
}

#[tokio::test]
async fn listings_are_one_json_array_without_secrets() {
    let backend = Backend::recording().await;
    let (first, _second) = two(&backend).await;
    let folder = first.folder();
    let secret = run(
        folder,
        &["client", "add", "app", "--scope", "sudo", "--sudo", "uid:*"],
    )
    .await
    .expect_code(0);
    let token = run(folder, &["token", "issue", "--client", "app"])
        .await
        .expect_code(0);

    let clients = run(folder, &["client", "list", "--json"])
        .await
        .expect_code(0);
    assert!(!clients.out.contains(secret.word()) && !clients.out.contains(SECRET));
    let clients = clients.json();
    let ids: Vec<_> = clients
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["client_id"])
        .collect();
    assert_eq!(ids, ["app", "file"]);
    assert_eq!(clients[0]["sudo"], json!(["uid:*"]));
    assert_eq!(clients[0]["origin"], "store");
    assert_eq!(clients[1]["origin"], "file");

    let tokens = run(folder, &["token", "list", "--json"])
        .await
        .expect_code(0);
    assert!(!tokens.out.contains("sgt_") && !tokens.out.contains(token.word()));
    let tokens = tokens.json();
    assert_eq!(tokens.as_array().unwrap().len(), 1);
    assert_eq!(tokens[0]["client_id"], "app");
    assert_eq!(tokens[0]["state"], "live");
    assert_eq!(tokens[0]["scope"], "sudo");
    assert!(tokens[0]["id"].is_i64());

    for listing in [
        &["client", "list"][..],
        &["token", "list"],
        &["token", "list", "--all"],
    ] {
        let ran = run(folder, listing).await.expect_code(0);
        assert!(ran.out.contains("app"), "{ran:?}");
        assert!(
            !ran.out.contains("sgt_") && !ran.out.contains(secret.word()),
            "{ran:?}"
        );
    }
}

#[tokio::test]
async fn a_token_issued_by_a_command_passes_the_next_request() {
    let backend = Backend::recording().await;
    let (first, second) = two(&backend).await;
    let folder = first.folder();
    let issued = run(folder, &["token", "issue", "--client", "file"])
        .await
        .expect_code(0);
    assert_eq!(issued.out.lines().count(), 1);
    assert!(issued.word().starts_with("sgt_"));
    assert!(!issued.err.contains(issued.word()));
    expect_everywhere(&first, &second, issued.word(), 200).await;

    let json = run(
        folder,
        &[
            "token", "issue", "--client", "file", "--scope", "read", "--ttl", "10m", "--json",
        ],
    )
    .await
    .expect_code(0)
    .json();
    assert_eq!(
        keys(&json),
        ["access_token", "expires_in", "id", "scope", "token_type"]
    );
    assert_eq!(json["expires_in"], "600");
    assert_eq!(json["scope"], "read");
    assert_eq!(json["token_type"], "bearer");
    expect_everywhere(&first, &second, json["access_token"].as_str().unwrap(), 200).await;
    assert_eq!(
        backend.requests().last().unwrap().header("x-auth-token-id"),
        Some(json["id"].to_string().as_str())
    );

    let refused = run(
        folder,
        &["token", "issue", "--client", "file", "--scope", "admin"],
    )
    .await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    run(folder, &["token", "issue", "--client", "nobody"])
        .await
        .expect_code(1);
    run(
        folder,
        &["token", "issue", "--client", "file", "--ttl", "soon"],
    )
    .await
    .expect_code(64);
}

#[tokio::test]
async fn every_selector_of_revoke_holds_when_it_returns() {
    let backend = Backend::recording().await;
    let (first, second) = two(&backend).await;
    let folder = first.folder();
    run(folder, &["client", "add", "other", "--scope", "read"])
        .await
        .expect_code(0);
    let issue = async |client: &str| {
        let json = run(folder, &["token", "issue", "--client", client, "--json"])
            .await
            .expect_code(0)
            .json();
        let token = json["access_token"].as_str().unwrap().to_owned();
        // In both caches now.
        expect_everywhere(&first, &second, &token, 200).await;
        (json["id"].to_string(), token)
    };

    let (kept_id, kept) = issue("other").await;
    let (id, token) = issue("file").await;
    run(folder, &["token", "revoke", &id]).await.expect_code(0);
    expect_everywhere(&first, &second, &token, 401).await;
    run(folder, &["token", "revoke", &id]).await.expect_code(1);
    run(folder, &["token", "revoke", "999999"])
        .await
        .expect_code(1);

    let (_, token) = issue("file").await;
    let stdin = ["token", "revoke", "--token-stdin"];
    run_with(folder, &stdin, &[], &format!("{token}\n"))
        .await
        .expect_code(0);
    expect_everywhere(&first, &second, &token, 401).await;
    run_with(folder, &stdin, &[], &token).await.expect_code(1);
    run_with(folder, &stdin, &[], "no token")
        .await
        .expect_code(1);

    let ((_, one), (_, two)) = (issue("file").await, issue("file").await);
    let many = run(folder, &["token", "revoke", "--client", "file", "--json"])
        .await
        .expect_code(0);
    assert_eq!(many.json(), json!({"revoked": 2}));
    expect_everywhere(&first, &second, &one, 401).await;
    expect_everywhere(&first, &second, &two, 401).await;
    expect_everywhere(&first, &second, &kept, 200).await;
    let none = run(folder, &["token", "revoke", "--client", "file", "--json"])
        .await
        .expect_code(0);
    assert_eq!(none.json(), json!({"revoked": 0}));

    let none = run(folder, &["token", "revoke", "--before", "1h", "--json"])
        .await
        .expect_code(0);
    assert_eq!(none.json(), json!({"revoked": 0}));
    expect_everywhere(&first, &second, &kept, 200).await;
    let all = run(
        folder,
        &[
            "token",
            "revoke",
            "--before",
            "2099-01-01T00:00:00Z",
            "--json",
        ],
    )
    .await
    .expect_code(0);
    assert_eq!(all.json(), json!({"revoked": 1}));
    expect_everywhere(&first, &second, &kept, 401).await;
    run(folder, &["token", "revoke", "--before", "yesterday"])
        .await
        .expect_code(64);
    // It meant those that were there, not those of the future.
    let (_, token) = issue("file").await;
    expect_everywhere(&first, &second, &token, 200).await;

    let listed = run(folder, &["token", "inspect", &kept_id, "--json"])
        .await
        .expect_code(0)
        .json();
    assert_eq!(listed["state"], "revoked");
}

#[tokio::test]
async fn inspect_tells_what_became_of_a_token_by_number_and_by_itself() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("file", "sudo read")
        .start()
        .await;
    let folder = gate.folder();
    let issued = run(folder, &["token", "issue", "--client", "file", "--json"])
        .await
        .expect_code(0)
        .json();
    let (id, token) = (
        issued["id"].to_string(),
        issued["access_token"].as_str().unwrap(),
    );
    let by_id = run(folder, &["token", "inspect", &id, "--json"])
        .await
        .expect_code(0);
    let by_itself = run_with(
        folder,
        &["token", "inspect", "--token-stdin", "--json"],
        &[],
        token,
    )
    .await
    .expect_code(0);
    assert_eq!(by_id.json(), by_itself.json());
    assert_eq!(
        keys(&by_id.json()),
        [
            "client_id",
            "expires",
            "id",
            "issued",
            "revoked",
            "scope",
            "state"
        ]
    );
    assert_eq!(by_id.json()["state"], "live");
    assert_eq!(by_id.json()["revoked"], Value::Null);
    assert!(!by_id.out.contains("sgt_"));
    run(folder, &["token", "inspect", "424242"])
        .await
        .expect_code(1);
}

#[tokio::test]
async fn a_token_revoked_at_one_sidecar_is_soon_refused_by_the_other() {
    let backend = Backend::recording().await;
    let (first, second) = two(&backend).await;
    let token = first.token("file").await;
    expect_everywhere(&first, &second, &token, 200).await;
    second
        .get(&format!("{TOKENS}/revoke?token={token}"))
        .await
        .expect_status(200);
    second
        .call()
        .bearer(&token)
        .get("/")
        .await
        .expect_refusal(401, "invalid_token");
    crate::harness::eventually("the other hears of it", async || {
        first.call().bearer(&token).get("/").await.status == 401
    })
    .await;
}

#[tokio::test]
async fn a_client_of_the_file_shadows_one_of_the_store() {
    let backend = Backend::recording().await;
    let stored = Sidegate::before(&backend).start().await;
    let folder = stored.folder();
    let secret = run(folder, &["client", "add", "app", "--scope", "read"])
        .await
        .expect_code(0);
    let shadowing = Sidegate::before(&backend)
        .client("app", "sudo")
        .beside(&stored)
        .start()
        .await;
    shadowing
        .get(&grant("app", secret.word()))
        .await
        .expect_status(401);
    let answer = shadowing.get(&grant("app", SECRET)).await;
    assert_eq!(answer.json()["scope"], "sudo");
    let listed = run(folder, &["client", "list", "--json"])
        .await
        .expect_code(0)
        .json();
    let origins: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["origin"], &one["shadowed"]))
        .collect();
    assert_eq!(
        origins,
        [
            (&json!("file"), &json!(false)),
            (&json!("store"), &json!(true))
        ]
    );
}

#[tokio::test]
async fn without_a_sidecar_commands_work_and_the_next_start_knows() {
    let backend = Backend::recording().await;
    let builder = Sidegate::before(&backend);
    let folder = builder.write();
    let nothing = run(folder.path(), &["token", "list", "--json"])
        .await
        .expect_code(0);
    assert_eq!(nothing.json(), json!([]));
    assert!(
        !folder.path().join("sidegate.db").exists(),
        "a listing makes no store"
    );
    run(folder.path(), &["client", "add", "early"])
        .await
        .expect_code(0);
    let token = run(folder.path(), &["token", "issue", "--client", "early"])
        .await
        .expect_code(0);
    let gate = builder.start().await;
    gate.call()
        .bearer(token.word())
        .get("/")
        .await
        .expect_status(200);
}

#[tokio::test]
async fn a_sidecar_that_hangs_holds_no_command_up_for_long() {
    let backend = Backend::recording().await;
    let sidecar = Sidegate::before(&backend)
        .client("file", "read")
        .spawn()
        .await;
    sidecar.signal("STOP");
    let begun = Instant::now();
    let issued = sidecar
        .run(&["token", "issue", "--client", "file"])
        .await
        .expect_code(0);
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    sidecar.signal("CONT");
    sidecar
        .call()
        .bearer(issued.word())
        .get("/")
        .await
        .expect_status(200);
}
