//! Contract §3.9: who a request is stands in headers that only Sidegate sets.

use crate::harness::{Act, Backend, OK, Sidegate, Wire};

const ROUTES: &str = r#"
[[routes]]
path = "/"
[[routes]]
path = "/optional"
access = "optional"
[[routes]]
path = "/public"
access = "public"
[[routes]]
path = "/kept"
forward_credentials = true
[[routes]]
path = "/observed"
mode = "observe"
"#;

/// Every way of writing a name of ours that some reader takes for it.
const FORGED: &[&str] = &[
    "X-Auth-Client-Id",
    "x-auth-client-id",
    "X_Auth_Client_Id",
    "X_AUTH-CLIENT_ID",
    "X.Auth.Client.Id",
    "X-Auth_User-Id",
    "X-Auth-User-Id",
    "X-Auth-User-Login",
    "X-Auth-User-Email",
    "X-Auth-User-Mobile",
    "X-Auth-Account-Email",
    "X-Auth-Tenant-Id",
    "X-Auth-Tenant-Code",
    "X-Auth-Scope",
    "X-Auth-Token-Id",
    "X-Auth-Client-Cert-Subject",
    "X-Auth-Anything-New",
    "X~Auth~User~Id",
    "X!Auth!User!Id",
    "X|Auth|User|Id",
    "X'Auth'User'Id",
    "X*Auth*User*Id",
    "X+Auth+User+Id",
    "x-auth-",
];

fn is_identity(name: &str) -> bool {
    let folded: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    folded.starts_with("x-auth-")
}

#[tokio::test]
async fn forged_headers_of_every_spelling_arrive_nowhere_on_every_kind_of_route() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("demo", "sudo")
        .config(ROUTES)
        .start()
        .await;
    let token = gate.token("demo").await;
    let known = format!("Bearer {token}");
    for (target, authorization, own) in [
        ("/a", Some(&known[..]), 3),
        ("/a?sudo=uid:7&tenantId=5", Some(&known[..]), 5),
        ("/optional", None, 0),
        ("/optional", Some(&known[..]), 3),
        ("/public", None, 0),
        ("/public", Some(&known[..]), 0),
        ("/kept", Some(&known[..]), 3),
        ("/observed", None, 0),
        ("/observed", Some("Bearer nonsense"), 0),
        ("/observed", Some(&known[..]), 3),
    ] {
        let mut call = gate.call();
        for name in FORGED {
            call = call.header(name, "forged-value");
        }
        if let Some(value) = authorization {
            call = call.header("authorization", value);
        }
        call.get(target).await.expect_status(200);
        let seen = backend.requests().pop().unwrap();
        assert!(
            !format!("{seen:?}").contains("forged-value"),
            "{target}: {seen:#?}"
        );
        let ours = seen.headers.iter().filter(|(name, _)| is_identity(name));
        assert_eq!(ours.count(), own, "{target} {authorization:?}: {seen:#?}");
    }
}

#[tokio::test]
async fn a_forged_header_is_not_rescued_by_connection_nor_by_repetition() {
    let wire = Wire::always(Act::answer(OK)).await;
    let gate = wire.gate().client("demo", "sudo").start().await;
    let token = gate.token("demo").await;
    let mut raw = gate.raw().await;
    raw.send(format!(
        "GET /a?sudo=uid:7 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\
         Connection: X-Auth-User-Id, close\r\nX-Auth-User-Id: 1\r\nX-Auth-User-Id: 2\r\nx_auth_user_id: 3\r\n\
         Connection: x-auth-client-id, x-request-id, x-forwarded-for, host, authorization\r\n\r\n"
    ))
    .await;
    assert!(raw.read_to_end().await.starts_with("HTTP/1.1 200 "));
    let head = wire.only_head();
    for (name, value) in [
        ("X-Auth-User-Id", "7"),
        ("X-Auth-Client-Id", "demo"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("Host", "a"),
    ] {
        assert!(head.contains(&format!("\r\n{name}: {value}\r\n")), "{head}");
        let count = head
            .to_ascii_lowercase()
            .matches(&format!("\r\n{}:", name.to_ascii_lowercase()))
            .count();
        assert_eq!(count, 1, "{name}: {head}");
    }
    assert!(head.contains("\r\nX-Request-Id: "), "{head}");
    assert!(!head.contains("x_auth"), "{head}");
}

#[tokio::test]
async fn forged_trailers_arrive_nowhere_and_honest_ones_do() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("demo", "sudo")
        .config(ROUTES)
        .start()
        .await;
    let token = gate.token("demo").await;
    for path in ["/a", "/public"] {
        let mut raw = gate.raw().await;
        raw.send(format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
             Transfer-Encoding: chunked\r\nTrailer: X-Sum, X-Auth-User-Id, x_auth_user_id, Authorization, X-Forwarded-For\r\n\r\n\
             2\r\nhi\r\n0\r\nX-Sum: 42\r\nX-Auth-User-Id: 1\r\nX_Auth_User_Id: 1\r\nAuthorization: Bearer x\r\n\
             X-Forwarded-For: 6.6.6.6\r\nContent-Length: 3\r\nHost: evil\r\n\r\n"
        ))
        .await;
        let answer = raw.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let seen = backend.requests().pop().unwrap();
        assert_eq!(&seen.body[..], b"hi");
        assert_eq!(seen.trailers, [("x-sum".to_owned(), b"42".to_vec())]);
        assert_eq!(seen.header("trailer"), Some("x-sum"));
    }
}

