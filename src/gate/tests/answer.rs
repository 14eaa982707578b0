//! The head of the backend's answer.

use super::*;

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn applied(edits: AnswerEdits, status: u16, lines: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut headers = headers(lines);
    edits.apply(&mut headers, StatusCode::from_u16(status).unwrap());
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.to_string(), value.to_str().unwrap().to_owned())
    };
    headers.iter().map(line).collect()
}

const PRIVATE: AnswerEdits = AnswerEdits {
    deprecated: false,
    private: true,
};

#[test]
fn hop_by_hop_fields_stay_behind_with_all_that_connection_names() {
    let left = applied(
        AnswerEdits::default(),
        200,
        &[
            ("connection", "close, X-Hop"),
            ("connection", "x-other"),
            ("x-hop", "1"),
            ("x-other", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authenticate", "Basic"),
            ("proxy-connection", "close"),
            ("upgrade", "h2c"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("content-type", "text/plain"),
            ("x-auth-anything", "the backend's own"),
        ],
    );
    let names: Vec<_> = left.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["content-type", "x-auth-anything"]);
}

#[test]
fn content_length_stays_unless_chunks_framed_the_answer() {
    let kept = applied(
        AnswerEdits::default(),
        200,
        &[("content-length", "5"), ("connection", "content-length")],
    );
    assert_eq!(kept, [("content-length".to_owned(), "5".to_owned())]);
    let gone = applied(
        AnswerEdits::default(),
        200,
        &[
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("trailer", "x-sum"),
        ],
    );
    assert_eq!(gone, [("trailer".to_owned(), "x-sum".to_owned())]);
}

#[test]
fn answers_to_a_token_in_the_url_are_kept_out_of_shared_caches() {
    for (before, after) in [
        (&[][..], "private"),
        (&["public"], "private"),
        (&["public, max-age=60"], "max-age=60, private"),
        (&["max-age=60", "Public"], "max-age=60, private"),
        (&["max-age=60"], "max-age=60, private"),
        (&["private, max-age=60"], "private, max-age=60"),
        (&["no-store"], "no-store"),
        (
            &["private=\"x-a, public\""],
            "private=\"x-a, public\", private",
        ),
    ] {
        let lines: Vec<_> = before.iter().map(|line| ("cache-control", *line)).collect();
        let left = applied(PRIVATE, 206, &lines);
        let left: Vec<_> = left.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(left, [after], "{before:?}");
    }
    assert!(applied(PRIVATE, 404, &[]).is_empty());
    assert!(applied(PRIVATE, 302, &[]).is_empty());
}

#[test]
fn a_discouraged_spelling_is_answered_with_its_deprecation() {
    let edits = AnswerEdits {
        deprecated: true,
        private: false,
    };
    let left = applied(edits, 500, &[("deprecation", "x")]);
    assert_eq!(left, [("deprecation".to_owned(), "@1704067200".to_owned())]);
}
