//! The steps in their order, and what each says.

use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::tests_support::*;
use super::*;
use crate::base::units::Rate;
use crate::limits::{KeyPart, Mode as LimitMode, Settings as LimitSettings};

fn limit(name: &str, key: KeyPart, burst: u32) -> LimitSettings {
    LimitSettings {
        name: name.to_owned(),
        key: vec![key],
        rate: Rate {
            count: NonZeroU32::MIN,
            period: Duration::from_secs(60),
        },
        burst: NonZeroU32::new(burst).unwrap(),
        mode: LimitMode::Enforce,
        max_keys: 1_000,
    }
}

/// Writes down what it is told.
#[derive(Default)]
struct Notes(Vec<String>);

impl Witness for Notes {
    fn route(&mut self, route: &Arc<Route>) {
        self.0.push(format!("route {}", route.name));
    }
    fn credential(&mut self, kind: CredentialKind) {
        self.0.push(format!("credential {kind:?}"));
    }
    fn token(&mut self, token: &Arc<TokenFacts>) {
        self.0.push(format!("token {}", token.id()));
    }
    fn sudo(&mut self, sudo: &str) {
        self.0.push(format!("sudo {sudo}"));
    }
    fn tenant(&mut self, tenant: &str) {
        self.0.push(format!("tenant {tenant}"));
    }
    fn limits(&mut self, spent: &[Spent], _: Now) {
        let names: Vec<_> = spent.iter().map(|one| one.limit().name()).collect();
        self.0.push(format!("limits {}", names.join(",")));
    }
    fn exceeded(&mut self, exceeded: &Exceeded) {
        self.0.push(format!("exceeded {}", exceeded.limit().name()));
    }
    fn observed(&mut self, refusal: &Refusal) {
        self.0.push(format!("observed {}", refusal.word().as_str()));
    }
}

#[tokio::test]
async fn a_good_token_passes_and_becomes_identity_headers() {
    let world = Setting::usual().build().await;
    let parts = world.forward_of_demo("/orders?page=2").await;
    assert_eq!(values(&parts, "x-auth-client-id"), ["demo"]);
    assert_eq!(values(&parts, "x-auth-token-id"), ["42"]);
    assert_eq!(values(&parts, "x-auth-scope"), ["sudo read"]);
    assert_eq!(identity_names(&parts).len(), 3);
    assert!(values(&parts, "authorization").is_empty());
    assert_eq!(parts.uri, "/orders?page=2");
}

#[tokio::test]
async fn parameters_become_headers_and_leave_the_query() {
    let world = Setting::usual().build().await;
    let parts = world
        .forward_of_demo("/a?x=1&sudo=email:a%40b.c&tenantCode=A%20B&y=%2f")
        .await;
    assert_eq!(values(&parts, "x-auth-user-email"), ["a@b.c"]);
    assert_eq!(values(&parts, "x-auth-tenant-code"), ["A%20B"]);
    assert_eq!(identity_names(&parts).len(), 5);
    assert_eq!(parts.uri, "/a?x=1&y=%2f");
}

