//! Every row and every error of contract §5.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::base::clock::{Clock, UnixMillis};
use crate::clients::registry::Registry;
use crate::clients::tests_support::{MemoryClients, file_client};
use crate::endpoints::{Caller, Deps, Endpoints, Told, settings};
use crate::limits::Limits;
use crate::observe::settings::Format;
use crate::observe::{Lines, Metrics, RequestId};
use crate::tokens::tests_support::MemoryTokens;
use crate::tokens::verify::{Verdict, Verifier, Watcher};

const BASE: &str = "/api/oauth2/server";
const FORM: &str = "application/x-www-form-urlencoded";
const GOOD: &str = "grant_type=client_credentials&client_id=demo&client_secret=pa%2Bss";

struct Unwatched;
impl Watcher for Unwatched {
    fn looked_up(&self, _: &Verdict) {}
    fn store_read(&self, _: bool) {}
    fn store_is_up(&self, _: bool) {}
}

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);
impl std::io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Bench {
    endpoints: Endpoints,
    tokens: Arc<MemoryTokens>,
    registry: Arc<Registry>,
    clients: Arc<MemoryClients>,
    clock: Clock,
    lines: Lines,
    output: Output,
}

impl Bench {
    fn new() -> Self {
        let tokens = Arc::new(MemoryTokens::default());
        let clients = vec![
            file_client("demo", "pa+ss", "sodu read"),
            file_client("other", "x", "read"),
        ];
        let store = Arc::new(MemoryClients::new());
        let registry = Arc::new(Registry::new(clients, store.clone()));
        let clock = Clock::manual(UnixMillis(1_709_164_800_000));
        let output = Output::default();
        let lines = Lines::to(output.clone(), Format::Json);
        let token_settings = crate::tokens::Settings::default();
        let verifier = Verifier::new(
            &token_settings,
            tokens.clone(),
            Handle::current(),
            clock.clone(),
            Arc::new(Unwatched),
        );
        let deps = Deps {
            registry: Arc::clone(&registry),
            tokens: tokens.clone(),
            verifier,
            limits: Arc::new(ArcSwap::from_pointee(Limits::new(&[], None))),
            clock: clock.clone(),
            lines: lines.clone(),
            metrics: Metrics::new(),
            token_settings,
            runtime: Handle::current(),
        };
        Self {
            endpoints: Endpoints::new(&settings::Settings::default(), deps),
            tokens,
            registry,
            clients: store,
            clock,
            lines,
            output,
        }
    }

    async fn send(&self, request: Request<&str>) -> Response<Bytes> {
        let request = request.map(|body| Bytes::copy_from_slice(body.as_bytes()));
        let from = Caller {
            ip: "192.0.2.1".parse().unwrap(),
            request_id: RequestId::make(),
        };
        let response = self.endpoints.answer(request, from).await;
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["pragma"], "no-cache");
        response
    }

    async fn get(&self, path: &str, query: &str) -> (u16, Value) {
        let uri = format!("{BASE}{path}?{query}");
        let response = self.send(Request::get(uri).body("").unwrap()).await;
        read(&response)
    }

    async fn post(&self, path: &str, body: &str) -> (u16, Value) {
        let request = Request::post(format!("{BASE}{path}")).header("content-type", FORM);
        read(&self.send(request.body(body).unwrap()).await)
    }

    async fn token(&self) -> String {
        let (status, body) = self.get("/tokens", GOOD).await;
        assert_eq!(status, 200, "{body}");
        body["access_token"].as_str().unwrap().to_owned()
    }
}

fn read(response: &Response<Bytes>) -> (u16, Value) {
    let body = serde_json::from_slice(response.body()).unwrap();
    (response.status().as_u16(), body)
}

#[tokio::test]
async fn a_token_comes_with_four_members_and_expires_in_as_a_string() {
    let bench = Bench::new();
    for (status, body) in [
        bench.get("/tokens", GOOD).await,
        bench.post("/tokens", GOOD).await,
    ] {
        assert_eq!(status, 200);
        let token = body["access_token"].as_str().unwrap();
        assert!(token.starts_with("sgt_"));
        assert_eq!(
            body,
            json!({"access_token": token, "token_type": "bearer", "expires_in": "43200", "scope": "sodu read"})
        );
    }
}

#[tokio::test]
async fn scope_asks_for_less_and_is_shown_as_the_client_was_given_it() {
    let bench = Bench::new();
    for (scope, shown) in [
        ("sudo", "sodu"),
        ("read", "read"),
        ("read+sodu", "sodu read"),
        ("", "sodu read"),
    ] {
        let (status, body) = bench.get("/tokens", &format!("{GOOD}&scope={scope}")).await;
        assert_eq!((status, &body["scope"]), (200, &json!(shown)));
    }
    for scope in ["write", "read+write", "%22"] {
        let (status, body) = bench.get("/tokens", &format!("{GOOD}&scope={scope}")).await;
        assert_eq!((status, &body["error"]), (400, &json!("invalid_scope")));
    }
}

