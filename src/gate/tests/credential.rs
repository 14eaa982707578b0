//! Exactly one credential, and nothing unreadable taken for absent.

use http::HeaderValue;

use super::*;
use crate::gate::query;
use crate::tokens::format::new_access_token;

/// Where a credential stood, and the token.
type Found = (CredentialKind, Option<PresentedToken>);

fn headers(lines: &[&[u8]]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(AUTHORIZATION, HeaderValue::from_bytes(line).unwrap());
    }
    headers
}

fn found(lines: &[&[u8]], query: Option<&str>) -> Result<Option<Found>, &'static str> {
    find(&headers(lines), &query::read(query))
        .map(|found| found.map(|one| (one.kind, one.token.and_then(|claim| claim.check()))))
        .map_err(|refusal| refusal.word().as_str())
}

#[test]
fn a_bearer_token_is_found_whatever_the_case_of_its_scheme() {
    let (token, hash) = new_access_token().unwrap();
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        for gap in [" ", "  "] {
            let line = format!("{scheme}{gap}{}", token.expose());
            let credential = found(&[line.as_bytes()], None).unwrap().unwrap();
            let token = PresentedToken { hash };
            assert_eq!(credential, (CredentialKind::Bearer, Some(token)));
        }
    }
}

#[test]
fn a_token_in_the_query_is_found_after_decoding() {
    let (token, hash) = new_access_token().unwrap();
    let encoded = token.expose().replace("sgt_", "sgt%5F");
    let query = format!("a=1&ACCESS%5Ftoken={encoded}");
    let credential = found(&[], Some(&query)).unwrap().unwrap();
    let token = PresentedToken { hash };
    assert_eq!(credential, (CredentialKind::Query, Some(token)));
}

#[test]
fn a_token_of_another_form_is_a_credential_that_cannot_be_good() {
    let credential = found(&[b"Bearer eyJhbGciOiJub25lIn0.e30.x"], None);
    assert!(credential.unwrap().unwrap().1.is_none());
}

#[test]
fn other_schemes_are_no_credential() {
    for lines in [
        &[b"Basic dTpw".as_slice()][..],
        &[b"Digest username=\"x\", realm=\"y\""],
        &[b"Bearers x"],
        &[b"Bearer-MAC x"],
        &[b"NotBearer x"],
        &[b"Basic dTpw", b"Negotiate abc"],
    ] {
        assert!(found(lines, None).unwrap().is_none());
        // Beside them the query may hold the token.
        assert!(found(lines, Some("access_token=x")).unwrap().is_some());
    }
    assert!(found(&[], None).unwrap().is_none());
}

#[test]
fn what_is_malformed_is_refused_and_never_absent() {
    for line in [
        b"".as_slice(),
        b"Bearer",
        b"Bearer ",
        b"Bearer x y",
        b"Bearer x ",
        b"Bearer\tx",
        b"Bearer \tx",
        b"Bearer\x0Bx".get(..6).unwrap(),
        b"Bearer: x",
        b"Bearer=x",
        b"Bearer,x",
        b"\"Bearer x\"",
        b"Bearer \"x\"",
        b"Bearer x, Basic y",
        b"Bearer x,Bearer y",
        b"Basic y, Bearer x",
        b"Basic y,bearer x",
        b"Bearer =",
        b"Bearer a=b",
        b"Bearer \xC3\xA9",
        b"Bearer\xA0x",
        b"\xC2\xA0Bearer x",
        b"Basic \xFF",
    ] {
        let found = found(&[line], None).map(|credential| credential.is_some());
        assert_eq!(found, Err("invalid_request"), "{}", line.escape_ascii());
    }
}

#[test]
fn more_than_one_credential_is_refused() {
    for (lines, query) in [
        (&[b"Bearer x".as_slice(), b"Bearer x"][..], None),
        (&[b"Bearer x", b"Basic y"], None),
        (&[b"Basic y", b"Bearer x"], None),
        (&[b"Basic y", b"Digest z", b"bearer x"], None),
        (&[b"Basic y", b""], None),
        (&[b"Bearer x"], Some("access_token=x")),
        (&[b"Bearer x"], Some("access_token=")),
        (&[b"Bearer x"], Some("access_token=x&access_token=x")),
        (&[], Some("access_token=x&access_token=x")),
        (&[], Some("access_token=x&ACCESS_TOKEN=y")),
        (&[], Some("access_token=")),
        (&[], Some("access_token")),
        (&[], Some("access_token=%20x")),
        (&[], Some("access_token=x%00")),
        (&[], Some("access_token=%FF")),
    ] {
        let found = found(lines, query).map(|credential| credential.is_some());
        assert_eq!(found, Err("invalid_request"), "{lines:?} {query:?}");
    }
}

#[test]
fn our_tokens_are_seen_in_sloppy_lines_too() {
    let (token, _) = new_access_token().unwrap();
    let token = token.expose();
    for line in [
        format!("Bearer {token}"),
        format!("bearer\t{token}"),
        format!("Bearer x, Bearer {token}"),
        format!("Bearer \"{token}\""),
    ] {
        assert!(
            is_bearer(line.as_bytes()) && holds_our_token(line.as_bytes()),
            "{line}"
        );
    }
    assert!(!holds_our_token(b"Bearer eyJhbGciOiJub25lIn0.e30.x"));
}
