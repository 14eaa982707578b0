//! Values as the commands' arguments spell them. An argument that may be a secret put in the wrong
//! place is never repeated in an error.

use std::io::{self, Read};
use std::time::Duration;

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::failure::Failure;
use crate::base::clock::UnixMillis;
use crate::base::oauth::{ClientId, Scopes};
use crate::base::secret::Secret;
use crate::base::units;
use crate::tokens::TokenId;

/// Longest secret or token taken from standard input.
const STDIN_MAX: u64 = 4096;

pub(super) fn client_id(text: &str) -> Result<ClientId, String> {
    ClientId::parse(text).map_err(str::to_owned)
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text).map_err(|error| error.to_string())
}

/// A span that is not nothing.
pub(super) fn lifetime(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it must be longer than nothing".to_owned()),
        span => Ok(span),
    }
}

/// `--scope` may be given several times, and each may hold several scopes with spaces between.
pub(super) fn scopes(texts: &[String]) -> Result<Scopes, Failure> {
    let tokens = texts.iter().flat_map(|text| text.split(' '));
    Scopes::from_tokens(tokens.filter(|token| !token.is_empty()))
        .map_err(|wrong| Failure::usage(format!("--scope: {wrong}.")))
}

/// The public number of a token. Who puts the token itself there is told so, and not repeated.
pub(super) fn token_id(text: &str) -> Result<TokenId, Failure> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(TokenId(number)),
        _ => Err(Failure::usage(
            "a token is named by its public number, as `sidegate token list` shows it. To name it by \
             the token itself, hand that over on standard input with --token-stdin: arguments can be \
             seen by everybody on this machine.",
        )),
    }
}

/// A point in time: RFC 3339, or a span that ended now.
pub(super) fn before(text: &str, now: UnixMillis) -> Result<UnixMillis, Failure> {
    if let Ok(span) = units::duration(text) {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        return Ok(UnixMillis(now.0.saturating_sub(millis)));
    }
    match text.parse::<Timestamp>() {
        Ok(at) => Ok(UnixMillis(at.as_millisecond())),
        Err(_) => Err(Failure::usage(
            "--before takes a time such as 2026-01-31T12:00:00Z (RFC 3339), or how long ago it was: \
             30m, 24h, 7d.",
        )),
    }
}

/// One secret from standard input: all of it but a line end.
pub(super) fn secret_from_stdin(what: &str) -> Result<Secret, Failure> {
    secret_from(io::stdin().lock(), what)
}

fn secret_from(input: impl Read, what: &str) -> Result<Secret, Failure> {
    let mut text = Zeroizing::new(String::with_capacity(512));
    input
        .take(STDIN_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => {
                Failure::usage(format!("the {what} on standard input is not valid UTF-8."))
            }
            _ => Failure::other(format!(
                "cannot read the {what} from standard input: {error}."
            )),
        })?;
    let secret = text.strip_suffix('\n').unwrap_or(&text);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    if secret.is_empty() {
        return Err(Failure::usage(format!(
            "there is no {what} on standard input. Pipe it in: `printf %s \"$VALUE\" | sidegate …`."
        )));
    }
    if text.len() as u64 > STDIN_MAX {
        return Err(Failure::usage(format!(
            "what is on standard input is too long for a {what}: it has at most {STDIN_MAX} bytes."
        )));
    }
    if secret.chars().any(char::is_control) {
        return Err(Failure::usage(format!(
            "the {what} on standard input holds a control character or more than one line."
        )));
    }
    Ok(Secret::new(secret.to_owned()))
}

/// Takes whatever looks like an access token out of a text that repeats arguments.
pub(super) fn without_tokens(text: &str) -> String {
    let prefix = crate::tokens::format::ACCESS_TOKEN_PREFIX;
    let mut parts = text.split(prefix);
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        clean.push_str(prefix);
        let rest = part.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "-_".contains(c));
        if rest.len() < part.len() {
            clean.push('…');
        }
        clean.push_str(rest);
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(failure: Failure) -> String {
        match failure {
            Failure::Told(_, text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_token_in_place_of_its_number_is_not_repeated() {
        let text = told(token_id("sgt_abcdefghijklmnopqrstuvwxyz").unwrap_err());
        assert!(
            !text.contains("sgt_") && text.contains("--token-stdin"),
            "{text}"
        );
        assert_eq!(token_id("214").unwrap(), TokenId(214));
        assert!(token_id("0").is_err() && token_id("-3").is_err());
    }

    #[test]
    fn errors_that_repeat_arguments_lose_the_tokens_in_them() {
        assert_eq!(
            without_tokens("found 'sgt_aB-9_x' and sgt_c, sgt_"),
            "found 'sgt_…' and sgt_…, sgt_"
        );
        assert_eq!(without_tokens("nothing here"), "nothing here");
    }

    #[test]
    fn before_takes_a_time_or_how_long_ago() {
        let now = UnixMillis(1_704_067_200_000);
        assert_eq!(before("24h", now).unwrap().0, now.0 - 86_400_000);
        assert_eq!(before("2024-01-01T01:00:00+01:00", now).unwrap(), now);
        assert!(told(before("yesterday", now).unwrap_err()).contains("RFC 3339"));
    }

    #[test]
    fn a_secret_is_all_of_standard_input_but_the_line_end() {
        let read = |text: &str| secret_from(text.as_bytes(), "secret");
        assert_eq!(read("a b \r\n").unwrap().expose(), "a b ");
        assert_eq!(read("x").unwrap().expose(), "x");
        assert!(told(read("\n").unwrap_err()).contains("no secret"));
        assert!(told(read("hunter2\nhunter3\n").unwrap_err()).contains("more than one line"));
        assert!(told(read(&"x".repeat(5000)).unwrap_err()).contains("too long"));
        assert!(!told(read("hunter2\nx").unwrap_err()).contains("hunter2"));
        assert!(told(secret_from(&b"\xff"[..], "secret").unwrap_err()).contains("UTF-8"));
    }

    #[test]
    fn scopes_are_given_one_by_one_or_together() {
        let given = ["a b".to_owned(), "c".to_owned(), "a".to_owned()];
        assert_eq!(scopes(&given).unwrap().to_string(), "a b c");
        assert!(scopes(&["\"".to_owned()]).is_err());
    }
}