#[tokio::test]
async fn every_error_of_tokens_has_its_word_and_status() {
    let bench = Bench::new();
    for (query, status, error) in [
        ("", 400, "invalid_request"),
        (
            "grant_type=client_credentials&client_id=demo",
            400,
            "invalid_request",
        ),
        (
            "grant_type=client_credentials&client_id=&client_secret=x",
            400,
            "invalid_request",
        ),
        (
            "client_id=demo&client_secret=pa%2Bss",
            400,
            "invalid_request",
        ),
        (&format!("{GOOD}&client_id=demo"), 400, "invalid_request"),
        (&format!("{GOOD}&x=%zz"), 400, "invalid_request"),
        (
            "grant_type=password&client_id=demo&client_secret=wrong",
            400,
            "unsupported_grant_type",
        ),
        (
            "grant_type=client_credentials&client_id=demo&client_secret=wrong",
            401,
            "invalid_client",
        ),
        (
            "grant_type=client_credentials&client_id=nobody&client_secret=x&scope=w",
            401,
            "invalid_client",
        ),
    ] {
        let (got, body) = bench.get("/tokens", query).await;
        assert_eq!((got, &body["error"]), (status, &json!(error)), "{query}");
        assert!(body["error_description"].is_string());
    }
}

#[tokio::test]
async fn bodies_that_are_no_form_are_invalid_requests() {
    let bench = Bench::new();
    let large = "x".repeat(Endpoints::BODY_MAX + 1);
    for (kind, body) in [("application/json", "{}"), ("", GOOD), (FORM, &large)] {
        let request = Request::post(format!("{BASE}/tokens")).header("content-type", kind);
        let (status, body) = read(&bench.send(request.body(body).unwrap()).await);
        assert_eq!(
            (status, &body["error"]),
            (400, &json!("invalid_request")),
            "{kind}"
        );
    }
    let both = Request::post(format!("{BASE}/tokens?client_id=demo"));
    let both = both.header("content-type", FORM).body(GOOD).unwrap();
    assert_eq!(bench.send(both).await.status(), 400);
}

#[tokio::test]
async fn a_client_that_sent_authorization_and_failed_is_challenged() {
    let bench = Bench::new();
    let wrong =
        format!("{BASE}/tokens?grant_type=client_credentials&client_id=demo&client_secret=w");
    let plain = bench.send(Request::get(&wrong).body("").unwrap()).await;
    assert!(!plain.headers().contains_key("www-authenticate"));
    let basic = Request::get(&wrong).header("authorization", "Basic ZGVtbzpwYStzcw==");
    let basic = bench.send(basic.body("").unwrap()).await;
    assert_eq!(
        (
            basic.status().as_u16(),
            &basic.headers()["www-authenticate"]
        ),
        (401, &"Basic realm=\"sidegate\"".parse().unwrap())
    );
}

#[tokio::test]
async fn check_shows_the_remaining_seconds_until_the_token_ends() {
    let bench = Bench::new();
    let token = bench.token().await;
    let query = format!("token={token}");
    bench.clock.advance(Duration::from_secs(10));
    let (status, body) = bench.get("/tokens/check", &query).await;
    assert_eq!(status, 200);
    assert_eq!(
        body,
        json!({"access_token": token, "token_type": "bearer", "expires_in": "43190", "scope": "sodu read"})
    );
    assert_eq!(bench.post("/tokens/check", &query).await.0, 200);
    bench.clock.advance(Duration::from_secs(43_190));
    let (status, body) = bench.get("/tokens/check", &query).await;
    assert_eq!((status, &body["error"]), (400, &json!("invalid_token")));
    assert_eq!(
        bench.get("/tokens/check", "").await.1["error"],
        "invalid_request"
    );
    assert_eq!(
        bench.get("/tokens/check", "token=x").await.1["error"],
        "invalid_token"
    );
}

#[tokio::test]
async fn check_counts_what_the_client_still_has() {
    let bench = Bench::new();
    let query = format!("token={}", bench.token().await);
    bench
        .registry
        .replace_file_clients(vec![file_client("demo", "s", "read")]);
    assert_eq!(bench.get("/tokens/check", &query).await.1["scope"], "read");
    bench.registry.replace_file_clients(Vec::new());
    assert_eq!(
        bench.get("/tokens/check", &query).await.1["error"],
        "invalid_token"
    );
}

