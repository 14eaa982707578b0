//! The forms of a token: `sgt_` + random + checksum for access tokens, a version 4 UUID for
//! persistent ones (contract §4). A forged access token dies here, without a store read.
//!
//! An access token is `sgt_` and 38 characters of base64url: 24 random bytes (192 bits) and 4 bytes
//! of checksum.

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::base::secret::Secret;

/// What access tokens begin with, so that people and secret scanners know one when they see it.
pub const ACCESS_TOKEN_PREFIX: &str = "sgt_";

const RANDOM_BYTES: usize = 24;
const CHECKSUM_BYTES: usize = 4;
/// 28 bytes without padding.
const ENCODED_CHARS: usize = 38;
const UUID_CHARS: usize = 36;

/// SHA-256 of a token: all that is ever stored of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }

    /// The bytes as the stores keep them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A hash that came out of a store.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for TokenHash {
    /// Hashes of credentials are not logged either: the public number names a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// A text that has the form of one of Sidegate's tokens, by its hash. Parsing is hashing: the text
/// itself is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresentedToken {
    /// What to look up.
    pub hash: TokenHash,
}

impl PresentedToken {
    /// Reads a token that somebody presented; `None` when it cannot be one of ours: another form,
    /// or a checksum that does not fit.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        has_form(text).then(|| Self {
            hash: TokenHash::of(text),
        })
    }
}

/// A text with the outline of a token: its prefix and length, or the form of a persistent token. Whether
/// its checksum fits is looked at only when it is not known to be good already: that takes as long as all
/// the rest.
#[derive(Clone)]
pub struct TokenClaim<'a> {
    text: Cow<'a, str>,
    hash: TokenHash,
}

impl<'a> TokenClaim<'a> {
    /// Reads a token that somebody presented; `None` when it has not even the outline of one of ours.
    #[must_use]
    pub fn read(text: Cow<'a, str>) -> Option<Self> {
        let encoded = text.strip_prefix(ACCESS_TOKEN_PREFIX);
        let outline = encoded.is_some_and(|rest| rest.len() == ENCODED_CHARS) || is_uuid_v4(&text);
        let hash = outline.then(|| TokenHash::of(&text))?;
        Some(Self { text, hash })
    }

    /// What it may be known by.
    #[must_use]
    pub fn hash(&self) -> &TokenHash {
        &self.hash
    }

    /// The token, as [`PresentedToken::parse`] reads it; `None` where it cannot be one of ours.
    #[must_use]
    pub fn check(&self) -> Option<PresentedToken> {
        has_form(&self.text).then_some(PresentedToken { hash: self.hash })
    }
}

impl fmt::Debug for TokenClaim<'_> {
    /// The text may be a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenClaim(…)")
    }
}

/// A new access token and its hash. The token leaves the process once, in the answer to its issue.
///
/// # Errors
/// When the system gives no random bytes.
pub fn new_access_token() -> Result<(Secret, TokenHash), Unspecified> {
    let mut random = [0; RANDOM_BYTES];
    aws_lc_rs::rand::fill(&mut random)?;
    let mut bytes = [0; RANDOM_BYTES + CHECKSUM_BYTES];
    bytes[..RANDOM_BYTES].copy_from_slice(&random);
    bytes[RANDOM_BYTES..].copy_from_slice(&checksum(&random));
    let mut text = String::with_capacity(ACCESS_TOKEN_PREFIX.len() + ENCODED_CHARS);
    text.push_str(ACCESS_TOKEN_PREFIX);
    URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
    let hash = TokenHash::of(&text);
    Ok((Secret::new(text), hash))
}

/// The first bytes of SHA-256 over prefix and random part. Not a secret and no proof: it tells a
/// typing mistake or a made-up token from one that may exist.
fn checksum(random: &[u8; RANDOM_BYTES]) -> [u8; CHECKSUM_BYTES] {
    const PREFIX_BYTES: usize = ACCESS_TOKEN_PREFIX.len();
    let mut checked = [0; PREFIX_BYTES + RANDOM_BYTES];
    checked[..PREFIX_BYTES].copy_from_slice(ACCESS_TOKEN_PREFIX.as_bytes());
    checked[PREFIX_BYTES..].copy_from_slice(random);
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&digest(&SHA256, &checked).as_ref()[..CHECKSUM_BYTES]);
    sum
}

