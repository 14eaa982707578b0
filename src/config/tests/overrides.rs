//! Variables over the file.

use std::net::SocketAddr;

use super::super::Config;
use super::{UPSTREAM, read_env};
use crate::gate::settings::Access;
use crate::limits::KeyPart;

fn read(text: &str, pairs: &[(&str, &str)]) -> Config {
    read_env(&format!("{UPSTREAM}{text}"), pairs).unwrap_or_else(|m| panic!("{m}"))
}

fn wrong(text: &str, pairs: &[(&str, &str)]) -> String {
    read_env(&format!("{UPSTREAM}{text}"), pairs)
        .unwrap_err()
        .to_string()
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn names_have_no_letter_case_and_underscores_stand_for_hyphens() {
    let limit = "[rate_limits.per-client]\nkey = \"client\"\nrate = \"1/s\"\n";
    let pairs = [
        ("SIDEGATE__SERVER__MAX_HEADERS", "7"),
        ("sidegate__Rate_Limits__per_client__RATE", "9/min"),
        ("SIDEGATE__RATE_LIMITS__FAILED_CREDENTIALS__BURST", "3"),
    ];
    let config = read(limit, &pairs);
    assert_eq!(config.server.max_headers, 7);
    let rate = |name: &str| config.rate_limits.iter().find(|l| l.name == name).unwrap();
    assert_eq!(rate("per-client").rate.to_string(), "9/min");
    assert_eq!(rate("failed-credentials").burst.get(), 3);
    assert_eq!(config.rate_limits.len(), 2);
}

#[test]
fn lists_go_by_index_and_the_next_number_adds_an_item() {
    let routes = "[[routes]]\npath = \"/a\"\n[[routes]]\npath = \"/b\"\n";
    let pairs = [
        ("SIDEGATE__ROUTES__1__ACCESS", "public"),
        ("SIDEGATE__ROUTES__2__PATH", "/c"),
        ("SIDEGATE__ROUTES__2__SCOPES__0", "read"),
        ("SIDEGATE__ROUTES__2__SCOPES__1", "write"),
    ];
    let config = read(routes, &pairs);
    let seen: Vec<_> = config
        .routes
        .iter()
        .map(|r| (r.path.as_str(), r.access, r.scopes.to_string()))
        .collect();
    assert_eq!(
        seen,
        [
            ("/a", Access::Required, String::new()),
            ("/b", Access::Public, String::new()),
            ("/c", Access::Required, "read write".to_owned()),
        ]
    );
    let message = wrong(routes, &[("SIDEGATE__ROUTES__5__ACCESS", "public")]);
    assert!(
        message.contains("SIDEGATE__ROUTES__5__ACCESS: routes: "),
        "{message}"
    );
}

#[test]
fn items_that_leave_a_gap_are_a_mistake() {
    let message = wrong("", &[("SIDEGATE__ROUTES__1__PATH", "/x")]);
    assert!(message.contains("from 0 without gaps"), "{message}");
}

#[test]
fn the_one_default_route_can_be_overridden_where_the_file_has_none() {
    let config = read("", &[("SIDEGATE__ROUTES__0__ACCESS", "optional")]);
    assert_eq!(config.routes.len(), 1);
    assert_eq!(config.routes[0].path, "/");
    assert_eq!(config.routes[0].access, Access::Optional);
}

#[test]
fn texts_are_read_as_the_key_wants_them() {
    let pairs = [
        (
            "SIDEGATE__SERVER__LISTEN",
            "[\"127.0.0.1:1\", \"127.0.0.1:2\"]",
        ),
        ("SIDEGATE__SERVER__ADMIN_LISTEN", "[::1]:9"),
        ("SIDEGATE__SERVER__MAX_BODY", "10MiB"),
        ("SIDEGATE__LOG__ACCESS", "false"),
        ("SIDEGATE__RATE_LIMITS__X__KEY", "[\"ip\", \"route\"]"),
        ("SIDEGATE__RATE_LIMITS__X__RATE", "1/s"),
        ("SIDEGATE__SERVER__TRUSTED_PROXIES", "[\"10.0.0.0/8\"]"),
        ("SIDEGATE__CLIENTS__0__ID", "79"),
        ("SIDEGATE__CLIENTS__0__SECRET", "{ env = \"S\" }"),
        ("SIDEGATE__CLIENTS__1__ID", "b"),
        ("SIDEGATE__CLIENTS__1__SECRET", "{no table"),
        ("S", "from-env"),
        ("SIDEGATE_CONFIG", "/else/where.toml"),
    ];
    let config = read("", &pairs);
    assert_eq!(
        config.server.listen,
        [addr("127.0.0.1:1"), addr("127.0.0.1:2")]
    );
    assert_eq!(config.server.admin_listen, addr("[::1]:9"));
    assert_eq!(config.server.max_body, Some(10 << 20));
    assert!(!config.log.access);
    let limit = config.rate_limits.iter().find(|l| l.name == "x").unwrap();
    assert_eq!(limit.key, [KeyPart::Ip, KeyPart::Route]);
    assert_eq!(config.clients[0].id.as_str(), "79");
    assert!(config.clients[0].secrets[0].digest.matches("from-env"));
    assert!(config.clients[1].secrets[0].digest.matches("{no table"));
    let v6 = read("", &[("SIDEGATE__SERVER__LISTEN", "[::1]:8080")]);
    assert_eq!(v6.server.listen, [addr("[::1]:8080")]);
}

#[test]
fn an_unknown_variable_is_named_with_the_closest_known_one() {
    for (name, closest) in [
        ("SIDEGATE__SERVER__LISTNE", "SIDEGATE__SERVER__LISTEN"),
        ("SIDEGATE__SERVR__LISTEN", "SIDEGATE__SERVER"),
        ("SIDEGATE__ROUTES__0__ACCES", "SIDEGATE__ROUTES__0__ACCESS"),
    ] {
        let message = wrong("[[routes]]\n", &[(name, "secret-looking")]);
        assert!(
            message.starts_with(&format!("environment variable {name}: ")),
            "{message}"
        );
        assert!(message.contains(&format!("is {closest}\n")), "{message}");
        assert!(!message.contains("secret-looking"), "{message}");
    }
}

#[test]
fn a_mistake_in_an_overridden_value_names_the_variable_and_no_line() {
    let server = "[server]\nmax_headers = 5\n";
    let error = read_env(
        &format!("{UPSTREAM}{server}"),
        &[("SIDEGATE__SERVER__MAX_HEADERS", "many")],
    )
    .unwrap_err();
    let mistake = error.iter().next().unwrap();
    assert_eq!(
        mistake.variable.as_deref(),
        Some("SIDEGATE__SERVER__MAX_HEADERS")
    );
    assert_eq!(
        (mistake.line, mistake.key.as_str()),
        (None, "server.max_headers")
    );
}

#[test]
fn variables_that_are_no_paths_are_mistakes() {
    for name in [
        "SIDEGATE__",
        "SIDEGATE__SERVER____LISTEN",
        "SIDEGATE__SERVER__LISTEN__X__Y",
    ] {
        let message = wrong("[server]\nlisten = \"127.0.0.1:1\"\n", &[(name, "1")]);
        assert!(message.contains(name), "{message}");
    }
    let twice = [
        ("SIDEGATE__LOG__LEVEL", "warn"),
        ("sidegate__log__level", "info"),
    ];
    assert!(wrong("", &twice).contains("another variable overrides the same key"));
}

#[test]
fn a_variable_holds_one_value_and_nothing_behind_it() {
    for text in ["5 6", "5\nx = 1", "5,", "", "5"] {
        let pairs = [("SIDEGATE__SERVER__MAX_HEADERS", text)];
        let read = read_env(UPSTREAM, &pairs);
        assert_eq!(read.is_ok(), text == "5", "{text:?}");
    }
    for text in ["{ env = \"S\" } x", "{ env = \"S\" }\n"] {
        let pairs = [
            ("SIDEGATE__CLIENTS__0__ID", "a"),
            ("SIDEGATE__CLIENTS__0__SECRET", text),
            ("S", "from-env"),
        ];
        let config = read("", &pairs);
        let digest = &config.clients[0].secrets[0].digest;
        assert_eq!(digest.matches("from-env"), text.ends_with('\n'));
    }
}