#[tokio::test]
async fn a_client_that_was_not_read_yet_is_not_taken_for_removed() {
    let bench = Bench::new();
    let query = format!("token={}", bench.token().await);
    bench.clients.down.store(true, Ordering::SeqCst);
    bench.registry.load().await.unwrap_err();
    bench.registry.replace_file_clients(Vec::new());
    let (status, body) = bench.get("/tokens/check", &query).await;
    assert_eq!(
        (status, &body["error"]),
        (503, &json!("temporarily_unavailable"))
    );
    bench.clients.down.store(false, Ordering::SeqCst);
    bench.registry.load().await.unwrap();
    let (status, body) = bench.get("/tokens/check", &query).await;
    assert_eq!((status, &body["error"]), (400, &json!("invalid_token")));
}

#[tokio::test]
async fn a_scope_of_nothing_but_spaces_gets_no_token() {
    let bench = Bench::new();
    let (status, body) = bench.get("/tokens", &format!("{GOOD}&scope=+%20")).await;
    assert_eq!((status, &body["error"]), (400, &json!("invalid_scope")));
}

#[tokio::test]
async fn a_revoked_token_is_gone_with_the_answer_also_from_the_cache() {
    let bench = Bench::new();
    let query = format!("token={}", bench.token().await);
    assert_eq!(bench.get("/tokens/check", &query).await.0, 200);
    let done = bench.get("/tokens/revoke", &query).await;
    assert_eq!(done, (200, json!({"code": 0, "msg": "success"})));
    assert_eq!(bench.get("/tokens/check", &query).await.0, 400);
    let absent = (200, json!({"code": 1, "msg": "token not found"}));
    assert_eq!(bench.post("/tokens/revoke", &query).await, absent);
    assert_eq!(bench.get("/tokens/revoke", "token=x").await, absent);
    assert_eq!(bench.get("/tokens/revoke", "").await.0, 400);
}

#[tokio::test]
async fn a_store_that_is_away_is_503_and_no_verdict() {
    let bench = Bench::new();
    let query = format!("token={}", bench.token().await);
    bench.tokens.down.store(true, Ordering::SeqCst);
    for (path, query) in [
        ("/tokens", GOOD),
        ("/tokens/check", &query),
        ("/tokens/revoke", &query),
    ] {
        let uri = format!("{BASE}{path}?{query}");
        let response = bench.send(Request::get(uri).body("").unwrap()).await;
        assert!(response.headers().contains_key("retry-after"));
        let (status, body) = read(&response);
        assert_eq!(
            (status, &body["error"]),
            (503, &json!("temporarily_unavailable")),
            "{path}"
        );
    }
}

#[tokio::test]
async fn other_methods_are_405_and_head_issues_and_revokes_nothing() {
    let bench = Bench::new();
    for (method, path, allow) in [
        ("HEAD", "/tokens", "GET, POST"),
        ("HEAD", "/tokens/revoke", "GET, POST"),
        ("PUT", "/tokens", "GET, POST"),
        ("DELETE", "/tokens/check", "GET, HEAD, POST"),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(format!("{BASE}{path}?{GOOD}"));
        let response = bench.send(request.body("").unwrap()).await;
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()["allow"], allow);
    }
    for path in ["", "/tokens/", "/Tokens", "/tokens/check/x", "/%74okens"] {
        assert!(!bench.endpoints.owns(&format!("{BASE}{path}")), "{path}");
    }
}

#[tokio::test]
async fn failures_beyond_the_limit_are_429_and_right_credentials_still_pass() {
    let bench = Bench::new();
    let wrong = "grant_type=client_credentials&client_id=demo&client_secret=w";
    for _ in 0..40 {
        assert_eq!(bench.get("/tokens", wrong).await.0, 401);
    }
    for (path, query) in [
        ("/tokens", wrong),
        ("/tokens/check", "token=x"),
        ("/tokens/revoke", "token=x"),
    ] {
        let uri = format!("{BASE}{path}?{query}");
        let response = bench.send(Request::get(uri).body("").unwrap()).await;
        assert_eq!(response.status(), 429, "{path}");
        assert!(response.headers().contains_key("retry-after"));
        let told = response.extensions().get::<Told>().unwrap();
        assert_eq!(told.limit.as_deref(), Some("failed-credentials"));
    }
    let query = format!("token={}", bench.token().await);
    assert_eq!(bench.get("/tokens/check", &query).await.0, 200);
}

#[tokio::test]
async fn issue_and_revoke_leave_audit_lines_without_the_token() {
    let bench = Bench::new();
    let token = bench.token().await;
    bench.get("/tokens/revoke", &format!("token={token}")).await;
    bench.lines.flush();
    let text = String::from_utf8(bench.output.0.lock().unwrap().clone()).unwrap();
    assert!(!text.contains("sgt_") && !text.contains("pa+ss"));
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (line, event) in lines.iter().zip(["token_issued", "token_revoked"]) {
        assert_eq!(line["event"], event);
        assert_eq!(
            (&line["client_id"], &line["token_id"]),
            (&json!("demo"), &json!(1))
        );
    }
    assert_eq!(lines.len(), 2);
}
