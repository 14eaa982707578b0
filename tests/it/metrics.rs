//! What is exported at `/metrics` (contract §9), and that it counts.

use std::collections::BTreeSet;

use sidegate::observe::metrics::TABLE;

use crate::harness::{Backend, SECRET, Sidegate};

const TOKENS: &str = "/api/oauth2/server/tokens";

async fn gate(backend: &Backend) -> Sidegate {
    Sidegate::before(backend)
        .client("demo", "sudo")
        .config("[[routes]]\npath = \"/\"\nrate_limits = [\"l\"]\n[[routes]]\npath = \"/o\"\nmode = \"observe\"\n[rate_limits.l]\nkey = \"client\"\nrate = \"1/min\"\nburst = 2\n")
        .start()
        .await
}

#[tokio::test]
async fn what_is_exported_is_what_the_table_says() {
    let backend = Backend::recording().await;
    let gate = gate(&backend).await;
    let caller = gate.as_client("demo").await;
    for target in ["/", "/", "/", "/o?sudo=x"] {
        caller.get(target).await;
    }
    let answer = gate.admin_get("/metrics").await;
    answer.expect_status(200);
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .contains("version=0.0.4")
            || answer
                .header("content-type")
                .unwrap()
                .contains("openmetrics")
    );
    let text = answer.text();
    let exported: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split_once(' ').unwrap())
        .collect();
    let expected: BTreeSet<_> = TABLE.iter().map(|one| (one.name, one.kind)).collect();
    assert_eq!(exported, expected);
    for (name, _) in exported {
        let help = format!("# HELP {name} ");
        assert!(text.contains(&help), "{name} has no help");
        let sample = text.lines().any(|line| line.starts_with(name));
        assert!(sample, "{name} has no sample");
    }
}

#[tokio::test]
async fn requests_count_by_route_and_outcome_and_labels_hold_nothing_a_peer_chose() {
    let backend = Backend::recording().await;
    let gate = gate(&backend).await;
    let caller = gate.as_client("demo").await;
    caller.get("/a").await.expect_status(200);
    caller.get("/b?sudo=uid:made-up").await.expect_status(200);
    caller.get("/c").await.expect_status(429);
    gate.get("/made/up?x=made-up").await.expect_status(401);
    gate.get("/o/x").await.expect_status(200);
    gate.get("/%zz").await.expect_status(400);

    let count = async |route: &str, outcome: &str| {
        // The line and the counters are written when the answer has ended, which may be after it is read.
        let sample = format!("sidegate_requests_total{{route=\"{route}\",outcome=\"{outcome}\"}}");
        let mut value = 0.0;
        crate::harness::eventually(&sample, async || {
            value = gate.metric(&sample).await;
            value > 0.0
        })
        .await;
        value
    };
    assert_eq!(count("/", "forwarded").await, 2.0);
    assert_eq!(count("/", "rate_limited").await, 1.0);
    assert_eq!(count("/", "missing_token").await, 1.0);
    assert_eq!(count("/o", "forwarded").await, 1.0);
    assert_eq!(count("-", "invalid_path").await, 1.0);
    assert_eq!(count("-", "own_endpoint").await, 1.0);
    assert_eq!(
        gate.metric("sidegate_request_duration_seconds_count{route=\"/\"}")
            .await,
        4.0
    );
    assert_eq!(
        gate.metric("sidegate_upstream_duration_seconds_count{route=\"/\"}")
            .await,
        2.0
    );
    assert_eq!(gate.metric("sidegate_limit_keys{limit=\"l\"}").await, 1.0);
    let text = gate.admin_get("/metrics").await.text();
    assert!(!text.contains("made") && !text.contains("demo"), "{text}");
}

#[tokio::test]
async fn tokens_issued_and_revoked_and_the_state_of_the_process_are_told() {
    let backend = Backend::recording().await;
    let gate = gate(&backend).await;
    for (name, value) in [
        ("sidegate_ready", 1.0),
        ("sidegate_draining", 0.0),
        ("sidegate_store_up", 1.0),
        ("sidegate_tokens_issued_total", 0.0),
        ("sidegate_log_lines_dropped_total", 0.0),
        (
            concat!(
                "sidegate_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"}"
            ),
            1.0,
        ),
    ] {
        assert_eq!(gate.metric(name).await, value, "{name}");
    }
    let token = gate.token("demo").await;
    gate.token("demo").await;
    gate.get(&format!(
        "{TOKENS}?grant_type=client_credentials&client_id=demo&client_secret={SECRET}x"
    ))
    .await
    .expect_status(401);
    gate.get(&format!("{TOKENS}/revoke?token={token}"))
        .await
        .expect_status(200);
    gate.get(&format!("{TOKENS}/revoke?token={token}"))
        .await
        .expect_status(200);
    assert_eq!(gate.metric("sidegate_tokens_issued_total").await, 2.0);
    assert_eq!(gate.metric("sidegate_tokens_revoked_total").await, 1.0);
    gate.running().begin_drain();
    assert_eq!(gate.metric("sidegate_ready").await, 0.0);
    assert_eq!(gate.metric("sidegate_draining").await, 1.0);
}
