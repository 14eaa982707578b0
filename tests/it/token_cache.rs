//! The cache before the store (contract §3.3 and §4): one read for many, nothing outlives its revocation,
//! and a store that is away is never a "no".

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sidegate::base::clock::{Clock, UnixMillis};
use tokio::sync::Barrier;

use crate::harness::{Answer, Backend, Sidegate, eventually, run};

const READS: &str = "sidegate_store_reads_total{result=\"ok\"}";
const TOKENS: &str = "/api/oauth2/server/tokens";

fn clock() -> Clock {
    Clock::manual(UnixMillis(1_800_000_000_000))
}

async fn gate(backend: &Backend) -> Sidegate {
    Sidegate::before(backend)
        .client("demo", "sudo")
        .config("[[routes]]\npath = \"/\"\n[[routes]]\npath = \"/strict\"\non_store_error = \"refuse\"\n[[routes]]\npath = \"/public\"\naccess = \"public\"\n")
        .clock(clock())
        .start()
        .await
}

/// A well-formed token that this sidecar's store does not know.
async fn unknown(backend: &Backend) -> String {
    let other = Sidegate::before(backend)
        .client("demo", "sudo")
        .start()
        .await;
    other.token("demo").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_first_uses_at_once_are_one_store_read() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("demo", "sudo")
        .start()
        .await;
    let token = gate.token("demo").await;
    let before = gate.metric(READS).await;
    let all_at_once = Arc::new(Barrier::new(64));
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (caller, start) = (gate.call().bearer(&token), Arc::clone(&all_at_once));
        asking.spawn(async move {
            start.wait().await;
            caller.get("/").await
        });
    }
    for answer in asking.join_all().await {
        answer.expect_status(200);
    }
    assert_eq!(gate.metric(READS).await - before, 1.0);
    assert_eq!(backend.requests().len(), 64);
}

#[tokio::test]
async fn a_cached_token_costs_no_more_reads_and_an_unknown_one_only_its_first() {
    let backend = Backend::recording().await;
    let (gate, unknown) = (gate(&backend).await, unknown(&backend).await);
    let caller = gate.as_client("demo").await;
    let before = gate.metric(READS).await;
    for _ in 0..5 {
        caller.get("/").await.expect_status(200);
    }
    assert_eq!(gate.metric(READS).await - before, 1.0);
    for _ in 0..5 {
        let answer = gate.call().bearer(&unknown).get("/").await;
        answer.expect_refusal(401, "invalid_token");
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Bearer realm=\"sidegate\", error=\"invalid_token\"")
        );
    }
    assert_eq!(gate.metric(READS).await - before, 2.0);
    assert_eq!(
        gate.metric("sidegate_token_lookups_total{result=\"negative_hit\"}")
            .await,
        4.0
    );
    assert_eq!(gate.metric("sidegate_cached_tokens").await, 1.0);
}

#[tokio::test]
async fn a_flood_of_unknown_tokens_pushes_no_good_one_out() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("demo", "sudo")
        .config("[tokens]\ncache_capacity = 4\n[rate_limits.failed-credentials]\nrate = \"1000/s\"\nburst = 1000\n")
        .start()
        .await;
    let other = Sidegate::before(&backend)
        .client("demo", "sudo")
        .start()
        .await;
    let caller = gate.as_client("demo").await;
    caller.get("/").await.expect_status(200);
    for _ in 0..32 {
        let unknown = other.token("demo").await;
        gate.call()
            .bearer(&unknown)
            .get("/")
            .await
            .expect_status(401);
    }
    let before = gate.metric(READS).await;
    caller.get("/").await.expect_status(200);
    assert_eq!(gate.metric(READS).await, before);
}

#[tokio::test]
async fn a_token_ends_at_its_expiry_in_the_cache_too() {
    let backend = Backend::recording().await;
    let gate = gate(&backend).await;
    let caller = gate.as_client("demo").await;
    caller.get("/").await.expect_status(200);
    gate.clock.advance(Duration::from_secs(12 * 3600 - 1));
    caller.get("/").await.expect_status(200);
    gate.clock.advance(Duration::from_secs(1));
    caller.get("/").await.expect_refusal(401, "invalid_token");
    assert_eq!(backend.requests().len(), 2);
}

#[tokio::test]
async fn a_token_revoked_by_a_command_is_refused_by_the_next_request() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("demo", "sudo")
        .start()
        .await;
    for _ in 0..3 {
        let token = gate.token("demo").await;
        let caller = gate.call().bearer(&token);
        caller.get("/").await.expect_status(200);
        let id = backend
            .requests()
            .last()
            .unwrap()
            .header("x-auth-token-id")
            .unwrap()
            .to_owned();
        run(gate.folder(), &["token", "revoke", &id])
            .await
            .expect_code(0);
        caller.get("/").await.expect_refusal(401, "invalid_token");
    }
}

/// The files of a sidecar's store, moved away and back.
struct Store(PathBuf);

impl Store {
    fn of(gate: &Sidegate) -> Self {
        Self(gate.folder().join("sidegate.db"))
    }

