//! Rate limits (contract §8) on a clock that stands still: what is spent stays spent until it is moved.

use std::time::Duration;

use sidegate::base::clock::{Clock, UnixMillis};

use crate::harness::{Answer, Backend, Call, SECRET, Sidegate};

fn clock() -> Clock {
    Clock::manual(UnixMillis(1_800_000_000_000))
}

/// A sidecar whose only route names these limits, with two clients and a trusted proxy before it.
async fn limited(backend: &Backend, names: &str, tables: &str) -> Sidegate {
    Sidegate::before(backend)
        .server("trusted_proxies = [\"127.0.0.0/8\"]")
        .client("one", "sudo")
        .client("two", "sudo")
        .config(&format!(
            "[[routes]]\npath = \"/\"\nrate_limits = {names}\n[[routes]]\npath = \"/other\"\nrate_limits = {names}\n"
        ))
        .config(tables)
        .clock(clock())
        .start()
        .await
}

fn limit(name: &str, key: &str, burst: u32, more: &str) -> String {
    format!("[rate_limits.{name}]\nkey = {key}\nrate = \"1/min\"\nburst = {burst}\n{more}\n")
}

#[track_caller]
fn expect_limited(answer: &Answer, name: &str) {
    answer.expect_refusal(429, "rate_limited");
    let problem = answer.json();
    assert_eq!(
        problem["type"],
        "https://iana.org/assignments/http-problem-types#quota-exceeded"
    );
    assert_eq!(problem["title"], "Too Many Requests");
    assert!(problem["detail"].is_string());
    assert_eq!(problem["limit"], name);
    assert_eq!(problem["violated-policies"], serde_json::json!([name]));
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(wait >= 1);
}

/// `same` are requests of one key, of which two pass; `others` are of other keys.
async fn counts_by(
    key: &str,
    same: impl AsyncFn(&Sidegate) -> Vec<(Call, String)>,
    others: impl AsyncFn(&Sidegate) -> Vec<(Call, String)>,
) {
    let backend = Backend::recording().await;
    let gate = limited(&backend, "[\"l\"]", &limit("l", key, 2, "")).await;
    let same = same(&gate).await;
    for n in 0..4 {
        let (call, target) = &same[n % same.len()];
        let answer = call.get(target).await;
        if n < 2 {
            answer.expect_status(200);
        } else {
            expect_limited(&answer, "l");
        }
    }
    for (call, target) in others(&gate).await {
        let answer = call.get(&target).await;
        assert_eq!(answer.status, 200, "{key} {target}: {answer:?}");
    }
    assert_eq!(
        gate.metric("sidegate_rate_limited_total{limit=\"l\",mode=\"enforce\"}")
            .await,
        2.0
    );
}

fn to(call: &Call, target: &str) -> (Call, String) {
    (call.clone(), target.to_owned())
}

#[tokio::test]
async fn a_limit_by_client_counts_all_its_tokens_together() {
    counts_by(
        "\"client\"",
        async |gate| {
            vec![
                to(&gate.as_client("one").await, "/"),
                to(&gate.as_client("one").await, "/other"),
            ]
        },
        async |gate| vec![to(&gate.as_client("two").await, "/")],
    )
    .await;
}

#[tokio::test]
async fn a_limit_by_token_counts_each_token_however_it_is_sent() {
    counts_by(
        "\"token\"",
        async |gate| {
            let token = gate.token("one").await;
            vec![
                to(&gate.call().bearer(&token), "/"),
                to(&gate.call(), &format!("/?access_token={token}")),
            ]
        },
        async |gate| vec![to(&gate.as_client("one").await, "/")],
    )
    .await;
}

#[tokio::test]
async fn a_limit_by_ip_counts_whom_a_trusted_proxy_names_and_v6_by_64() {
    let from = async |gate: &Sidegate, ip: &str| {
        to(
            &gate.as_client("one").await.header("x-forwarded-for", ip),
            "/",
        )
    };
    counts_by(
        "\"ip\"",
        async |gate| {
            vec![
                from(gate, "1.1.1.1, 203.0.113.7").await,
                from(gate, "9.9.9.9, 203.0.113.7").await,
            ]
        },
        async |gate| {
            vec![
                from(gate, "203.0.113.8").await,
                to(&gate.as_client("one").await, "/"),
            ]
        },
    )
    .await;
    counts_by(
        "\"ip\"",
        async |gate| {
            vec![
                from(gate, "2001:db8:0:1::1").await,
                from(gate, "2001:db8:0:1:ffff::2").await,
            ]
        },
        async |gate| vec![from(gate, "2001:db8:0:2::1").await],
    )
    .await;
}