#[tokio::test]
async fn a_cache_hit_reads_no_store() {
    let world = Setting::usual().build().await;
    let line = format!("Bearer {}", world.token("demo", "read"));
    for _ in 0..3 {
        world.forward("/a", &[("authorization", &line)]).await;
    }
    assert_eq!(world.tokens.reads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_first_step_that_fails_answers() {
    let setting = Setting::usual()
        .sudo(&["uid:7"])
        .tenants(&["id:7"])
        .root(|route| {
            route.scopes = Scopes::parse("read").unwrap();
            route.rate_limits = vec!["tiny".to_owned()];
        });
    let mut setting = setting;
    setting.limits = vec![limit("tiny", KeyPart::Client, 1)];
    let world = setting.build().await;
    let good = format!("Bearer {}", world.token("demo", "sudo read"));
    let no_read = format!("Bearer {}", world.token("demo", "sudo"));
    let no_sudo = format!("Bearer {}", world.token("demo", "read"));
    for (target, line, expected) in [
        ("/%zz?a;sudo=x", "Bearer x y", "invalid_path"),
        ("/a?a;sudo=x", "Bearer x y", "invalid_request"),
        ("/a?a;sudo=x", "Bearer bad", "invalid_token"),
        ("/a?a;sudo=x", &no_read, "insufficient_scope"),
        ("/a?a;sudo=uid:8", &good, "invalid_request"),
        ("/a?sudo=x&tenantId=1&tenantId=1", &good, "invalid_request"),
        ("/a?sudo=x&tenantId=8", &good, "invalid_sudo"),
        ("/a?sudo=uid:8&tenantId=8", &no_sudo, "insufficient_scope"),
        ("/a?sudo=uid:8&tenantId=8", &good, "sudo_not_allowed"),
        (
            "/a?sudo=uid:7&tenantId=8&tenantCode=x",
            &good,
            "invalid_request",
        ),
        ("/a?sudo=uid:7&tenantId=8", &good, "tenant_not_allowed"),
        ("/a?sudo=uid:7&tenantId=7", &good, "passes"),
        ("/a?sudo=uid:7&tenantId=7", &good, "rate_limited"),
        ("/a?sudo=uid:7&tenantId=8", &good, "tenant_not_allowed"),
    ] {
        let word = world.word(target, &[("authorization", line)]).await;
        assert_eq!(word, expected, "{target}");
    }
    assert_eq!(world.word("/a?a;sudo=x", &[]).await, "missing_token");
}

#[tokio::test]
async fn connect_and_trace_go_nowhere() {
    let world = Setting::usual().build().await;
    for method in [Method::TRACE, Method::CONNECT] {
        let mut parts = request("/pub", &[]);
        parts.method = method;
        let refusal = world
            .gate
            .decide(&head(&parts), world.clock.now(), &mut ())
            .await
            .unwrap_err();
        assert_eq!(refusal.word().as_str(), "method_not_allowed");
    }
}

#[tokio::test]
async fn scopes_count_only_while_the_client_has_them() {
    let world = Setting::usual()
        .root(|route| route.scopes = Scopes::parse("admin").unwrap())
        .build()
        .await;
    let line = format!("Bearer {}", world.token("demo", "admin sodu"));
    assert_eq!(
        world.word("/a", &[("authorization", &line)]).await,
        "insufficient_scope"
    );
    let parts = world
        .forward("/opt?sudo=uid:1", &[("authorization", &line)])
        .await;
    assert_eq!(values(&parts, "x-auth-scope"), ["sodu"]);
    let line = format!("Bearer {}", world.token("demo", "admin"));
    let parts = world.forward("/opt", &[("authorization", &line)]).await;
    assert!(values(&parts, "x-auth-scope").is_empty());
}

#[tokio::test]
async fn a_client_that_lost_sudo_cannot_act_as_others_with_an_old_token() {
    let world = Setting::usual()
        .client(|client| client.scopes = Scopes::parse("read").unwrap())
        .build()
        .await;
    assert_eq!(world.word_of_demo("/a").await, "passes");
    assert_eq!(
        world.word_of_demo("/a?sudo=uid:1").await,
        "insufficient_scope"
    );
}

#[tokio::test]
async fn a_client_that_could_not_be_read_yet_is_not_a_removed_one() {
    let mut setting = Setting::usual();
    setting.clients_loaded = false;
    let world = setting.build().await;
    let line = format!("Bearer {}", world.token("stored", "sudo"));
    let bearer = [("authorization", line.as_str())];
    assert_eq!(world.word("/a", &bearer).await, "store_unavailable");
    world.clients.load().await.unwrap();
    assert_eq!(world.word("/a", &bearer).await, "invalid_token");
}

#[tokio::test]
async fn a_token_of_a_removed_client_is_bad() {
    let world = Setting::usual().build().await;
    let line = format!("Bearer {}", world.token("gone", "sudo"));
    assert_eq!(
        world.word("/a", &[("authorization", &line)]).await,
        "invalid_token"
    );
    let line = format!("Bearer {}", world.token("demo", "sudo"));
    assert_eq!(
        world.word("/a", &[("authorization", &line)]).await,
        "passes"
    );
    world.clients.replace_file_clients(Vec::new());
    assert_eq!(
        world.word("/a", &[("authorization", &line)]).await,
        "invalid_token"
    );
}

#[tokio::test]
async fn an_expired_token_is_bad_although_it_is_cached() {
    let world = Setting::usual().build().await;
    let line = format!("Bearer {}", world.token("demo", "sudo"));
    assert_eq!(
        world.word("/a", &[("authorization", &line)]).await,
        "passes"
    );
    world.clock.advance(Duration::from_secs(3601));
    assert_eq!(
        world.word("/a", &[("authorization", &line)]).await,
        "invalid_token"
    );
}

#[tokio::test]
async fn a_store_that_is_away_is_neither_a_no_nor_a_yes() {
    let world = Setting::usual()
        .root(|route| route.on_store_error = OnStoreError::Refuse)
        .build()
        .await;
    let line = format!("Bearer {}", world.token("demo", "sudo"));
    let bearer = [("authorization", line.as_str())];
    assert_eq!(world.word("/a", &bearer).await, "passes");
    world.tokens.down.store(true, Ordering::SeqCst);
    let other = format!("Bearer {}", world.token("demo", "sudo"));
    let other = [("authorization", other.as_str())];
    for target in ["/opt", "/a"] {
        assert_eq!(world.word(target, &other).await, "store_unavailable");
    }
    // Known to be away: a cached token passes where the route says so, and only there.
    assert!(world.verifier.store_is_away());
    assert_eq!(world.word("/a", &bearer).await, "store_unavailable");
    assert_eq!(world.word("/opt", &bearer).await, "passes");
    // A forged one needs no store.
    assert_eq!(
        world
            .word("/a", &[("authorization", "Bearer sgt_forged")])
            .await,
        "invalid_token"
    );
    world.clock.advance(Duration::from_secs(31));
    assert_eq!(world.word("/opt", &bearer).await, "store_unavailable");
}

#[tokio::test]
async fn public_routes_cut_credentials_and_parameters_unread() {
    let world = Setting::usual().build().await;
    for (target, sent) in [
        (
            "/pub?sudo=nonsense&sudo=%FF&tenantId=+&tenantCode=&a=1",
            "/pub?a=1",
        ),
        ("/pub?access_token=x&access_token=y&SUDO", "/pub"),
    ] {
        let lines = [
            ("authorization", "Bearer x y"),
            ("authorization", "Bearer \u{E9}"),
        ];
        let parts = world.forward(target, &lines).await;
        assert_eq!(parts.uri, sent);
        assert!(identity_names(&parts).is_empty() && values(&parts, "authorization").is_empty());
    }
    assert_eq!(world.word("/pub?sudo[]=x", &[]).await, "invalid_request");
    assert_eq!(world.word("/pub?a=1;sudo=x", &[]).await, "invalid_request");
    let line = format!("Bearer {}", world.token("demo", "sudo"));
    let parts = world
        .forward("/pub?sudo=uid:7", &[("authorization", &line)])
        .await;
    assert!(identity_names(&parts).is_empty());
    assert_eq!(world.tokens.reads.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn optional_routes_pass_without_a_token_and_refuse_a_bad_one() {
    let world = Setting::usual().build().await;
    let parts = world.forward("/opt?sudo=x&sudo=y&tenantId=&a=1", &[]).await;
    assert_eq!(parts.uri, "/opt?a=1");
    assert!(identity_names(&parts).is_empty());
    for (target, line, expected) in [
        ("/opt", "Bearer bad", "invalid_token"),
        ("/opt", "Bearer", "invalid_request"),
        ("/opt?access_token=", "Basic x", "invalid_request"),
        (
            "/opt?access_token=x&access_token=y",
            "Basic x",
            "invalid_request",
        ),
        ("/opt?access.token=x", "Basic x", "invalid_request"),
        ("/opt", "Basic x", "passes"),
    ] {
        assert_eq!(
            world.word(target, &[("authorization", line)]).await,
            expected,
            "{target} {line}"
        );
    }
    assert_eq!(world.word_of_demo("/opt?sudo=x").await, "invalid_sudo");
    let parts = world.forward_of_demo("/opt?sudo=uid:7").await;
    assert_eq!(values(&parts, "x-auth-user-id"), ["7"]);
}

#[tokio::test]
async fn failed_credentials_are_counted_and_only_they_are_answered_with_429() {
    let mut setting = Setting::usual();
    let mut failed = LimitSettings::failed_credentials();
    failed.burst = NonZeroU32::new(2).unwrap();
    setting.limits = vec![failed];
    let world = setting.build().await;
    let bad = [("authorization", "Bearer bad")];
    for _ in 0..5 {
        assert_eq!(world.word("/a", &[]).await, "missing_token");
        assert_eq!(
            world.word("/a", &[("authorization", "Bearer")]).await,
            "invalid_request"
        );
    }
    assert_eq!(world.word("/a", &bad).await, "invalid_token");
    assert_eq!(
        world.word("/a?access_token=bad", &[]).await,
        "invalid_token"
    );
    let mut notes = Notes::default();
    let refusal = world
        .decide_watched("/a", &bad, &mut notes)
        .await
        .unwrap_err();
    assert_eq!(refusal.word().as_str(), "rate_limited");
    assert_eq!(refusal.limit(), Some("failed-credentials"));
    assert_eq!(notes.0.last().unwrap(), "exceeded failed-credentials");
    assert_eq!(world.word("/a", &[]).await, "missing_token");
    assert_eq!(world.word_of_demo("/a").await, "passes");
}

#[tokio::test]
async fn limits_of_route_and_client_apply_together_the_narrowest_first() {
    let mut setting = Setting::usual()
        .root(|route| route.rate_limits = vec!["all".to_owned(), "each".to_owned()])
        .client(|client| client.rate_limits = vec!["mine".to_owned(), "all".to_owned()]);
    setting.limits = vec![
        limit("all", KeyPart::Global, 9),
        limit("each", KeyPart::Ip, 9),
        limit("mine", KeyPart::Client, 2),
    ];
    let world = setting.build().await;
    let line = format!("Bearer {}", world.token("demo", "sudo"));
    let bearer = [("authorization", line.as_str())];
    let mut notes = Notes::default();
    world
        .decide_watched("/a", &bearer, &mut notes)
        .await
        .unwrap();
    assert_eq!(notes.0.last().unwrap(), "limits mine,each,all");
    assert_eq!(world.word("/a", &bearer).await, "passes");
    let refusal = world.decide("/a", &bearer).await.unwrap_err();
    assert_eq!(refusal.limit(), Some("mine"));
}

#[tokio::test]
async fn limits_by_user_cannot_be_escaped_by_another_spelling() {
    let mut setting = Setting::usual().root(|route| route.rate_limits = vec!["user".to_owned()]);
    setting.limits = vec![limit("user", KeyPart::User, 1)];
    let world = setting.build().await;
    assert_eq!(world.word_of_demo("/a?sudo=loginName:li").await, "passes");
    assert_eq!(
        world.word_of_demo("/a?sudo=username:li").await,
        "rate_limited"
    );
    assert_eq!(world.word_of_demo("/a?sudo=uid:li").await, "passes");
}

#[tokio::test]
async fn public_routes_have_their_limits_too() {
    let mut setting = Setting::usual();
    setting.routes[1].rate_limits = vec!["each".to_owned()];
    setting.limits = vec![limit("each", KeyPart::Ip, 1)];
    let world = setting.build().await;
    assert_eq!(world.word("/pub", &[]).await, "passes");
    assert_eq!(world.word("/pub", &[]).await, "rate_limited");
}

#[tokio::test]
async fn observing_forwards_what_would_be_refused_as_nobody() {
    let world = Setting::usual().sudo(&["uid:7"]).build().await;
    let good = format!("Bearer {}", world.token("demo", "sudo"));
    for (target, line, said) in [
        ("/obs?sudo=uid:7&a=1", "Basic x", "missing_token"),
        ("/obs?sudo=uid:7&a=1", "Bearer sgt_forged", "invalid_token"),
        ("/obs?sudo=uid:8&a=1", &good, "sudo_not_allowed"),
        ("/obs?sudo=nonsense&a=1", &good, "invalid_sudo"),
        ("/obs?sudo=uid:7&sudo=uid:7&a=1", &good, "invalid_request"),
        ("/obs?access_token=x&a=1", &good, "invalid_request"),
    ] {
        let mut notes = Notes::default();
        let lines = [("authorization", line), ("x-auth-user-id", "1")];
        let (permit, parts) = world
            .decide_watched(target, &lines, &mut notes)
            .await
            .unwrap();
        assert_eq!(notes.0.last().unwrap(), &format!("observed {said}"));
        let parts = written(permit, parts);
        assert!(identity_names(&parts).is_empty(), "{target}");
        assert_eq!(parts.uri, "/obs?a=1");
        let kept = values(&parts, "authorization");
        assert_eq!(kept.is_empty(), line == good, "{kept:?}");
    }
}

#[tokio::test]
async fn observing_leaves_strangers_tokens_and_forwards_what_passes_as_ever() {
    let world = Setting::usual().build().await;
    let parts = world
        .forward("/obs", &[("authorization", "Bearer eyJh.e30.x")])
        .await;
    assert_eq!(values(&parts, "authorization"), ["Bearer eyJh.e30.x"]);
    let mut notes = Notes::default();
    let line = format!("Bearer {}", world.token("demo", "sudo"));
    let lines = [("authorization", line.as_str())];
    let (permit, parts) = world
        .decide_watched("/obs?sudo=uid:7", &lines, &mut notes)
        .await
        .unwrap();
    let parts = written(permit, parts);
    assert_eq!(values(&parts, "x-auth-user-id"), ["7"]);
    assert!(values(&parts, "authorization").is_empty());
    assert_eq!(
        notes.0,
        ["route /obs", "credential Bearer", "token 42", "sudo uid:7"]
    );
}

#[tokio::test]
async fn observing_still_refuses_paths_and_hidden_parameters() {
    let world = Setting::usual().build().await;
    assert_eq!(world.word("/obs/%zz", &[]).await, "invalid_path");
    assert_eq!(world.word("/obs/../pub", &[]).await, "invalid_path");
    assert_eq!(
        world.word("/obs?a=1;sudo=uid:1", &[]).await,
        "invalid_request"
    );
    assert_eq!(
        world.word_of_demo("/obs?access.token=x").await,
        "invalid_request"
    );
}

#[tokio::test]
async fn the_witness_hears_of_every_sudo_also_one_that_is_refused() {
    let world = Setting::usual().sudo(&["uid:7"]).build().await;
    let line = format!("Bearer {}", world.token("demo", "sudo"));
    let mut notes = Notes::default();
    let lines = [("authorization", line.as_str())];
    let decided = world
        .decide_watched("/a?sudo=username:li", &lines, &mut notes)
        .await;
    assert!(decided.is_err());
    assert_eq!(notes.0.last().unwrap(), "sudo username:li");
}

#[tokio::test]
async fn the_answer_is_edited_as_the_request_asked() {
    let world = Setting::usual().build().await;
    let token = world.token("demo", "sudo");
    let line = format!("Bearer {token}");
    let by_query = format!("/a?access_token={token}");
    for (target, lines, expected) in [
        (
            "/a?sudo=username:li",
            &[("authorization", line.as_str())][..],
            (true, false),
        ),
        (
            "/a?sudo=loginName:li",
            &[("authorization", line.as_str())],
            (false, false),
        ),
        (&by_query, &[], (false, true)),
    ] {
        let (permit, _) = world.decide(target, lines).await.unwrap();
        assert_eq!(
            (permit.edits.deprecated, permit.edits.private),
            expected,
            "{target}"
        );
    }
}

#[test]
fn decisions_can_be_made_on_any_thread() {
    fn is_send<T: Send>(_: T) {}
    fn check(gate: &Gate, head: &Head<'_>, now: Now) {
        is_send(gate.decide(head, now, &mut ()));
    }
    let _ = check;
}