#[tokio::test]
async fn what_is_known_is_set_exactly_once_and_what_is_not_is_absent() {
    let wire = Wire::always(Act::answer(OK)).await;
    let gate = wire.gate().client("demo", "sudo orders:read").start().await;
    let call = gate.as_client("demo").await;
    call.get("/a?sudo=email:a@example.com&tenantCode=ACME")
        .await
        .expect_status(200);
    let head = wire.only_head();
    let mut ours: Vec<_> = head
        .lines()
        .filter(|line| line.starts_with("X-Auth-"))
        .collect();
    ours.sort_unstable();
    let id = ours
        .iter()
        .find_map(|line| line.strip_prefix("X-Auth-Token-Id: "))
        .unwrap();
    assert!(id.parse::<u64>().is_ok(), "{id}");
    let token_id = format!("X-Auth-Token-Id: {id}");
    assert_eq!(
        ours,
        [
            "X-Auth-Client-Id: demo",
            "X-Auth-Scope: sudo orders:read",
            "X-Auth-Tenant-Code: ACME",
            &token_id,
            "X-Auth-User-Email: a@example.com",
        ]
    );
}

#[tokio::test]
async fn headers_can_be_renamed_and_old_and_new_names_are_both_ours() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("demo", "sudo")
        .config(ROUTES)
        .config("[identity]\nprefix = \"X-Gate-\"\n[identity.headers]\nuser_login = \"X-WEBAUTH-USER\"\nclient_id = \"Remote-Client\"")
        .start()
        .await;
    let token = gate.token("demo").await;
    for (target, identified) in [
        ("/a?sudo=loginName:ann&tenantId=4", true),
        ("/public?sudo=loginName:ann", false),
    ] {
        let mut call = gate
            .call()
            .header("authorization", &format!("Bearer {token}"));
        for name in [
            "X-WEBAUTH-USER",
            "x_webauth_user",
            "X.WebAuth.User",
            "Remote_Client",
            "remote-client",
            "X-Gate-Scope",
            "x_gate_user_login",
            "X-Auth-User-Login",
            "x_auth_client_id",
            "X-Auth-User-Id",
        ] {
            call = call.header(name, "forged-value");
        }
        call.get(target).await.expect_status(200);
        let seen = backend.requests().pop().unwrap();
        assert!(!format!("{seen:?}").contains("forged-value"), "{seen:#?}");
        assert_eq!(seen.header("x-webauth-user"), identified.then_some("ann"));
        assert_eq!(seen.header("remote-client"), identified.then_some("demo"));
        assert_eq!(seen.header("x-gate-scope"), identified.then_some("sudo"));
        assert_eq!(seen.header("x-gate-tenant-id"), identified.then_some("4"));
        assert!(!seen.headers.iter().any(|(name, _)| is_identity(name)));
    }
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_any_other_is_made_and_the_answer_has_the_same() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend).config(ROUTES).start().await;
    let longest = "a".repeat(128);
    for sane in ["abc", "A.b_c-9", &longest] {
        let call = gate.call().header("x-request-id", sane);
        let answer = call.get("/public").await;
        assert_eq!(answer.header("x-request-id"), Some(sane));
        let seen = backend.requests().pop().unwrap();
        assert_eq!(seen.header("x-request-id"), Some(sane));
        let refused = call.get("/a").await;
        assert_eq!(refused.header("x-request-id"), Some(sane));
        refused.expect_refusal(401, "missing_token");
    }
    let longer = "a".repeat(129);
    for odd in ["", "a b", "a\"b", "a/b", &longer, "{x}"] {
        let call = gate.call().header("x-request-id", odd);
        let answer = call.get("/public").await;
        let made = answer.header("x-request-id").unwrap();
        assert_ne!(made, odd);
        assert!(!made.is_empty() && made.len() <= 128);
        let seen = backend.requests().pop().unwrap();
        assert_eq!(seen.header("x-request-id"), Some(made));
    }
    let twice = gate
        .call()
        .header("x-request-id", "one")
        .header("x-request-id", "two")
        .header("x_request_id", "three");
    let answer = twice.get("/public").await;
    let seen = backend.requests().pop().unwrap();
    assert_eq!(seen.header("x-request-id"), answer.header("x-request-id"));
    assert!(!seen.has_header("x_request_id"));
}

