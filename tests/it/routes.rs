//! Contract §3.1: the most exact host, then the longest path, then the method.

use http::Response;
use http_body_util::Full;

use crate::harness::{Backend, Sidegate};

/// Backends that answer with their names, and a sidecar with these routes before them.
async fn start(names: &'static [&'static str], routes: &str) -> (Vec<Backend>, Sidegate) {
    let mut backends = Vec::new();
    let mut tables = String::new();
    for name in names {
        let backend = Backend::answering(|_| Response::new(Full::from(*name))).await;
        tables.push_str(&format!(
            "[upstreams.{name}]\nurl = \"http://{}\"\n",
            backend.addr
        ));
        backends.push(backend);
    }
    let gate = Sidegate::before(&backends[0])
        .client("demo", "sudo")
        .config(&tables)
        .config(routes)
        .start()
        .await;
    (backends, gate)
}

fn route(upstream: &str, rest: &str) -> String {
    format!("[[routes]]\nupstream = \"{upstream}\"\naccess = \"public\"\n{rest}\n")
}

#[tokio::test]
async fn the_longest_prefix_on_a_segment_boundary_wins() {
    let routes = [
        route("root", "path = \"/\""),
        route("api", "path = \"/api\""),
        route("deep", "path = \"/api/v2/\""),
    ]
    .concat();
    let (_backends, gate) = start(&["root", "api", "deep"], &routes).await;
    for (path, expected) in [
        ("/", "root"),
        ("/x", "root"),
        ("/api", "api"),
        ("/api/", "api"),
        ("/api/v1", "api"),
        ("/api/v2", "deep"),
        ("/api/v2/", "deep"),
        ("/api/v2/x", "deep"),
        ("/api/v22", "api"),
        ("/apis", "root"),
        ("/api.html", "root"),
    ] {
        let answer = gate.get(path).await;
        answer.expect_status(200);
        assert_eq!(answer.text(), expected, "{path}");
    }
}

#[tokio::test]
async fn an_exact_host_beats_a_suffix_and_that_beats_none_whatever_the_path() {
    let routes = [
        route("any", "path = \"/long/path\""),
        route("below", "path = \"/\"\nhost = \"*.example.com\""),
        route("deeper", "path = \"/\"\nhost = \"*.a.example.com\""),
        route("exact", "path = \"/\"\nhost = \"www.example.com\""),
    ]
    .concat();
    let (_backends, gate) = start(&["any", "below", "deeper", "exact"], &routes).await;
    for (host, expected) in [
        ("www.example.com", Some("exact")),
        ("WWW.Example.COM", Some("exact")),
        ("www.example.com:8080", Some("exact")),
        ("www.example.com.", Some("exact")),
        ("x.example.com", Some("below")),
        ("x.y.example.com", Some("below")),
        ("x.a.example.com", Some("deeper")),
        ("a.example.com", Some("below")),
        ("example.com", Some("any")),
        ("xexample.com", Some("any")),
        ("other.test", Some("any")),
    ] {
        let call = gate.call().without("host").header("host", host);
        let answer = call.get("/long/path/x").await;
        match expected {
            Some(name) => {
                answer.expect_status(200);
                assert_eq!(answer.text(), name, "{host}");
            }
            None => {
                answer.expect_refusal(404, "no_route");
            }
        }
    }
}

#[tokio::test]
async fn a_named_method_beats_none_and_get_includes_head() {
    let routes = [
        route("all", "path = \"/a\""),
        route("writes", "path = \"/a\"\nmethods = [\"POST\", \"PUT\"]"),
        route("reads", "path = \"/b\"\nmethods = [\"GET\"]"),
    ]
    .concat();
    let (backends, gate) = start(&["all", "writes", "reads"], &routes).await;
    for (method, path, expected) in [
        ("GET", "/a", "all"),
        ("POST", "/a", "writes"),
        ("PUT", "/a/x", "writes"),
        ("DELETE", "/a", "all"),
        ("GET", "/b", "reads"),
    ] {
        let answer = gate.call().send(method, path, "").await;
        answer.expect_status(200);
        assert_eq!(answer.text(), expected, "{method} {path}");
    }
    gate.call().send("HEAD", "/b", "").await.expect_status(200);
    assert_eq!(backends[2].requests().pop().unwrap().method, "HEAD");
}