#[tokio::test]
async fn a_limit_by_user_counts_each_sudo_and_those_without_one_together() {
    counts_by(
        "\"user\"",
        async |gate| {
            vec![
                to(&gate.as_client("one").await, "/?sudo=uid:1"),
                to(&gate.as_client("two").await, "/?sudo=uid:%31"),
            ]
        },
        async |gate| {
            let one = gate.as_client("one").await;
            vec![
                to(&one, "/?sudo=uid:2"),
                to(&one, "/?sudo=loginName:1"),
                to(&one, "/"),
            ]
        },
    )
    .await;
    counts_by(
        "\"user\"",
        async |gate| {
            vec![
                to(&gate.as_client("one").await, "/"),
                to(&gate.as_client("two").await, "/"),
            ]
        },
        async |gate| vec![to(&gate.as_client("one").await, "/?sudo=uid:2")],
    )
    .await;
}

#[tokio::test]
async fn a_limit_by_tenant_counts_each_tenant() {
    counts_by(
        "\"tenant\"",
        async |gate| {
            vec![
                to(&gate.as_client("one").await, "/?tenantId=7"),
                to(&gate.as_client("two").await, "/?tenantId=7"),
            ]
        },
        async |gate| {
            let one = gate.as_client("one").await;
            vec![
                to(&one, "/?tenantId=8"),
                to(&one, "/?tenantCode=7"),
                to(&one, "/"),
            ]
        },
    )
    .await;
}

#[tokio::test]
async fn a_limit_by_route_counts_each_route() {
    counts_by(
        "\"route\"",
        async |gate| {
            vec![
                to(&gate.as_client("one").await, "/"),
                to(&gate.as_client("two").await, "/x"),
            ]
        },
        async |gate| vec![to(&gate.as_client("one").await, "/other/x")],
    )
    .await;
}

#[tokio::test]
async fn a_global_limit_counts_everything() {
    counts_by(
        "\"global\"",
        async |gate| {
            vec![
                to(&gate.as_client("one").await, "/"),
                to(&gate.as_client("two").await, "/other?sudo=uid:1"),
            ]
        },
        async |_| Vec::new(),
    )
    .await;
}

#[tokio::test]
async fn a_limit_by_several_parts_counts_each_combination() {
    counts_by(
        "[\"client\", \"route\"]",
        async |gate| {
            vec![
                to(&gate.as_client("one").await, "/"),
                to(&gate.as_client("one").await, "/x"),
            ]
        },
        async |gate| {
            vec![
                to(&gate.as_client("one").await, "/other"),
                to(&gate.as_client("two").await, "/"),
            ]
        },
    )
    .await;
}

#[tokio::test]
async fn whoever_waits_as_long_as_retry_after_says_passes() {
    let backend = Backend::recording().await;
    let gate = limited(&backend, "[\"l\"]", &limit("l", "\"client\"", 1, "")).await;
    let caller = gate.as_client("one").await;
    caller.get("/").await.expect_status(200);
    let answer = caller.get("/").await;
    expect_limited(&answer, "l");
    assert_eq!(answer.header("retry-after"), Some("60"));

    gate.clock.advance(Duration::from_millis(58_500));
    let answer = caller.get("/").await;
    assert_eq!(
        answer.header("retry-after"),
        Some("2"),
        "rounded up: {answer:?}"
    );

    gate.clock.advance(Duration::from_secs(2));
    caller.get("/").await.expect_status(200);
    expect_limited(&caller.get("/").await, "l");
}

#[tokio::test]
async fn a_refusal_by_one_limit_takes_nothing_from_another() {
    let backend = Backend::recording().await;
    let tables = limit("all", "\"global\"", 3, "") + &limit("each", "\"client\"", 1, "");
    let gate = limited(&backend, "[\"all\", \"each\"]", &tables).await;
    let (one, two) = (gate.as_client("one").await, gate.as_client("two").await);
    one.get("/").await.expect_status(200);
    for _ in 0..5 {
        expect_limited(&one.get("/").await, "each");
    }
    two.get("/").await.expect_status(200);
    // What the wide one refuses takes nothing from the narrow one either.
    gate.clock.advance(Duration::from_secs(60));
    one.get("/").await.expect_status(200);
    two.get("/").await.expect_status(200);
}