fn has_form(text: &str) -> bool {
    is_access_token(text) || is_uuid_v4(text)
}

fn is_access_token(text: &str) -> bool {
    let Some(encoded) = text.strip_prefix(ACCESS_TOKEN_PREFIX) else {
        return false;
    };
    let mut bytes = [0; RANDOM_BYTES + CHECKSUM_BYTES];
    // The engine refuses trailing bits that are not zero, so one token has one spelling.
    encoded.len() == ENCODED_CHARS
        && URL_SAFE_NO_PAD.decode_slice(encoded, &mut bytes) == Ok(bytes.len())
        && bytes
            .split_first_chunk()
            .is_some_and(|(random, sum)| checksum(random) == *sum)
}

/// Lower-case hyphenated UUIDs of version 4 and the RFC 9562 variant, the one spelling that is issued.
fn is_uuid_v4(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == UUID_CHARS
        && bytes.iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            14 => *b == b'4',
            19 => matches!(b, b'8' | b'9' | b'a' | b'b'),
            _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_issued_token_is_recognised_with_the_hash_it_was_issued_with() {
        let (token, hash) = new_access_token().unwrap();
        assert!(token.expose().starts_with("sgt_"));
        assert_eq!(token.expose().len(), 42);
        assert_eq!(
            PresentedToken::parse(token.expose()),
            Some(PresentedToken { hash })
        );
    }

    #[test]
    fn a_claim_is_the_same_token_and_never_shows_it() {
        let (token, hash) = new_access_token().unwrap();
        let uuid = "7d1f0f3c-3c1e-4b8e-9f43-0d5f5a0b7c1d";
        for text in [token.expose(), uuid] {
            let claim = TokenClaim::read(Cow::Borrowed(text)).unwrap();
            assert_eq!(claim.check(), PresentedToken::parse(text));
            assert_eq!(claim.check().map(|token| token.hash), Some(*claim.hash()));
            assert_eq!(format!("{claim:?}"), "TokenClaim(…)");
        }
        let claim = TokenClaim::read(Cow::Borrowed(token.expose())).unwrap();
        assert_eq!(*claim.hash(), hash);
    }

    #[test]
    fn two_issued_tokens_differ() {
        let (a, _) = new_access_token().unwrap();
        let (b, _) = new_access_token().unwrap();
        assert_ne!(a.expose(), b.expose());
    }

    #[test]
    fn a_version_4_uuid_may_be_a_persistent_token() {
        for (text, expected) in [
            ("7d1f0f3c-3c1e-4b8e-9f43-0d5f5a0b7c1d", true),
            ("7D1F0F3C-3C1E-4B8E-9F43-0D5F5A0B7C1D", false),
            ("7d1f0f3c-3c1e-1b8e-9f43-0d5f5a0b7c1d", false),
            ("7d1f0f3c-3c1e-4b8e-7f43-0d5f5a0b7c1d", false),
            ("7d1f0f3c3c1e4b8e9f430d5f5a0b7c1d", false),
            ("{7d1f0f3c-3c1e-4b8e-9f43-0d5f5a0b7c1d}", false),
        ] {
            assert_eq!(PresentedToken::parse(text).is_some(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_change_of_one_character_kills_an_access_token(at in 4usize..42, with in "[A-Za-z0-9_-]") {
            let (token, _) = new_access_token().unwrap();
            let mut text = token.expose().to_owned();
            prop_assume!(text[at..=at] != with);
            text.replace_range(at..=at, &with);
            prop_assert!(PresentedToken::parse(&text).is_none());
            let claim = TokenClaim::read(Cow::Borrowed(&text));
            prop_assert!(claim.and_then(|claim| claim.check()).is_none());
        }

        #[test]
        fn no_other_text_is_taken_for_a_token(text in "\\PC{0,60}") {
            prop_assert!(PresentedToken::parse(&text).is_none());
            let claim = TokenClaim::read(Cow::Borrowed(&text));
            prop_assert!(claim.and_then(|claim| claim.check()).is_none());
        }
    }
}