#[tokio::test]
async fn another_method_is_405_with_allow_and_never_a_shorter_path() {
    let routes = [
        route("root", "path = \"/\""),
        route("reads", "path = \"/a\"\nmethods = [\"GET\"]"),
        route("writes", "path = \"/a\"\nmethods = [\"POST\"]"),
    ]
    .concat();
    let (backends, gate) = start(&["root", "reads", "writes"], &routes).await;
    for path in ["/a", "/a/b", "/a/"] {
        for method in ["DELETE", "OPTIONS", "get"] {
            let answer = gate.call().send(method, path, "").await;
            answer.expect_refusal(405, "method_not_allowed");
            assert_eq!(answer.header("allow"), Some("GET, HEAD, POST"));
        }
    }
    assert!(backends.iter().all(|backend| backend.requests().is_empty()));
}

#[tokio::test]
async fn a_wrong_method_is_told_before_a_missing_token() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .config("[[routes]]\npath = \"/\"\nmethods = [\"GET\"]")
        .start()
        .await;
    let answer = gate.call().post("/", "").await;
    answer.expect_refusal(405, "method_not_allowed");
}

#[tokio::test]
async fn connect_and_trace_are_405_and_nothing_follows_connect() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .config("[[routes]]\npath = \"/\"\naccess = \"public\"")
        .start()
        .await;
    for line in [
        "TRACE / HTTP/1.1",
        "CONNECT a:80 HTTP/1.1",
        "CONNECT /x HTTP/1.1",
    ] {
        let mut raw = gate.raw().await;
        raw.send(format!("{line}\r\nHost: a\r\nConnection: close\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        let answer = raw.read_to_end().await;
        let code = &answer[9..12];
        assert!(
            code == "405" || (line.contains("/x") && code == "400"),
            "{line}: {answer}"
        );
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    assert!(backend.requests().is_empty());
}

#[tokio::test]
async fn nothing_matches_is_404_no_route() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .config("[[routes]]\npath = \"/only\"\nhost = \"a.test\"")
        .start()
        .await;
    for (host, path) in [
        ("a.test", "/"),
        ("a.test", "/onlyx"),
        ("a.test", "/Only2"),
        ("b.test", "/only"),
    ] {
        let call = gate.call().without("host").header("host", host);
        call.get(path).await.expect_refusal(404, "no_route");
    }
    assert!(backend.requests().is_empty());
}

#[tokio::test]
async fn without_routes_everything_is_required_and_goes_to_default() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("demo", "sudo")
        .start()
        .await;
    gate.get("/any/path")
        .await
        .expect_refusal(401, "missing_token");
    let call = gate.as_client("demo").await;
    call.get("/any/path").await.expect_status(200);
    assert_eq!(backend.only_request().target(), "/any/path");
}

#[tokio::test]
async fn own_endpoints_are_answered_here_and_paths_below_them_reach_the_backend() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .config("[[routes]]\npath = \"/\"\naccess = \"public\"")
        .start()
        .await;
    for path in [
        "/api/oauth2/server/tokens",
        "/api/oauth2/server/tokens/check",
    ] {
        let answer = gate.call().send("DELETE", path, "").await;
        answer.expect_status(405);
        assert!(answer.header("allow").is_some(), "{answer:?}");
    }
    assert!(backend.requests().is_empty());
    gate.get("/api/oauth2/server/tokens/check/more")
        .await
        .expect_status(200);
    gate.get("/api/oauth2/server").await.expect_status(200);
    assert_eq!(backend.requests().len(), 2);
}

#[tokio::test]
async fn a_backend_whose_host_is_asked_for_gets_the_clients_host_unchanged() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .config("[[routes]]\npath = \"/\"\naccess = \"public\"")
        .start()
        .await;
    let host = "Shop.Example.COM:8443";
    let call = gate.call().without("host").header("host", host);
    call.get("/").await.expect_status(200);
    assert_eq!(backend.only_request().header("host"), Some(host));
}

#[tokio::test]
async fn an_http_1_0_request_without_a_host_is_given_the_upstreams() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .config("[[routes]]\npath = \"/\"\naccess = \"public\"")
        .start()
        .await;
    let mut raw = gate.raw().await;
    raw.send("GET /x HTTP/1.0\r\n\r\n").await;
    let answer = raw.read_to_end().await;
    assert!(answer.contains(" 200 OK\r\n"), "{answer}");
    let host = backend.addr.to_string();
    let seen = backend.only_request();
    assert_eq!(seen.header("host"), Some(&host[..]));
    // Which is not what the client asked for: it named none.
    assert!(!seen.has_header("x-forwarded-host"));
}