#[tokio::test]
async fn what_is_refused_before_the_limits_spends_nothing() {
    let backend = Backend::recording().await;
    let gate = limited(&backend, "[\"l\"]", &limit("l", "\"global\"", 1, "")).await;
    let caller = gate.as_client("one").await;
    gate.get("/").await.expect_refusal(401, "missing_token");
    caller
        .get("/?sudo=")
        .await
        .expect_refusal(400, "invalid_sudo");
    caller
        .get("/?tenantId=1&tenantCode=2")
        .await
        .expect_status(400);
    caller.get("/").await.expect_status(200);
    expect_limited(&caller.get("/").await, "l");
}

#[tokio::test]
async fn a_shadow_limit_refuses_nobody_and_counts() {
    let backend = Backend::recording().await;
    let tables = limit("l", "\"client\"", 1, "mode = \"shadow\"");
    let gate = limited(&backend, "[\"l\"]", &tables).await;
    let caller = gate.as_client("one").await;
    for _ in 0..4 {
        caller.get("/").await.expect_status(200);
    }
    let shadowed = gate
        .metric("sidegate_rate_limited_total{limit=\"l\",mode=\"shadow\"}")
        .await;
    assert_eq!(shadowed, 3.0);
    let enforced = gate
        .metric("sidegate_rate_limited_total{limit=\"l\",mode=\"enforce\"}")
        .await;
    assert_eq!(enforced, 0.0);
}

#[tokio::test]
async fn limits_of_a_client_stand_beside_those_of_the_route() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client_with("held", "sudo", "rate_limits = [\"own\", \"route\"]")
        .client("free", "sudo")
        .config("[[routes]]\npath = \"/\"\nrate_limits = [\"route\"]\n")
        .config(&limit("own", "\"client\"", 2, ""))
        .config(&limit("route", "\"client\"", 4, ""))
        .clock(clock())
        .start()
        .await;
    let (held, free) = (gate.as_client("held").await, gate.as_client("free").await);
    for _ in 0..2 {
        held.get("/").await.expect_status(200);
    }
    expect_limited(&held.get("/").await, "own");
    for _ in 0..4 {
        free.get("/").await.expect_status(200);
    }
    expect_limited(&free.get("/").await, "route");
}

#[tokio::test]
async fn public_and_optional_routes_are_limited_too() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .config("[[routes]]\npath = \"/p\"\naccess = \"public\"\nrate_limits = [\"l\"]\n[[routes]]\npath = \"/o\"\naccess = \"optional\"\nrate_limits = [\"l\"]\n")
        .config(&limit("l", "[\"ip\", \"route\"]", 1, ""))
        .clock(clock())
        .start()
        .await;
    for path in ["/p", "/o"] {
        gate.get(path).await.expect_status(200);
        expect_limited(&gate.get(path).await, "l");
    }
}

#[tokio::test]
async fn a_refused_request_tells_the_limit_and_its_instant_in_the_access_line() {
    let backend = Backend::recording().await;
    let gate = limited(&backend, "[\"l\"]", &limit("l", "\"client\"", 1, "")).await;
    gate.clock.advance(Duration::from_secs(5));
    let caller = gate.as_client("one").await;
    caller.get("/").await.expect_status(200);
    expect_limited(&caller.get("/").await, "l");
    let line = gate.logged("access", |line| line["status"] == 429).await;
    assert_eq!(line["error"], "rate_limited");
    assert_eq!(line["limit"], "l");
    assert_eq!(line["limit_ns"], 5_000_000_000_u64);
    let passed = gate
        .logged("access", |line| {
            line["path"] == "/" && line["status"] == 200
        })
        .await;
    assert_eq!(passed["limit_ns"], 5_000_000_000_u64, "for replaying it");
    assert_eq!(passed["limit"], serde_json::Value::Null);
}

/// A sidecar where three failures a caller are let pass.
async fn strict(backend: &Backend) -> Sidegate {
    Sidegate::before(backend)
        .server("trusted_proxies = [\"127.0.0.0/8\"]")
        .client("demo", "sudo")
        .config("[rate_limits.failed-credentials]\nrate = \"1/min\"\nburst = 3\n")
        .clock(clock())
        .start()
        .await
}

const TOKENS: &str = "/api/oauth2/server/tokens";

