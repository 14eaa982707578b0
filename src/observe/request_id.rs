//! The id of a request: what the client sent, if that is sane, else one of ours (contract §3.9).

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use http::{HeaderMap, HeaderName, HeaderValue};

/// Where the id travels, in both directions.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id kept, in bytes.
const LONGEST: usize = 128;

/// The id of one request. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// Keeps the client's id if it sent exactly one of 1 to 128 characters of `A-Za-z0-9._-`, else
    /// makes one. An id that holds a token of ours is not kept: it would be logged.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut sent = headers.get_all(X_REQUEST_ID).iter();
        match (sent.next(), sent.next()) {
            (Some(id), None) if is_sane(id.as_bytes()) => Self(id.clone()),
            _ => Self::make(),
        }
    }

    /// A new id: 32 hexadecimal digits, never twice in this process and hardly twice in the world.
    /// It is a name and no secret.
    #[must_use]
    pub fn make() -> Self {
        thread_local! {
            static STREAM: u64 = RandomState::new().hash_one(0_u8);
            static NEXT: Cell<u64> = Cell::new(RandomState::new().hash_one(1_u8));
        }
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let stream = STREAM.with(|stream| *stream);
        let next = NEXT.with(|next| next.replace(next.get().wrapping_add(0x9e37_79b9_7f4a_7c15)));
        let bits = (u128::from(stream) << 64) | u128::from(mixed(next));
        let mut text = [0; 32];
        for (digits, byte) in text.chunks_exact_mut(2).zip(bits.to_be_bytes()) {
            digits[0] = HEX[usize::from(byte >> 4)];
            digits[1] = HEX[usize::from(byte & 15)];
        }
        Self(HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("0")))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The id as a header value.
    #[must_use]
    pub fn header_value(&self) -> &HeaderValue {
        &self.0
    }
}

fn is_sane(id: &[u8]) -> bool {
    (1..=LONGEST).contains(&id.len())
        && id
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && super::escape::find_token(id).is_none()
}

/// The finaliser of splitmix64: a bijection, so that what goes in once comes out once.
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sent: &[&[u8]]) -> RequestId {
        let mut headers = HeaderMap::new();
        for id in sent {
            headers.append(X_REQUEST_ID, HeaderValue::from_bytes(id).unwrap());
        }
        RequestId::of(&headers)
    }

    #[test]
    fn a_sane_id_is_kept() {
        let longest = "x".repeat(128);
        for id in ["a", "4bf92f35-77b3.A_z", &longest] {
            assert_eq!(of(&[id.as_bytes()]).as_str(), id);
        }
    }

    #[test]
    fn anything_else_is_replaced_by_one_of_ours() {
        let too_long = "x".repeat(129);
        let token = format!("sgt_{}", "a".repeat(38));
        for sent in [
            &[][..],
            &[b"".as_slice()],
            &[b"a b"],
            &[b"a\"b"],
            &[b"a/b"],
            &[b"\xff"],
            &[b"one", b"two"],
            &[b"same", b"same"],
            &[too_long.as_bytes()],
            &[token.as_bytes()],
        ] {
            let id = of(sent);
            assert_eq!(id.as_str().len(), 32, "{sent:?}");
            assert!(id.as_str().bytes().all(|b| b.is_ascii_hexdigit()));
        }
    }

    #[test]
    fn made_ids_differ() {
        let ids: std::collections::HashSet<_> = (0..10_000)
            .map(|_| RequestId::make().as_str().to_owned())
            .collect();
        assert_eq!(ids.len(), 10_000);
    }
}
