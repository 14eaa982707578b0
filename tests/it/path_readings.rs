//! Contract §3, "Path": no second reading of a path leads from a required route into a public one.

use crate::harness::{Act, OK, Sidegate, Wire};

const ROUTES: &str = r#"
[[routes]]
path = "/"
[[routes]]
path = "/public"
access = "public"
[[routes]]
path = "/Static/Assets"
access = "public"
[[routes]]
path = "/public/admin"
"#;

async fn start() -> (Wire, Sidegate) {
    let wire = Wire::always(Act::answer(OK)).await;
    let gate = wire
        .gate()
        .client("demo", "sudo")
        .config(ROUTES)
        .start()
        .await;
    (wire, gate)
}

async fn status(gate: &Sidegate, path: &[u8]) -> (u16, String) {
    let mut raw = gate.raw().await;
    let bytes = [
        b"GET ",
        path,
        b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ]
    .concat();
    raw.send(bytes).await;
    let answer = raw.read_to_end().await;
    let status = answer.get(9..12).and_then(|code| code.parse().ok());
    (status.unwrap_or_else(|| panic!("{answer}")), answer)
}

#[tokio::test]
async fn no_spelling_moves_a_request_out_of_a_required_route() {
    let (wire, gate) = start().await;
    for path in [
        "/public/../secret",
        "/public/..%2fsecret",
        "/public/%2e%2e/secret",
        "/public/%2E%2E/secret",
        "/public/.%2e/secret",
        "/public/..;/secret",
        "/public/..;x=1/secret",
        "/public/..%5csecret",
        "/public/..\\secret",
        "/public/%252e%252e/secret",
        "/public/x/../../secret",
        "/public/./../secret",
        "/public/..",
        "/public//../../secret",
        "/public%2f..%2fsecret",
        "/public/%c0%ae%c0%ae/secret",
        "/public/..%00/secret",
        "/public;/../secret",
        "/secret/../public",
        "/secret/..%2fpublic",
        "/x/%2e%2e/public/a",
        "//public/a",
        "/%70ublic/../secret",
        "/PUBLIC/a",
        "/Public",
        "/public;x=1/a",
        "/public%3bx/a",
        "/public%2fa",
        "/public%5ca",
        "/public\\a",
        "/./public/a",
        "/%2e/public/a",
        "/public/./admin",
        "/public//admin",
        "/public/ADMIN",
        "/public/admin;x",
        "/public/%61dmin",
        "/public/x/../admin",
        "/public/a%2f..%2fadmin",
        "/static/assets/x",
        "/Static/assets",
    ] {
        let (code, answer) = status(&gate, path.as_bytes()).await;
        assert!(matches!(code, 400 | 401), "{path}: {answer}");
        if code == 400 {
            assert!(answer.contains("\"invalid_path\""), "{path}: {answer}");
        }
    }
    assert!(wire.heads().is_empty(), "{:?}", wire.heads());
}

#[tokio::test]
async fn a_path_whose_readings_all_lead_to_the_same_route_passes_as_it_came() {
    let (wire, gate) = start().await;
    for path in [
        "/public",
        "/public/",
        "/public/a%20b",
        "/public/a;v=1",
        "/public/a//b",
        "/public/a%2fb",
        "/public/x/./y",
        "/public/x/../y",
        "/public/%E6%97%A5",
        "/public/ABC",
        "/Static/Assets/Logo.PNG",
    ] {
        let (code, answer) = status(&gate, path.as_bytes()).await;
        assert_eq!(code, 200, "{path}: {answer}");
        let head = wire.heads().pop().unwrap();
        assert!(
            head.starts_with(&format!("GET {path} HTTP/1.1\r\n")),
            "{head}"
        );
    }
}

#[tokio::test]
async fn broken_escapes_controls_and_bytes_above_tilde_are_400_on_any_route() {
    let (wire, gate) = start().await;
    let one_route = wire
        .gate()
        .config("[[routes]]\npath = \"/\"\naccess = \"public\"")
        .start()
        .await;
    for gate in [&gate, &one_route] {
        for path in [
            &b"/public/%"[..],
            b"/public/%z1",
            b"/public/%1",
            b"/public/%%",
            b"/public/\x01",
            b"/public/\x7f",
            b"/public/\xc3\xa9",
            b"/public/\xff",
        ] {
            let (code, answer) = status(gate, path).await;
            assert_eq!(code, 400, "{path:?}: {answer}");
        }
    }
    assert!(wire.heads().is_empty());
}

#[tokio::test]
async fn own_endpoints_match_the_raw_path_and_no_reading_of_it() {
    let (wire, gate) = start().await;
    for path in [
        "/api/oauth2/server/tokens/",
        "/api/oauth2/server//tokens",
        "/api/oauth2/server/%74okens",
        "/API/oauth2/server/tokens",
        "/api/oauth2/server/tokens;x",
        "/api/oauth2/server/x/../tokens",
        "/api/oauth2/server/tokens/other",
    ] {
        let (code, answer) = status(&gate, path.as_bytes()).await;
        assert!(matches!(code, 400 | 401), "{path}: {answer}");
        assert!(!answer.contains("unsupported_grant_type"), "{answer}");
    }
    assert!(wire.heads().is_empty());
}

#[tokio::test]
async fn an_absolute_target_is_read_like_a_path() {
    let (wire, gate) = start().await;
    let (code, _) = status(&gate, b"http://a/public/../secret").await;
    assert!(matches!(code, 400 | 401));
    let (code, answer) = status(&gate, b"http://b.test/public/a?x=1&sudo=2").await;
    assert_eq!(code, 200, "{answer}");
    let head = wire.only_head();
    assert!(head.starts_with("GET /public/a?x=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Host: b.test\r\n"), "{head}");
    assert_eq!(head.to_ascii_lowercase().matches("\r\nhost:").count(), 1);
}
