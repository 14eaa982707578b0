//! The credential: `Authorization: Bearer T` or `?access_token=T`, exactly one (RFC 6750).

use std::borrow::Cow;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::query::Params;
use super::spelling::Param;
use crate::observe::access::CredentialKind;
use crate::refusal::Refusal;
use crate::tokens::{PresentedToken, TokenClaim};

const BEARER: &[u8] = b"bearer";

/// A credential that was presented, well-formed.
#[derive(Clone, Debug)]
pub struct Credential<'a> {
    /// Where it stood.
    pub kind: CredentialKind,
    /// What to look up; `None` when it has not the form of a Sidegate token and can't be good.
    pub token: Option<TokenClaim<'a>>,
}

/// The one credential of a request; `None` where there is none.
///
/// # Errors
/// 400 `invalid_request`: both kinds, one of them twice or beside another Authorization line, an
/// empty or malformed one. What cannot be read is never taken for absent.
pub fn find<'a>(
    headers: &'a HeaderMap,
    params: &Params<'a>,
) -> Result<Option<Credential<'a>>, Refusal> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let bearer = match (lines.next(), lines.next()) {
        (None, _) => None,
        (Some(line), None) => bearer_token(line.as_bytes())?,
        (Some(_), Some(_)) => {
            for line in headers.get_all(AUTHORIZATION) {
                if bearer_token(line.as_bytes())?.is_some() {
                    return Err(Refusal::invalid_request(
                        "a Bearer token must be the only Authorization header",
                    ));
                }
            }
            None
        }
    };
    if bearer.is_some() && params.has(Param::AccessToken) {
        return Err(Refusal::invalid_request(
            "send the token once: as Authorization header or as access_token, not both",
        ));
    }
    if let Some(text) = bearer {
        return Ok(Some(Credential {
            kind: CredentialKind::Bearer,
            token: TokenClaim::read(Cow::Borrowed(text)),
        }));
    }
    match params.value(Param::AccessToken)? {
        None => Ok(None),
        Some(text) if text.is_empty() => Err(Refusal::invalid_request("access_token is empty")),
        Some(text) => Ok(Some(Credential {
            kind: CredentialKind::Query,
            token: TokenClaim::read(text),
        })),
    }
}

/// The token of one Authorization line; `None` for a line of another scheme.
fn bearer_token(line: &[u8]) -> Result<Option<&str>, Refusal> {
    // What nearly every line is, told without looking for what else it could be.
    if let Some(token) = plain_bearer(line) {
        return Ok(Some(token));
    }
    let malformed =
        || Refusal::invalid_request("the Authorization header is malformed: send \"Bearer TOKEN\"");
    let text = std::str::from_utf8(line)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|b| (b' '..=b'~').contains(&b)))
        .ok_or_else(malformed)?;
    if !is_bearer(line) {
        return Ok(None);
    }
    // is_bearer is generous, so that nothing that anybody reads as Bearer counts as another scheme.
    let (scheme, rest) = text.split_once(' ').ok_or_else(malformed)?;
    let token = rest.trim_start_matches(' ');
    if scheme.as_bytes().eq_ignore_ascii_case(BEARER) && is_b64token(token) {
        Ok(Some(token))
    } else {
        Err(malformed())
    }
}

/// The token of a line that is `Bearer`, one space and a `b64token` without padding.
fn plain_bearer(line: &[u8]) -> Option<&str> {
    let (scheme, token) = line.split_at_checked(BEARER.len() + 1)?;
    let plain = scheme[..BEARER.len()].eq_ignore_ascii_case(BEARER)
        && scheme[BEARER.len()] == b' '
        && !token.is_empty()
        && token.iter().all(|b| is_b64token_byte(*b));
    std::str::from_utf8(token).ok().filter(|_| plain)
}

/// `b64token` of RFC 6750 §2.1.
fn is_b64token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(is_b64token_byte)
}

fn is_b64token_byte(byte: u8) -> bool {
    B64TOKEN[usize::from(byte)]
}

/// By byte: this is asked for every byte of every token.
const B64TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        table[byte as usize] =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
        byte += 1;
    }
    table
};

/// Whether some reader takes an Authorization line, or a part of it behind a comma, for the scheme
/// Bearer: in any letter case, whatever stands before it or right behind it that is no letter.
#[must_use]
pub fn is_bearer(line: &[u8]) -> bool {
    let plain = line
        .split_at_checked(BEARER.len() + 1)
        .is_some_and(|(start, _)| {
            start[BEARER.len()] == b' ' && start[..BEARER.len()].eq_ignore_ascii_case(BEARER)
        });
    plain
        || line.split(|b| *b == b',').any(|part| {
            let start = part.iter().position(u8::is_ascii_alphanumeric);
            let part = start.map_or(&[][..], |start| &part[start..]);
            let named = part
                .get(..BEARER.len())
                .is_some_and(|scheme| scheme.eq_ignore_ascii_case(BEARER));
            named && part.get(BEARER.len()).is_none_or(|b| !is_token_byte(*b))
        })
}

/// `tchar` of RFC 9110 §5.6.2: a scheme goes on with these.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Whether an Authorization line holds a text that has the form of a Sidegate token.
#[must_use]
pub fn holds_our_token(line: &[u8]) -> bool {
    line.split(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')))
        .filter_map(|piece| std::str::from_utf8(piece).ok())
        .any(|piece| PresentedToken::parse(piece).is_some())
}

#[cfg(test)]
#[path = "tests/credential.rs"]
mod tests;
