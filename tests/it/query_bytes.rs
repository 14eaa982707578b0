//! Contract §3.5: our parameters are cut; every other byte of the target arrives as it was sent.

use proptest::prelude::*;

use crate::harness::{Act, OK, Sidegate, Wire};

const ROUTES: &str = r#"
[[routes]]
path = "/"
[[routes]]
path = "/optional"
access = "optional"
[[routes]]
path = "/public"
access = "public"
"#;

async fn start() -> (Wire, Sidegate, String) {
    let wire = Wire::always(Act::answer(OK)).await;
    let gate = wire
        .gate()
        .client("demo", "sudo")
        .config(ROUTES)
        .start()
        .await;
    let token = gate.token("demo").await;
    (wire, gate, token)
}

/// The target that arrives when this one is sent with a token; the status when it is not let pass.
async fn arrives(
    wire: &Wire,
    gate: &Sidegate,
    token: Option<&str>,
    target: &[u8],
) -> Result<Vec<u8>, String> {
    let before = wire.heads().len();
    let mut raw = gate.raw().await;
    let mut bytes = b"GET ".to_vec();
    bytes.extend_from_slice(target);
    bytes.extend_from_slice(b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n");
    if let Some(token) = token {
        bytes.extend_from_slice(format!("Authorization: Bearer {token}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    raw.send(bytes).await;
    let answer = raw.read_to_end().await;
    let heads = wire.heads();
    if heads.len() == before {
        return Err(answer);
    }
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let line = heads[before].lines().next().unwrap().to_owned();
    let target = line.strip_prefix("GET ").unwrap().strip_suffix(" HTTP/1.1");
    Ok(target.unwrap().as_bytes().to_vec())
}

#[tokio::test]
async fn ours_are_cut_and_every_other_byte_survives_in_place() {
    let (wire, gate, token) = start().await;
    let token = Some(&token[..]);
    for (sent, expected) in [
        ("/a", "/a"),
        ("/a?", "/a?"),
        ("/a?x=1", "/a?x=1"),
        ("/a?sudo=uid:7", "/a"),
        ("/a?sudo=uid:7&", "/a"),
        ("/a?sudo=uid:7&x=1", "/a?x=1"),
        ("/a?x=1&sudo=uid:7", "/a?x=1"),
        ("/a?x=1&sudo=uid:7&y=2", "/a?x=1&y=2"),
        ("/a?x=1&SUDO=uid:7&tenantId=3", "/a?x=1"),
        ("/a?x=1&%73%75do=uid%3A7&y=2", "/a?x=1&y=2"),
        ("/a?tenantCODE=A&x", "/a?x"),
        (
            "/a?z=%2f%2F+%20&y=a+b&x=&w&=v&sudo=uid:1&&u==;&t=%zz&%",
            "/a?z=%2f%2F+%20&y=a+b&x=&w&=v&&u==;&t=%zz&%",
        ),
        ("/a?b=2&a=1&b=3&sudo=uid:1&a=0", "/a?b=2&a=1&b=3&a=0"),
        (
            "/a?x=sudo&tenant=1&sudoers=2&xsudo=3&tenantIds=4",
            "/a?x=sudo&tenant=1&sudoers=2&xsudo=3&tenantIds=4",
        ),
        (
            "/a?q=/../%2e%2e//&u=http://x?y=1",
            "/a?q=/../%2e%2e//&u=http://x?y=1",
        ),
        ("/a?x={y}|\\^`[]", "/a?x={y}|\\^`[]"),
        ("/a?x='y'!$()*,:@", "/a?x='y'!$()*,:@"),
    ] {
        let seen = arrives(&wire, &gate, token, sent.as_bytes()).await;
        let seen = seen.map(|seen| String::from_utf8(seen).unwrap());
        match seen {
            // An empty query is no parameter of anybody: with or without its `?`, nothing is lost.
            Ok(seen) if sent == "/a?" => assert!(seen == "/a?" || seen == "/a", "{seen}"),
            seen => assert_eq!(seen.as_deref(), Ok(expected), "{sent}"),
        }
    }
}

#[tokio::test]
async fn no_question_mark_and_no_ampersand_dangles_where_all_or_the_ends_were_ours() {
    let (wire, gate, token) = start().await;
    for query in [
        "sudo=uid:1",
        "sudo=uid:1&tenantId=2",
        "tenantId=2&sudo=uid:1",
        "access_token=x&sudo=y&tenantId=z&tenantCode=w",
    ] {
        for path in ["/public/a", "/a"] {
            if query.starts_with("access_token") && path == "/a" {
                continue;
            }
            let sent = format!("{path}?{query}");
            let seen = arrives(
                &wire,
                &gate,
                (path == "/a").then_some(&token[..]),
                sent.as_bytes(),
            );
            assert_eq!(seen.await.unwrap(), path.as_bytes(), "{sent}");
        }
    }
}

#[tokio::test]
async fn raw_utf8_and_broken_escapes_in_the_query_pass_untouched() {
    let (wire, gate, token) = start().await;
    let token = Some(&token[..]);
    for sent in ["/a?q=größe&sudo=uid:7&x=日本", "/a?%&sudo=uid:1&%f&%zz=%%"] {
        let expected = sent.replace("&sudo=uid:7", "").replace("&sudo=uid:1", "");
        let seen = arrives(&wire, &gate, token, sent.as_bytes()).await;
        assert_eq!(seen.as_deref(), Ok(expected.as_bytes()), "{sent}");
    }
}

#[tokio::test]
async fn control_characters_and_invalid_utf8_in_the_query_are_400() {
    let (wire, gate, token) = start().await;
    for (path, token) in [
        ("/a", Some(&token[..])),
        ("/public", None),
        ("/optional", None),
    ] {
        for query in [&b"x=\x01"[..], b"x=\x7f", b"x=\xff\xfe", b"x=\xc3", b"x=\t"] {
            let sent = [path.as_bytes(), b"?", query].concat();
            let refused = arrives(&wire, &gate, token, &sent).await.unwrap_err();
            assert!(refused.starts_with("HTTP/1.1 400 "), "{sent:?}: {refused}");
        }
    }
    assert!(wire.heads().is_empty());
}

#[tokio::test]
async fn a_parameter_of_ours_given_twice_is_400_but_only_cut_on_public_routes() {
    let (wire, gate, token) = start().await;
    for query in [
        "sudo=uid:1&sudo=uid:1",
        "sudo=uid:1&SUDO=uid:2",
        "tenantId=1&x=2&tenantid=1",
        "tenantCode=1&tenant%43ode=1",
    ] {
        let refused = arrives(&wire, &gate, Some(&token), format!("/a?{query}").as_bytes())
            .await
            .unwrap_err();
        assert!(refused.starts_with("HTTP/1.1 400 "), "{query}: {refused}");
        assert!(refused.contains("\"invalid_request\""), "{refused}");
        for path in ["/public", "/optional"] {
            let seen = arrives(&wire, &gate, None, format!("{path}?{query}&k=v").as_bytes()).await;
            let seen = String::from_utf8(seen.unwrap()).unwrap();
            assert!(
                seen == format!("{path}?k=v") || seen == format!("{path}?x=2&k=v"),
                "{seen}"
            );
        }
    }
}

#[tokio::test]
async fn hidden_and_misspelled_forms_are_400_on_every_route() {
    let (wire, gate, token) = start().await;
    for (path, token) in [
        ("/a", Some(&token[..])),
        ("/public/a", None),
        ("/optional/a", None),
        ("/optional/a", Some(&token[..])),
    ] {
        for query in [
            "x=1;sudo=uid:7",
            "x;sudo=uid:7",
            "sudo=uid:7;sudo=uid:8",
            "x=1;access_token=y",
            "x=1;%73udo=uid:7",
            "access.token=x",
            "access+token=x",
            "access%20token=x",
            "access%5Btoken=x",
            "sudo[]=uid:7",
            "sudo%5b%5d=uid:7",
            "sudo[0]=uid:7",
            "tenantId+=1",
            "tenantId%20=1",
            "+tenantId=1",
            "%20sudo=1",
            "sudo%00=uid:7",
            "sudo%00x=uid:7",
            "tenantCode%09=1",
        ] {
            let sent = format!("{path}?{query}");
            let refused = arrives(&wire, &gate, token, sent.as_bytes()).await;
            let refused = refused.expect_err(&sent);
            assert!(refused.starts_with("HTTP/1.1 400 "), "{sent}: {refused}");
            assert!(refused.contains("\"invalid_request\""), "{refused}");
        }
    }
    assert!(wire.heads().is_empty());
}

#[tokio::test]
async fn malformed_values_of_ours_are_400_with_a_token_and_cut_without_one() {
    let (wire, gate, token) = start().await;
    for query in [
        "tenantId=+86",
        "tenantId=a%20",
        "tenantId=%0a",
        "tenantCode=%ff",
        "tenantCode=a%00b",
        "sudo=mobile:+8613800000000",
        "sudo=%20uid:7",
        "sudo=uid:7%0d%0aX-Auth-Client-Id:%20root",
    ] {
        let sent = format!("/a?{query}");
        let refused = arrives(&wire, &gate, Some(&token), sent.as_bytes()).await;
        let refused = refused.expect_err(&sent);
        assert!(refused.starts_with("HTTP/1.1 400 "), "{sent}: {refused}");
        for path in ["/public", "/optional"] {
            let sent = format!("{path}?a=1&{query}&b=2");
            let seen = arrives(&wire, &gate, None, sent.as_bytes()).await.unwrap();
            assert_eq!(
                String::from_utf8(seen).unwrap(),
                format!("{path}?a=1&b=2"),
                "{sent}"
            );
        }
        let last = wire.heads().pop().unwrap().to_ascii_lowercase();
        assert!(!last.contains("x-auth-"), "{last}");
    }
}

#[tokio::test]
async fn a_fragment_never_goes_on() {
    let (wire, gate, token) = start().await;
    let seen = arrives(&wire, &gate, Some(&token), b"/a?x=1#sudo=uid:7").await;
    if let Ok(seen) = seen {
        assert_eq!(seen, b"/a?x=1");
    }
}

#[tokio::test]
async fn bodies_are_never_read_for_parameters() {
    let backend = crate::harness::Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("demo", "sudo")
        .start()
        .await;
    let body = "sudo=uid:7&tenantId=1&access_token=x";
    let call = gate
        .as_client("demo")
        .await
        .header("content-type", "application/x-www-form-urlencoded");
    call.post("/a", body).await.expect_status(200);
    let seen = backend.only_request();
    assert_eq!(&seen.body[..], body.as_bytes());
    assert!(!seen.has_header("x-auth-user-id"));
    assert!(!seen.has_header("x-auth-tenant-id"));
}

#[test]
fn whatever_stands_around_ours_arrives_byte_for_byte() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (wire, gate, token) = runtime.block_on(start());
    let piece = "(?:[a-zA-Z0-9]{0,3}|%[0-9a-zA-Z]{0,2}|[=+/?:@!$'(),*._~-]){0,5}";
    let strategy = (
        proptest::collection::vec(piece, 0..5),
        proptest::collection::vec((0..5usize, 0..3usize), 0..2),
    );
    let config = ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&strategy, |(others, ours)| {
        let expected = others.join("&");
        let mut all = others;
        let mut used = Vec::new();
        for (at, which) in ours {
            if !used.contains(&which) {
                let text = ["sudo=uid:7", "TENANTID=5", "%74enantId=6"][which];
                all.insert(at.min(all.len()), text.to_owned());
                used.push(which);
            }
        }
        prop_assume!(!(used.contains(&1) && used.contains(&2)));
        prop_assume!(!used.is_empty() && !all.is_empty());
        let sent = format!("/a?{}", all.join("&"));
        let seen = runtime.block_on(arrives(&wire, &gate, Some(&token), sent.as_bytes()));
        // What stands around may itself be a misspelling of ours: that is refused, never altered.
        if let Ok(seen) = seen {
            let expected = match &expected[..] {
                "" => "/a".to_owned(),
                rest => format!("/a?{rest}"),
            };
            prop_assert_eq!(String::from_utf8(seen).unwrap(), expected);
        }
        Ok(())
    });
    outcome.unwrap();
}