#[tokio::test]
async fn only_what_fails_counts_as_a_failed_credential_and_only_that_gets_429() {
    let backend = Backend::recording().await;
    let other = Sidegate::before(&backend)
        .client("demo", "sudo")
        .start()
        .await;
    // Well-formed, and of another store.
    let unknown = other.token("demo").await;
    let wrong_secret =
        format!("{TOKENS}?grant_type=client_credentials&client_id=demo&client_secret=no");
    let wrong_client =
        format!("{TOKENS}?grant_type=client_credentials&client_id=nobody&client_secret={SECRET}");
    let cases = [
        ("bearer", "/".to_owned(), Some(unknown.as_str()), 401),
        ("malformed bearer", "/".to_owned(), Some("no-token"), 401),
        (
            "query token",
            format!("/?access_token={unknown}"),
            None,
            401,
        ),
        ("client secret", wrong_secret, None, 401),
        ("client id", wrong_client, None, 401),
        (
            "check",
            format!("{TOKENS}/check?token={unknown}"),
            None,
            400,
        ),
        (
            "malformed check",
            format!("{TOKENS}/check?token=x"),
            None,
            400,
        ),
        (
            "revoke",
            format!("{TOKENS}/revoke?token={unknown}"),
            None,
            200,
        ),
    ];
    for (name, target, token, status) in cases {
        let gate = strict(&backend).await;
        let good = gate.token("demo").await;
        let caller = match token {
            Some(token) => gate.call().bearer(token),
            None => gate.call(),
        };
        for _ in 0..3 {
            let answer = caller.get(&target).await;
            assert_eq!(answer.status.as_u16(), status, "{name}: {answer:?}");
        }
        for _ in 0..2 {
            let answer = caller.get(&target).await;
            assert_eq!(answer.status, 429, "{name}: {answer:?}");
            expect_limited(&answer, "failed-credentials");
            assert_eq!(answer.header("retry-after"), Some("60"), "{name}");
        }
        // Good callers of the same address go on in every way.
        gate.call().bearer(&good).get("/").await.expect_status(200);
        gate.get(&format!("/?access_token={good}"))
            .await
            .expect_status(200);
        gate.get(&format!("{TOKENS}/check?token={good}"))
            .await
            .expect_status(200);
        let another = gate.token("demo").await;
        let revoked = gate.get(&format!("{TOKENS}/revoke?token={another}")).await;
        assert_eq!(revoked.json()["code"], 0, "{name}");
        // What has no credential fails none.
        gate.get("/").await.expect_refusal(401, "missing_token");
        // Another address has a count of its own.
        let elsewhere = caller.clone().header("x-forwarded-for", "203.0.113.9");
        assert_eq!(
            elsewhere.get(&target).await.status.as_u16(),
            status,
            "{name}"
        );
        // And time heals.
        gate.clock.advance(Duration::from_secs(60));
        assert_eq!(caller.get(&target).await.status.as_u16(), status, "{name}");
    }
}

#[tokio::test]
async fn failures_of_all_kinds_are_counted_together() {
    let backend = Backend::recording().await;
    let gate = strict(&backend).await;
    gate.call()
        .bearer("no-token")
        .get("/")
        .await
        .expect_status(401);
    gate.get("/?access_token=no-token").await.expect_status(401);
    gate.get(&format!("{TOKENS}/check?token=no-token"))
        .await
        .expect_status(400);
    let wrong = format!("{TOKENS}?grant_type=client_credentials&client_id=demo&client_secret=no");
    expect_limited(&gate.get(&wrong).await, "failed-credentials");
    let refused = gate
        .metric("sidegate_rate_limited_total{limit=\"failed-credentials\",mode=\"enforce\"}")
        .await;
    assert_eq!(refused, 1.0);
}

#[tokio::test]
async fn a_shadow_limit_of_failed_credentials_refuses_nobody_and_counts() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .config(
            "[rate_limits.failed-credentials]\nrate = \"1/min\"\nburst = 1\nmode = \"shadow\"\n",
        )
        .clock(clock())
        .start()
        .await;
    for _ in 0..3 {
        gate.call()
            .bearer("no-token")
            .get("/")
            .await
            .expect_refusal(401, "invalid_token");
        gate.get(&format!("{TOKENS}/check?token=no-token"))
            .await
            .expect_status(400);
    }
    let counted = gate
        .metric("sidegate_rate_limited_total{limit=\"failed-credentials\",mode=\"shadow\"}")
        .await;
    assert_eq!(counted, 5.0);
}