#[tokio::test]
async fn a_backend_cannot_change_the_request_id_of_the_answer() {
    let wire = Wire::always(Act::answer(
        "HTTP/1.1 200 OK\r\nX-Request-Id: its-own\r\nX-Request-Id: twice\r\nContent-Length: 0\r\n\r\n",
    ))
    .await;
    let gate = wire.gate().config(ROUTES).start().await;
    let answer = gate
        .call()
        .header("x-request-id", "mine")
        .get("/public")
        .await;
    assert_eq!(answer.header("x-request-id"), Some("mine"));
}

#[tokio::test]
async fn forwarding_headers_of_an_untrusted_peer_are_replaced() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend).config(ROUTES).start().await;
    let mut call = gate.call();
    for (name, value) in [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-for", "7.7.7.7"),
        ("x_forwarded_for", "6.6.6.6"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.test"),
        ("x-forwarded-port", "444"),
        ("x-forwarded-prefix", "/evil"),
        ("x-forwarded-user", "root"),
        ("X.Forwarded.Email", "root@x"),
        ("forwarded", "for=6.6.6.6"),
        ("x-real-ip", "6.6.6.6"),
        ("x_real_ip", "6.6.6.6"),
    ] {
        call = call.header(name, value);
    }
    call.get("/public").await.expect_status(200);
    let seen = backend.only_request();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("service.test"));
    let others: Vec<_> = seen
        .headers
        .iter()
        .map(|(name, _)| name.replace(['_', '.'], "-"))
        .filter(|name| name.contains("forwarded") || name.contains("real-ip"))
        .collect();
    assert_eq!(others.len(), 3, "{others:?}");
    let line = gate
        .logged("access", |line| line["path"] == "/public")
        .await;
    assert_eq!(line["client_ip"], "127.0.0.1");
}

#[tokio::test]
async fn those_of_a_trusted_proxy_are_kept_and_for_is_appended_to() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .server("trusted_proxies = [\"127.0.0.0/8\"]")
        .config(ROUTES)
        .start()
        .await;
    let call = gate
        .call()
        .header("x-forwarded-for", "198.51.100.7")
        .header("x-forwarded-for", "10.1.1.1")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "shop.example.com");
    call.get("/public/a").await.expect_status(200);
    let seen = backend.requests().pop().unwrap();
    assert_eq!(
        seen.header("x-forwarded-for"),
        Some("198.51.100.7, 10.1.1.1, 127.0.0.1")
    );
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-forwarded-host"), Some("shop.example.com"));
    let line = gate
        .logged("access", |line| line["path"] == "/public/a")
        .await;
    assert_eq!(line["client_ip"], "10.1.1.1");

    gate.get("/public/b").await.expect_status(200);
    let seen = backend.requests().pop().unwrap();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("service.test"));

    // The one spelling a proxy cleans is believed, no other one.
    let call = gate.call().header("x_forwarded_for", "6.6.6.6");
    call.get("/public/c").await.expect_status(200);
    let seen = backend.requests().pop().unwrap();
    assert!(!seen.has_header("x_forwarded_for"));
    // Identity is believed of nobody.
    let call = gate.call().header("x-auth-user-id", "1");
    call.get("/public/d").await.expect_status(200);
    let seen = backend.requests().pop().unwrap();
    assert!(!seen.has_header("x-auth-user-id"));
}

#[tokio::test]
async fn values_are_encoded_so_that_no_byte_can_end_or_double_a_header() {
    let wire = Wire::always(Act::answer(OK)).await;
    let gate = wire.gate().client("demo", "sudo").start().await;
    let call = gate.as_client("demo").await;
    call.get("/a?sudo=loginName:%E5%BC%A0%20%E4%B8%89%25&tenantCode=a%20b%C3%BC")
        .await
        .expect_status(200);
    let head = wire.only_head();
    assert!(
        head.contains("\r\nX-Auth-User-Login: %E5%BC%A0%20%E4%B8%89%25\r\n"),
        "{head}"
    );
    assert!(
        head.contains("\r\nX-Auth-Tenant-Code: a%20b%C3%BC\r\n"),
        "{head}"
    );
    for bad in ["a%0d%0aX-Auth-Client-Id:%20root", "a%0a", "a%00", "%c2%85"] {
        call.get(&format!("/a?tenantCode={bad}"))
            .await
            .expect_refusal(400, "invalid_request");
    }
    assert_eq!(wire.heads().len(), 1);
}