    fn take_away(&self) {
        std::fs::rename(&self.0, self.0.with_extension("away")).unwrap();
    }

    fn put_back(&self) {
        std::fs::rename(self.0.with_extension("away"), &self.0).unwrap();
    }
}

#[track_caller]
fn expect_away(answer: &Answer) {
    answer.expect_refusal(503, "store_unavailable");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(wait > 0);
    assert_eq!(answer.header("www-authenticate"), None);
}

async fn until_store_up_is(gate: &Sidegate, up: f64) {
    eventually("the sidecar notices", async || {
        gate.metric("sidegate_store_up").await == up
    })
    .await;
}

#[tokio::test]
async fn while_the_store_is_away_cached_tokens_pass_until_cache_ttl_and_unknown_ones_are_503() {
    let backend = Backend::recording().await;
    let (gate, unknown) = (gate(&backend).await, unknown(&backend).await);
    let cached = gate.as_client("demo").await;
    let fresh = gate.as_client("demo").await;
    cached.get("/").await.expect_status(200);
    let store = Store::of(&gate);

    store.take_away();
    until_store_up_is(&gate, 0.0).await;

    cached.get("/").await.expect_status(200);
    expect_away(&fresh.get("/").await);
    expect_away(&gate.call().bearer(&unknown).get("/").await);
    // On a route that refuses, the cache is of no use while the store is known to be away.
    expect_away(&cached.get("/strict").await);
    // What needs no store goes on: no credential, a forged one, public routes.
    gate.get("/").await.expect_refusal(401, "missing_token");
    gate.call()
        .bearer("sgt_forged")
        .get("/")
        .await
        .expect_refusal(401, "invalid_token");
    gate.get("/public").await.expect_status(200);
    // One outage of the store must not take every replica out.
    gate.admin_get("/readyz").await.expect_status(200);
    // Own endpoints say so too.
    let secret = crate::harness::SECRET;
    let away = gate
        .get(&format!(
            "{TOKENS}?grant_type=client_credentials&client_id=demo&client_secret={secret}"
        ))
        .await;
    away.expect_status(503);
    assert!(away.header("retry-after").is_some());
    assert_eq!(away.header("cache-control"), Some("no-store"));
    for path in ["check", "revoke"] {
        let answer = gate.get(&format!("{TOKENS}/{path}?token={unknown}")).await;
        answer.expect_status(503);
        assert!(answer.header("retry-after").is_some());
    }

    // Unconfirmed for longer than cache_ttl (30 s): can't tell any more.
    gate.clock.advance(Duration::from_secs(31));
    expect_away(&cached.get("/").await);

    store.put_back();
    until_store_up_is(&gate, 1.0).await;
    cached.get("/").await.expect_status(200);
    fresh.get("/strict").await.expect_status(200);
    gate.call()
        .bearer(&unknown)
        .get("/")
        .await
        .expect_refusal(401, "invalid_token");
}

#[tokio::test]
async fn a_store_that_answers_confirms_what_is_cached_for_as_long_as_it_does() {
    let backend = Backend::recording().await;
    let gate = gate(&backend).await;
    let caller = gate.as_client("demo").await;
    caller.get("/").await.expect_status(200);
    let reads = gate.metric(READS).await;
    for _ in 0..3 {
        gate.clock.advance(Duration::from_secs(25));
        // Until the next round of the change feed the cache may be unsure and read: never wrong.
        caller.get("/").await.expect_status(200);
    }
    assert!(gate.metric(READS).await - reads <= 3.0);
}

#[tokio::test]
async fn a_token_of_a_removed_client_is_invalid_also_from_the_cache() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend).start().await;
    let folder = gate.folder();
    run(folder, &["client", "add", "brief", "--scope", "read"])
        .await
        .expect_code(0);
    let token = run(folder, &["token", "issue", "--client", "brief"])
        .await
        .expect_code(0);
    let caller = gate.call().bearer(token.word());
    caller.get("/").await.expect_status(200);
    run(folder, &["client", "remove", "brief"])
        .await
        .expect_code(0);
    caller.get("/").await.expect_refusal(401, "invalid_token");
    // Also when one of the same name comes after it.
    run(folder, &["client", "add", "brief", "--scope", "read"])
        .await
        .expect_code(0);
    caller.get("/").await.expect_refusal(401, "invalid_token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_is_never_undone_by_requests_under_way() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("demo", "sudo")
        .start()
        .await;
    for _ in 0..20 {
        let token = gate.token("demo").await;
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let caller = gate.call().bearer(&token);
            asking.spawn(async move { caller.get("/").await.status.as_u16() });
        }
        let revoked = gate.get(&format!("{TOKENS}/revoke?token={token}")).await;
        assert_eq!(revoked.json()["code"], 0);
        gate.call()
            .bearer(&token)
            .get("/")
            .await
            .expect_refusal(401, "invalid_token");
        for status in asking.join_all().await {
            assert!(matches!(status, 200 | 401), "{status}");
        }
        gate.call()
            .bearer(&token)
            .get("/")
            .await
            .expect_refusal(401, "invalid_token");
    }
}
