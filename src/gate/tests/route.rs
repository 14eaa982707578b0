//! Which route a request is for.

use proptest::prelude::*;

use super::*;
use crate::base::oauth::Scopes;
use crate::gate::settings::{Access, Mode, OnStoreError};

fn route(host: &str, path: &str, methods: &[&str]) -> RouteSettings {
    RouteSettings {
        path: path.to_owned(),
        host: match host.strip_prefix("*.") {
            Some(suffix) => HostPattern::Below(suffix.to_owned()),
            None if host.is_empty() => HostPattern::Any,
            None => HostPattern::Exact(host.to_owned()),
        },
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        upstream: "default".to_owned(),
        access: Access::Required,
        scopes: Scopes::default(),
        rate_limits: Vec::new(),
        forward_credentials: false,
        on_store_error: OnStoreError::ServeCached,
        mode: Mode::Enforce,
    }
}

fn routes(settings: &[(&str, &str, &[&str])]) -> Routes {
    let settings = settings
        .iter()
        .map(|(host, path, methods)| route(host, path, methods));
    Routes::new(settings.collect(), &Limits::new(&[], None))
}

/// The index of the route, or the refusal's word.
fn find(routes: &Routes, method: &str, host: &str, path: &str) -> Result<usize, &'static str> {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    routes
        .find(&method, host, path)
        .map(|route| route.index)
        .map_err(|refusal| refusal.word().as_str())
}

#[test]
fn the_longest_prefix_on_a_segment_boundary_wins() {
    let routes = routes(&[("", "/", &[]), ("", "/api", &[]), ("", "/api/v1", &[])]);
    for (path, index) in [
        ("/", 0),
        ("/apiary", 0),
        ("/api", 1),
        ("/api/", 1),
        ("/api/x", 1),
        ("/api/v1", 2),
        ("/api/v1/", 2),
        ("/api/v1/x/y", 2),
        ("/api/v10", 1),
    ] {
        assert_eq!(find(&routes, "GET", "h", path), Ok(index), "{path}");
    }
}

#[test]
fn the_most_exact_host_that_has_the_path_wins() {
    let routes = routes(&[
        ("", "/", &[]),
        ("*.example.com", "/", &[]),
        ("*.eu.example.com", "/", &[]),
        ("a.eu.example.com", "/only", &[]),
    ]);
    for (host, path, index) in [
        ("other.test", "/", 0),
        ("example.com", "/", 0),
        ("xexample.com", "/", 0),
        ("b.example.com", "/", 1),
        ("b.eu.example.com", "/", 2),
        ("a.eu.example.com", "/only/x", 3),
        ("a.eu.example.com", "/else", 2),
    ] {
        assert_eq!(find(&routes, "GET", host, path), Ok(index), "{host}{path}");
    }
}

#[test]
fn a_route_that_names_the_method_beats_one_without_methods_and_get_includes_head() {
    let routes = routes(&[
        ("", "/a", &[]),
        ("", "/a", &["GET"]),
        ("", "/b", &["POST", "GET"]),
    ]);
    assert_eq!(find(&routes, "GET", "h", "/a"), Ok(1));
    assert_eq!(find(&routes, "HEAD", "h", "/a"), Ok(1));
    assert_eq!(find(&routes, "PUT", "h", "/a"), Ok(0));
    assert_eq!(find(&routes, "HEAD", "h", "/b"), Ok(2));
}

#[test]
fn a_path_with_only_other_methods_is_405_and_never_a_shorter_path() {
    let routes = routes(&[("", "/", &[]), ("", "/a", &["GET"]), ("", "/a", &["POST"])]);
    let refusal = routes.find(&Method::DELETE, "h", "/a/x").unwrap_err();
    assert_eq!(
        refusal,
        Refusal::method_not_allowed("GET, HEAD, POST".to_owned())
    );
}

#[test]
fn nothing_that_matches_is_no_route() {
    let routes = routes(&[("only.test", "/", &[]), ("", "/a", &[])]);
    assert_eq!(find(&routes, "GET", "h", "/b"), Err("no_route"));
    assert_eq!(find(&routes, "GET", "h", "/"), Err("no_route"));
}

