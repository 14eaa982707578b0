//! Contract §3.6 and §3.10: what changes in a backend's answer, and that nothing else does.

use crate::harness::{Act, Wire};

const ROUTES: &str = r#"
[[routes]]
path = "/"
[[routes]]
path = "/public"
access = "public"
[[routes]]
path = "/observed"
mode = "observe"
"#;

fn saying(status: &str, lines: &str) -> Act {
    Act::answer(format!(
        "HTTP/1.1 {status}\r\n{lines}Content-Length: 0\r\n\r\n"
    ))
}

#[tokio::test]
async fn a_2xx_to_a_token_in_the_url_is_private() {
    for (status, lines, expected) in [
        ("200 OK", "", Some("private")),
        ("201 Created", "", Some("private")),
        ("204 No Content", "", Some("private")),
        (
            "200 OK",
            "Cache-Control: public, max-age=60\r\n",
            Some("max-age=60, private"),
        ),
        ("200 OK", "Cache-Control: no-store\r\n", Some("no-store")),
        ("200 OK", "Cache-Control: private\r\n", Some("private")),
        ("302 Found", "", None),
        (
            "404 Not Found",
            "Cache-Control: max-age=5\r\n",
            Some("max-age=5"),
        ),
    ] {
        let wire = Wire::always(saying(status, lines)).await;
        let gate = wire
            .gate()
            .client("demo", "sudo")
            .config(ROUTES)
            .start()
            .await;
        let token = gate.token("demo").await;
        for path in ["/a", "/public"] {
            let answer = gate.get(&format!("{path}?access_token={token}")).await;
            assert_eq!(
                answer.header("cache-control"),
                expected,
                "{path} {status} {lines}"
            );
        }
        // A token in a header changes nothing.
        let unchanged = lines.strip_prefix("Cache-Control: ").map(str::trim);
        let answer = gate.as_client("demo").await.get("/a").await;
        assert_eq!(
            answer.header("cache-control"),
            unchanged,
            "{status} {lines}"
        );
    }
}

#[tokio::test]
async fn username_is_told_to_be_deprecated_and_nothing_else_is() {
    let wire = Wire::always(saying("404 Not Found", "")).await;
    let gate = wire
        .gate()
        .client("demo", "sudo")
        .config(ROUTES)
        .start()
        .await;
    let call = gate.as_client("demo").await;
    let answer = call.get("/a?sudo=username:ann").await;
    assert_eq!(answer.header("deprecation"), Some("@1704067200"));
    for query in ["", "?sudo=loginName:ann", "?sudo=uid:1"] {
        let answer = call.get(&format!("/a{query}")).await;
        assert_eq!(answer.header("deprecation"), None);
    }
}

#[tokio::test]
async fn every_other_header_status_and_byte_is_the_backends() {
    let wire = Wire::always(Act::answer(
        "HTTP/1.1 418 Short And Stout\r\nServer: teapot/1\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nSet-Cookie: a=1; Path=/\r\n\
         Set-Cookie: b=2\r\nWWW-Authenticate: Basic realm=\"x\"\r\nX-Bytes: ä\r\nETag: \"x\"\r\nVary: *\r\nContent-Type: text/x\r\nContent-Length: 5\r\n\r\n\0\x01\x02\r\n",
    ))
    .await;
    let gate = wire.gate().config(ROUTES).start().await;
    let answer = gate.get("/public").await;
    answer.expect_status(418);
    assert_eq!(&answer.body[..], b"\0\x01\x02\r\n");
    for (name, value) in [
        ("server", "teapot/1"),
        ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("www-authenticate", "Basic realm=\"x\""),
        ("etag", "\"x\""),
        ("vary", "*"),
        ("content-type", "text/x"),
        ("content-length", "5"),
    ] {
        assert_eq!(answer.header(name), Some(value));
    }
    assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 2);
    assert_eq!(answer.headers["x-bytes"].as_bytes(), "ä".as_bytes());
    assert_eq!(answer.headers.len(), 11, "{:?}", answer.headers);
}

#[tokio::test]
async fn head_204_and_304_have_no_body_and_keep_their_length() {
    for (method, answer, length) in [
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
            Some("1234"),
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            None,
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
            None,
        ),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None),
    ] {
        let wire = Wire::always(Act::answer(answer)).await;
        let gate = wire.gate().config(ROUTES).start().await;
        let mut raw = gate.raw().await;
        // The second one shows that both connections are where they should be.
        for _ in 0..2 {
            raw.send(format!("{method} /public HTTP/1.1\r\nHost: a\r\n\r\n"))
                .await;
            let head = raw.read_head().await.to_ascii_lowercase();
            assert!(
                head.starts_with(&answer[..12].to_ascii_lowercase()),
                "{head}"
            );
            let sent = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            assert_eq!(sent, length, "{method} {answer}");
        }
        assert_eq!(wire.places(), [(0, 0), (0, 1)], "{answer}");
    }
}
