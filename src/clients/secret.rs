//! What is kept of a client's secret, and how a presented one is checked against it.
//!
//! Secrets made here are 256 random bits, so one salted SHA-256 is enough. A secret that somebody
//! brought along may be a word: it is stretched with PBKDF2 (RFC 8018 §5.2), which costs some
//! milliseconds a check, so checks run off the data plane.

use std::num::NonZeroU32;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{digest, pbkdf2, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::base::secret::{Secret, same_bytes};

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
const MADE_SECRET_BYTES: usize = 32;
/// About 20 ms on one core.
const BROUGHT_ITERATIONS: u32 = 100_000;

/// What a presented secret is compared with.
#[derive(Clone, Debug)]
pub enum SecretDigest {
    /// The secret itself, as the configuration holds it.
    Configured(Secret),
    /// Salted and hashed, as the store holds it; `iterations` 1 for secrets made here.
    Hashed {
        /// Random, for each secret its own.
        salt: [u8; SALT_BYTES],
        /// PBKDF2 rounds.
        iterations: NonZeroU32,
        /// The result.
        hash: [u8; HASH_BYTES],
    },
}

impl SecretDigest {
    /// A new random secret and what to keep of it.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn make() -> Result<(Secret, Self), Unspecified> {
        let mut bytes = [0; MADE_SECRET_BYTES];
        rand::fill(&mut bytes)?;
        let secret = Secret::new(URL_SAFE_NO_PAD.encode(bytes));
        let digest = Self::hashed(&secret, NonZeroU32::MIN)?;
        Ok((secret, digest))
    }

    /// What to keep of a secret that somebody chose.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn of_brought(secret: &Secret) -> Result<Self, Unspecified> {
        let iterations = NonZeroU32::new(BROUGHT_ITERATIONS).unwrap_or(NonZeroU32::MIN);
        Self::hashed(secret, iterations)
    }

    fn hashed(secret: &Secret, iterations: NonZeroU32) -> Result<Self, Unspecified> {
        let mut salt = [0; SALT_BYTES];
        rand::fill(&mut salt)?;
        let hash = stretch(secret.expose(), &salt, iterations);
        Ok(Self::Hashed {
            salt,
            iterations,
            hash,
        })
    }

    /// Whether `presented` is the secret this was made of. May take milliseconds: not for the data plane.
    #[must_use]
    pub fn matches(&self, presented: &str) -> bool {
        match self {
            Self::Configured(secret) => secret.matches(presented),
            Self::Hashed {
                salt,
                iterations,
                hash,
            } => same_bytes(&stretch(presented, salt, *iterations), hash),
        }
    }

    /// As the store keeps it: `pbkdf2-sha256$ITERATIONS$SALT$HASH`. `None` for a configured secret,
    /// which is never stored.
    #[must_use]
    pub fn to_stored(&self) -> Option<String> {
        match self {
            Self::Configured(_) => None,
            Self::Hashed {
                salt,
                iterations,
                hash,
            } => Some(format!(
                "pbkdf2-sha256${iterations}${}${}",
                URL_SAFE_NO_PAD.encode(salt),
                URL_SAFE_NO_PAD.encode(hash)
            )),
        }
    }

    /// Reads what [`to_stored`](Self::to_stored) wrote; `None` for anything else.
    #[must_use]
    pub fn from_stored(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("pbkdf2-sha256$")?.split('$');
        let iterations = parts.next()?.parse().ok()?;
        let salt = URL_SAFE_NO_PAD
            .decode(parts.next()?)
            .ok()?
            .try_into()
            .ok()?;
        let hash = URL_SAFE_NO_PAD
            .decode(parts.next()?)
            .ok()?
            .try_into()
            .ok()?;
        parts.next().is_none().then_some(Self::Hashed {
            salt,
            iterations,
            hash,
        })
    }
}

fn stretch(secret: &str, salt: &[u8], iterations: NonZeroU32) -> [u8; HASH_BYTES] {
    let mut hash = [0; digest::SHA256_OUTPUT_LEN];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        salt,
        secret.as_bytes(),
        &mut hash,
    );
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_secret_is_recognised_after_a_round_through_the_store() {
        let (secret, digest) = SecretDigest::make().unwrap();
        let stored = digest.to_stored().unwrap();
        assert!(!stored.contains(secret.expose()));
        let read = SecretDigest::from_stored(&stored).unwrap();
        assert!(read.matches(secret.expose()));
        assert!(!read.matches("another"));
    }

    #[test]
    fn a_brought_secret_is_stretched() {
        let digest = SecretDigest::of_brought(&Secret::new("word".to_owned())).unwrap();
        assert!(
            digest
                .to_stored()
                .unwrap()
                .starts_with("pbkdf2-sha256$100000$")
        );
        assert!(digest.matches("word") && !digest.matches("Word"));
    }

    #[test]
    fn what_is_not_a_stored_digest_is_not_read() {
        for bad in [
            "",
            "plain",
            "pbkdf2-sha256$0$AA$AA",
            "pbkdf2-sha256$1$AA$AA",
            "pbkdf2-sha256$1$$",
        ] {
            assert!(SecretDigest::from_stored(bad).is_none(), "{bad}");
        }
    }
}
