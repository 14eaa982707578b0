//! Contract §3.10: sent again, once, only where that cannot do anything twice.

use crate::harness::{Act, OK, Place, Sidegate, Wire};

const PUBLIC: &str = "[[routes]]\npath = \"/\"\naccess = \"public\"";

/// A backend whose first connection answers once and then does `second` to the request that follows;
/// later connections do `later`.
async fn start(second: Act, later: Act) -> (Wire, Sidegate) {
    let wire = Wire::new(move |place: Place, _: &str| match place {
        Place {
            connection: 0,
            request: 0,
        } => Act::answer(OK),
        Place { connection: 0, .. } => second.clone(),
        _ => later.clone(),
    })
    .await;
    let gate = wire
        .gate()
        .upstream("idle_timeout = \"60s\"")
        .config(PUBLIC)
        .start()
        .await;
    gate.get("/first").await.expect_status(200);
    (wire, gate)
}

#[tokio::test]
async fn a_bodyless_get_head_or_options_is_sent_again_on_a_new_connection() {
    for method in ["GET", "HEAD", "OPTIONS"] {
        let (wire, gate) = start(Act::last(""), Act::answer(OK)).await;
        let answer = gate.call().send(method, "/a?x=1", "").await;
        answer.expect_status(200);
        assert_eq!(wire.places(), [(0, 0), (0, 1), (1, 0)], "{method}");
        let heads = wire.heads();
        assert_eq!(heads[1], heads[2], "the same request, byte for byte");
    }
}

#[tokio::test]
async fn it_is_sent_again_once_and_no_more() {
    let (wire, gate) = start(Act::last(""), Act::last("")).await;
    let answer = gate.get("/a").await;
    answer.expect_refusal(502, "upstream_unreachable");
    assert_eq!(wire.places(), [(0, 0), (0, 1), (1, 0)]);
}

#[tokio::test]
async fn what_may_have_done_something_is_not_sent_again() {
    for method in ["POST", "PUT", "PATCH", "DELETE", "FOO"] {
        let (wire, gate) = start(Act::last(""), Act::answer(OK)).await;
        let answer = gate.call().send(method, "/a", "").await;
        answer.expect_refusal(502, "upstream_unreachable");
        assert_eq!(wire.places(), [(0, 0), (0, 1)], "{method}");
    }
}

#[tokio::test]
async fn a_request_with_a_body_is_not_sent_again_whatever_its_method() {
    for framing in [
        "Content-Length: 2\r\n\r\nhi",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        for method in ["GET", "OPTIONS", "POST"] {
            let (wire, gate) = start(Act::last(""), Act::answer(OK)).await;
            let mut raw = gate.raw().await;
            raw.send(format!("{method} /a HTTP/1.1\r\nHost: a\r\n{framing}"))
                .await;
            let head = raw.read_head().await;
            assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
            assert_eq!(wire.places(), [(0, 0), (0, 1)], "{method} {framing}");
        }
    }
}

#[tokio::test]
async fn a_connection_at_its_first_use_that_closes_is_502_at_once() {
    let wire = Wire::always(Act::last("")).await;
    let gate = wire.gate().config(PUBLIC).start().await;
    gate.get("/a")
        .await
        .expect_refusal(502, "upstream_unreachable");
    assert_eq!(wire.places(), [(0, 0)]);
}

#[tokio::test]
async fn once_a_byte_of_an_answer_has_come_nothing_is_sent_again() {
    for begun in [
        "H",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let (wire, gate) = start(Act::last(begun), Act::answer(OK)).await;
        let answer = gate.get("/a").await;
        answer.expect_refusal(502, "upstream_unreachable");
        assert_eq!(wire.places(), [(0, 0), (0, 1)], "{begun:?}");
    }
}

#[tokio::test]
async fn a_slow_backend_is_not_asked_again() {
    let wire = Wire::new(|place: Place, _: &str| match place.request {
        0 => Act::answer(OK),
        _ => Act::hang(""),
    })
    .await;
    let gate = wire
        .gate()
        .upstream("response_timeout = \"150ms\"\nidle_timeout = \"60s\"")
        .config(PUBLIC)
        .start()
        .await;
    gate.get("/a").await.expect_status(200);
    gate.get("/b").await.expect_refusal(504, "upstream_timeout");
    assert_eq!(wire.places(), [(0, 0), (0, 1)]);
}

#[tokio::test]
async fn what_was_never_written_is_sent_on_a_new_connection_be_it_what_it_may() {
    let wire = Wire::always(Act::last(OK)).await;
    let gate = wire
        .gate()
        .upstream("idle_timeout = \"60s\"")
        .config(PUBLIC)
        .start()
        .await;
    for i in 0..40 {
        // Its end is on the way before the next request is.
        wire.all_closed().await;
        let answer = gate.call().post("/a", "").await;
        answer.expect_status(200);
        assert_eq!(wire.places().last(), Some(&(i, 0)));
    }
}
