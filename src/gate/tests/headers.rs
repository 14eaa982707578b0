//! What goes on of a request's head, and what never does.

use proptest::prelude::*;

use super::*;
use crate::gate::settings::Access;
use crate::gate::settings::{IdentityKey, IdentitySettings};
use crate::gate::tests_support::*;

async fn public(target: &str, lines: &[(&str, &str)], trusted: bool) -> request::Parts {
    let world = Setting::usual().build().await;
    let (permit, parts) = world.decide(target, lines).await.unwrap();
    written_by(permit, parts, trusted)
}

fn has(parts: &request::Parts, name: &str) -> bool {
    parts.headers.contains_key(name)
}

#[tokio::test]
async fn hop_by_hop_headers_go_with_all_that_any_connection_line_names() {
    let parts = public(
        "/pub",
        &[
            ("connection", "close, X-Hop , \"x-quoted\""),
            ("connection", "X-OTHER,,keep-alive"),
            ("x-hop", "1"),
            ("x-hop", "2"),
            ("x-other", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic x"),
            ("proxy-authenticate", "x"),
            ("te", "trailers"),
            ("trailer", "x-sum"),
            ("upgrade", "h2c"),
            ("http2-settings", "AA"),
            ("proxy", "http://evil"),
            ("expect", "100-continue"),
            ("accept", "*/*"),
        ],
        false,
    )
    .await;
    let mut left: Vec<_> = parts.headers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(
        left,
        [
            "accept",
            "host",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-request-id"
        ]
    );
}

#[tokio::test]
async fn a_connection_line_cannot_take_away_what_we_set() {
    let world = Setting::usual().build().await;
    let token = format!("Bearer {}", world.token("demo", "sudo"));
    let nominated = "host, content-length, x-auth-client-id, x-auth-scope, x-forwarded-for, \
                     X-Forwarded-Host, x-request-id, authorization";
    let lines = [
        ("authorization", token.as_str()),
        ("connection", nominated),
        ("content-length", "0"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-host", "outer.example.com"),
    ];
    let (permit, parts) = world.decide("/a", &lines).await.unwrap();
    let parts = written_by(permit, parts, true);
    assert_eq!(values(&parts, "host"), ["app.example.com"]);
    assert_eq!(values(&parts, "x-auth-client-id"), ["demo"]);
    assert_eq!(values(&parts, "x-auth-scope"), ["sudo"]);
    assert_eq!(
        values(&parts, "x-forwarded-for"),
        ["203.0.113.9, 192.0.2.7"]
    );
    assert_eq!(values(&parts, "x-forwarded-host"), ["outer.example.com"]);
    assert_eq!(values(&parts, "x-request-id"), ["id-1"]);
    assert_eq!(values(&parts, "content-length"), ["0"]);
}

#[tokio::test]
async fn nothing_of_the_framing_that_came_goes_on() {
    let length = ("content-length", "5");
    let chunked = ("transfer-encoding", "chunked");
    let zero = ("content-length", "0");
    for (lines, expected) in [
        (&[length][..], (&[][..], &[][..])),
        (&[zero], (&["0"], &[])),
        (&[zero, chunked], (&[], &["chunked"])),
        (&[length, chunked], (&[], &["chunked"])),
        (
            &[("transfer-encoding", "gzip, chunked")],
            (&[], &["chunked"]),
        ),
        (
            &[chunked, ("transfer-encoding", "identity")],
            (&[], &["chunked"]),
        ),
        (
            &[
                ("content_length", "0"),
                ("Transfer_Encoding", "chunked"),
                ("transfer.encoding", "x"),
            ],
            (&[], &[]),
        ),
    ] {
        let parts = public("/pub", lines, false).await;
        assert_eq!(values(&parts, "content-length"), expected.0, "{lines:?}");
        assert_eq!(values(&parts, "transfer-encoding"), expected.1, "{lines:?}");
        assert!(!has(&parts, "content_length") && !has(&parts, "transfer_encoding"));
        assert!(!has(&parts, "transfer.encoding"));
    }
}

#[tokio::test]
async fn trailers_are_announced_only_with_chunks_and_never_those_of_ours() {
    let chunked = ("transfer-encoding", "chunked");
    let lines = [
        chunked,
        ("trailer", "X-Sum, X_Auth_User_Id, content-length"),
        ("trailer", "host, x-b"),
    ];
    let parts = public("/pub", &lines, false).await;
    assert_eq!(values(&parts, "trailer"), ["x-sum, x-b"]);
    let parts = public("/pub", &[chunked, ("trailer", "X-Auth-User-Id")], false).await;
    assert!(!has(&parts, "trailer"));
}

#[tokio::test]
async fn forged_identity_headers_never_go_on_whatever_the_route() {
    let forged = [
        ("x-auth-client-id", "root"),
        ("X_AUTH_USER_ID", "1"),
        ("x.auth.scope", "admin"),
        ("X-Auth-Client-Cert-Subject", "CN=root"),
        ("X-Auth-Whatever", "1"),
    ];
    for target in ["/pub", "/opt", "/obs"] {
        let parts = public(target, &forged, true).await;
        let left: Vec<_> = parts
            .headers
            .keys()
            .filter(|name| name.as_str().contains("auth"))
            .collect();
        assert!(left.is_empty(), "{target}: {left:?}");
    }
    let world = Setting::usual().build().await;
    let token = format!("Bearer {}", world.token("demo", "read"));
    let mut lines = forged.to_vec();
    lines.push(("authorization", &token));
    let parts = world.forward("/a", &lines).await;
    let mut names = identity_names(&parts);
    names.sort();
    assert_eq!(
        names,
        ["x-auth-client-id", "x-auth-scope", "x-auth-token-id"]
    );
    assert_eq!(values(&parts, "x-auth-client-id"), ["demo"]);
    assert_eq!(values(&parts, "x-auth-token-id"), ["42"]);
    assert!(!has(&parts, "x_auth_user_id") && !has(&parts, "x.auth.scope"));
}

#[tokio::test]
async fn renamed_headers_are_cleaned_and_set_under_their_new_name() {
    let mut setting = Setting::usual();
    setting.identity = IdentitySettings {
        prefix: "X-Who-".to_owned(),
        renamed: vec![(IdentityKey::UserLogin, "X-WEBAUTH-USER".to_owned())],
    };
    let world = setting.build().await;
    let token = format!("Bearer {}", world.token("demo", "sudo"));
    let lines = [
        ("authorization", token.as_str()),
        ("X_WEBAUTH_USER", "root"),
        ("x-webauth-user", "root"),
        ("x-webauth-user", "admin"),
        ("x-auth-user-login", "root"),
        ("x-who-user-id", "1"),
    ];
    let parts = world.forward("/a?sudo=loginName:li", &lines).await;
    assert_eq!(values(&parts, "x-webauth-user"), ["li"]);
    assert_eq!(values(&parts, "x-who-client-id"), ["demo"]);
    for gone in ["x_webauth_user", "x-auth-user-login", "x-who-user-id"] {
        assert!(!has(&parts, gone), "{gone}");
    }
    let parts = world.forward("/pub", &lines).await;
    assert!(!has(&parts, "x-webauth-user") && !has(&parts, "x_webauth_user"));
}

#[tokio::test]
async fn forwarding_headers_of_strangers_are_replaced() {
    let lines = [
        ("x-forwarded-for", "127.0.0.1"),
        ("X_Forwarded_For", "127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-port", "443"),
        ("x.forwarded.prefix", "/evil"),
        ("forwarded", "for=127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("x_real_ip", "127.0.0.1"),
        ("x-request-id", "evil"),
        ("x_request_id", "evil"),
    ];
    let parts = public("/pub", &lines, false).await;
    let mut left: Vec<_> = parts.headers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(
        left,
        [
            "host",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-request-id"
        ]
    );
    assert_eq!(values(&parts, "x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(values(&parts, "x-forwarded-proto"), ["http"]);
    assert_eq!(values(&parts, "x-forwarded-host"), ["app.example.com"]);
    assert_eq!(values(&parts, "x-request-id"), ["id-1"]);
}

#[tokio::test]
async fn a_trusted_proxys_forwarding_headers_are_kept_and_appended_to() {
    let lines = [
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-for", "198.51.100.2, 198.51.100.3"),
        ("X_Forwarded_For", "127.0.0.1"),
        ("x-forwarded-proto", "ftp"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "outer.example.com"),
        ("x-forwarded-port", "443"),
        ("forwarded", "for=203.0.113.9"),
        ("x_real_ip", "127.0.0.1"),
        ("x-real-ip", "203.0.113.9"),
    ];
    let parts = public("/pub", &lines, true).await;
    assert_eq!(
        values(&parts, "x-forwarded-for"),
        ["203.0.113.9, 198.51.100.2, 198.51.100.3, 192.0.2.7"]
    );
    assert_eq!(values(&parts, "x-forwarded-proto"), ["https"]);
    assert_eq!(values(&parts, "x-forwarded-host"), ["outer.example.com"]);
    assert_eq!(values(&parts, "x-forwarded-port"), ["443"]);
    assert!(has(&parts, "forwarded") && has(&parts, "x-real-ip"));
    assert!(!has(&parts, "x_forwarded_for") && !has(&parts, "x_real_ip"));

    let parts = public("/pub", &[], true).await;
    assert_eq!(values(&parts, "x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(values(&parts, "x-forwarded-proto"), ["http"]);
    assert_eq!(values(&parts, "x-forwarded-host"), ["app.example.com"]);
}

#[tokio::test]
async fn bearer_tokens_stay_here_and_other_schemes_go_on() {
    let world = Setting::usual().build().await;
    for cut in [
        "Bearer x",
        "bearer",
        "BEARER\tx",
        "Bearer:x",
        "Basic dTpw, Bearer x",
    ] {
        let parts = world.forward("/pub", &[("authorization", cut)]).await;
        assert!(!has(&parts, "authorization"), "{cut}");
    }
    let lines = [
        ("authorization", "Basic dTpw"),
        ("authorization", "Bearer x"),
        ("authorization", "Digest y"),
    ];
    let parts = world.forward("/pub", &lines).await;
    assert_eq!(values(&parts, "authorization"), ["Basic dTpw", "Digest y"]);
    let parts = world
        .forward("/opt", &[("authorization", "Basic dTpw")])
        .await;
    assert_eq!(values(&parts, "authorization"), ["Basic dTpw"]);
    let token = world.token("demo", "read");
    let target = format!("/a?access_token={token}&b=1");
    let parts = world
        .forward(&target, &[("authorization", "Basic dTpw")])
        .await;
    assert_eq!(values(&parts, "authorization"), ["Basic dTpw"]);
    assert_eq!(parts.uri, "/a?b=1");
}

#[tokio::test]
async fn credentials_go_on_where_the_route_says_so_and_parameters_do_not() {
    let world = Setting::usual()
        .root(|route| route.forward_credentials = true)
        .build()
        .await;
    let token = world.token("demo", "sudo");
    let line = format!("Bearer {token}");
    let parts = world
        .forward("/a?sudo=uid:1", &[("authorization", &line)])
        .await;
    assert_eq!(values(&parts, "authorization"), [line]);
    assert_eq!(parts.uri, "/a");
    let target = format!("/a?x=1&access_token={token}&tenantId=7");
    let parts = world.forward(&target, &[]).await;
    assert_eq!(
        parts.uri.to_string(),
        format!("/a?x=1&access_token={token}")
    );
}

#[tokio::test]
async fn the_target_that_goes_on_is_path_and_query_alone() {
    for (target, sent) in [
        ("http://app.example.com/pub?a=1&sudo=x", "/pub?a=1"),
        ("http://app.example.com/pub", "/pub"),
        ("/pub?sudo=x", "/pub"),
        ("/pub?", "/pub?"),
        ("/pub?&&", "/pub?&&"),
        (
            "/pub?a=%zz&b=%C3%A9\u{E9}&sudo",
            "/pub?a=%zz&b=%C3%A9\u{E9}",
        ),
        ("/pub?sudo=1&sudo=%FF&tenantId=+", "/pub"),
    ] {
        let parts = public(target, &[], false).await;
        assert_eq!(parts.uri.to_string(), sent, "{target}");
        assert_eq!(parts.version, Version::HTTP_11);
    }
}

#[tokio::test]
async fn trailers_say_nothing_that_only_a_head_or_only_we_may_say() {
    let world = Setting::usual().build().await;
    let (permit, parts) = world.decide("/pub", &[]).await.unwrap();
    let way = Way {
        peer_ip: CALLER,
        trusted: true,
        scheme: "http",
        host_header: &HeaderValue::from_static("h"),
        request_id: &HeaderValue::from_static("id"),
    };
    let (_, _, _, filter) = permit.write(parts, &way).into_parts();
    let sent = request(
        "/",
        &[
            ("x-sum", "1"),
            ("grpc-status", "0"),
            ("X_Auth_User_Id", "1"),
            ("x-auth-client-id", "root"),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("authorization", "Bearer x"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x_real_ip", "127.0.0.1"),
            ("host", "evil"),
            ("connection", "x"),
            ("cookie", "a=b"),
            ("x-request-id", "1"),
        ],
    );
    let mut trailers = sent.headers;
    filter.filter(&mut trailers);
    let mut left: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["grpc-status", "x-sum"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nothing_of_the_class_survives_any_spelling(
        lines in prop::collection::vec(
            (prop_oneof![
                "[xX][-_.~][aA][uU][tT][hH][-_.!+][a-zA-Z_.-]{0,12}",
                "[xX][-_.][wW][eE][bB][aA][uU][tT][hH][-_|][uU][sS][eE][rR]",
                "[xX][-_.]forwarded[-_.]for",
                "(te|upgrade|connection|x-own)",
            ], "[ -~]{0,12}"), 0..12)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let parts = runtime.block_on(async {
            let mut setting = Setting::usual();
            setting.routes.truncate(1);
            setting.routes[0].access = Access::Public;
            setting.identity.renamed = vec![(IdentityKey::UserLogin, "X-WEBAUTH-USER".to_owned())];
            let world = setting.build().await;
            let lines: Vec<_> = lines.iter().map(|(name, value)| (name.as_str(), value.trim())).collect();
            world.forward("/", &lines).await
        });
        for name in parts.headers.keys() {
            let folded: String = name.as_str().chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            prop_assert!(!folded.starts_with("x-auth-") && folded != "x-webauth-user", "{}", name);
            prop_assert!(folded != "x-forwarded-for" || name == "x-forwarded-for");
        }
        prop_assert_eq!(values(&parts, "x-forwarded-for"), ["192.0.2.7"]);
    }
}