#[test]
fn a_second_reading_that_leads_elsewhere_is_refused() {
    let routes = routes(&[("", "/", &[]), ("", "/public", &[])]);
    for path in [
        "/public/../x",
        "/public/%2e%2e/x",
        "/public/%2E%2e",
        "/public%2f..%2fx",
        "/public\\..\\x",
        "/public/..;/x",
        "/public;/../x",
        "/x/../public",
        "/x/%2e%2e/public/y",
        "//public",
        "/%2fpublic",
        "/Public",
        "/PUBLIC/x",
        "/%70ublic",
        "/public%00x",
        "/public;x",
        "/public/%252e%252e/x",
        "/public/%c0%ae%c0%ae/x",
    ] {
        assert_eq!(
            find(&routes, "GET", "h", path),
            Err("invalid_path"),
            "{path}"
        );
    }
    for (path, index) in [
        ("/public/a%20b", 1),
        ("/public//x", 1),
        ("/public/A;v=1", 1),
        ("/x/a%2fb", 0),
        ("/X/Y", 0),
        ("/x;y/../z", 0),
    ] {
        assert_eq!(find(&routes, "GET", "h", path), Ok(index), "{path}");
    }
}

#[test]
fn with_one_route_for_everything_no_reading_leads_elsewhere() {
    let routes = routes(&[("", "/", &[])]);
    for path in ["/a/../../b", "/%2e%2e", "//", "/A;b", "/a%00"] {
        assert_eq!(find(&routes, "GET", "h", path), Ok(0), "{path}");
    }
    assert_eq!(find(&routes, "GET", "h", "/%zz"), Err("invalid_path"));
}

/// A reader downstream that decodes, drops parameters, turns backslashes, and normalises: the steps
/// in an order of its own, each some times.
fn read_downstream(path: &str, steps: &[u8]) -> String {
    let mut text = path.to_owned();
    for step in steps {
        text = match step {
            0 => percent_encoding::percent_decode_str(&text)
                .decode_utf8_lossy()
                .into_owned(),
            1 => text.replace('\\', "/"),
            2 => text
                .split('/')
                .map(|segment| segment.split(';').next().unwrap_or_default())
                .collect::<Vec<_>>()
                .join("/"),
            3 => text.to_lowercase(),
            _ => {
                let mut kept: Vec<&str> = Vec::new();
                for segment in text.split('/').filter(|segment| !segment.is_empty()) {
                    match segment {
                        "." => {}
                        ".." => drop(kept.pop()),
                        _ => kept.push(segment),
                    }
                }
                format!("/{}", kept.join("/"))
            }
        };
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_path_reaches_a_public_route_by_a_second_reading(
        pieces in proptest::collection::vec(
            proptest::sample::select(vec![
                "/", "//", "a", "A", "public", "PUBLIC", "secret", ".", "..", "%2e", "%2E%2e", "%2f",
                "%5c", "\\", ";", ";x=1", "%3b", "%252e", "%252f", "%70", "%00", "b%20c",
            ]),
            0..8,
        ),
        steps in proptest::collection::vec(0u8..5, 0..6),
    ) {
        let routes = routes(&[("", "/", &[]), ("", "/public", &[]), ("", "/a/secret", &[])]);
        let path = format!("/{}", pieces.concat());
        if let Ok(index) = find(&routes, "GET", "h", &path) {
            let read = read_downstream(&path, &steps);
            let read = if read.starts_with('/') { read } else { format!("/{read}") };
            let read = read.split('\0').next().unwrap_or_default().to_owned();
            let segments: Vec<&str> = read.split('/').filter(|s| !s.is_empty()).collect();
            let leads_to = match segments[..] {
                ["public", ..] => 1,
                ["a", "secret", ..] => 2,
                _ => 0,
            };
            prop_assert_eq!(leads_to, index, "{} read as {}", path, read);
        }
    }
}
