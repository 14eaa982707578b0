//! The id of a request: the client's if it sent a sane one, else one made here (contract §3.9).

use std::cell::Cell;

use http::{HeaderMap, HeaderName, HeaderValue};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_CHARS: usize = 128;

/// An id that can stand in a header and in a log line. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// Keeps the client's id if it sent exactly one of 1 to 128 characters `A-Za-z0-9._-`, else makes one.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut sent = headers.get_all(X_REQUEST_ID).iter();
        match (sent.next(), sent.next()) {
            (Some(only), None) if is_sane(only.as_bytes()) => Self(only.clone()),
            _ => Self::make(),
        }
    }

    /// A new one: 32 hexadecimal digits, not to be guessed from others by accident, and no secret.
    #[must_use]
    pub fn make() -> Self {
        let mut digits = [0; 32];
        let number = (u128::from(next_random()) << 64) | u128::from(next_random());
        for (at, digit) in digits.iter_mut().enumerate() {
            let nibble = (number >> (124 - 4 * at)) as u8 & 0xF;
            *digit = b"0123456789abcdef"[usize::from(nibble)];
        }
        // Hexadecimal digits are a header value.
        Self(HeaderValue::from_bytes(&digits).unwrap_or(HeaderValue::from_static("-")))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// As a header value.
    #[must_use]
    pub fn header_value(&self) -> &HeaderValue {
        &self.0
    }
}

fn is_sane(id: &[u8]) -> bool {
    (1..=MAX_CHARS).contains(&id.len())
        && id
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// SplitMix64 from a random start on each thread: ids need to differ, not to be secret, and a call
/// for random bytes costs more than the rest of them together.
fn next_random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(seed());
    }
    STATE.with(|state| {
        let next = state.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        state.set(next);
        let mut mixed = next;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    })
}

fn seed() -> u64 {
    let mut bytes = [0; 8];
    // Without random bytes no token could be issued either; ids of threads then repeat each other.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> RequestId {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(X_REQUEST_ID, HeaderValue::from_str(value).unwrap());
        }
        RequestId::of(&headers)
    }

    #[test]
    fn a_sane_id_is_kept() {
        for id in ["a", "A-Za.z0_9", &"x".repeat(128)] {
            assert_eq!(of(&[id]).as_str(), id);
        }
    }

    #[test]
    fn anything_else_is_replaced_by_one_that_is_sane_and_new() {
        for values in [
            &[][..],
            &[""],
            &["a b"],
            &["a\"b"],
            &["a", "a"],
            &["a,b"],
            &[&"x".repeat(129)],
        ] {
            let (one, two) = (of(values), of(values));
            assert_eq!(one.as_str().len(), 32);
            assert!(is_sane(one.as_str().as_bytes()));
            assert_ne!(one, two);
        }
    }
}
