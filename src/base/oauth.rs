//! The words of OAuth that several rooms share: who a client is, and what a scope holds.

use std::fmt;
use std::sync::Arc;

/// The identifier of a registered client (RFC 6749 §2.2). Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(Arc<str>);

/// Longest client identifier taken, in bytes.
const CLIENT_ID_MAX: usize = 255;

impl ClientId {
    /// Reads an identifier: 1 to 255 visible ASCII characters (RFC 6749 appendix A.1 without the
    /// space), so that it can stand in a header, a log line and a command as it is.
    ///
    /// # Errors
    /// Says in words what is wrong with `text`.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("a client id cannot be empty");
        }
        if text.len() > CLIENT_ID_MAX {
            return Err("a client id has at most 255 characters");
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("a client id is made of visible ASCII characters, without spaces");
        }
        Ok(Self(Arc::from(text)))
    }

    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The scope that lets a token act as somebody else, in both spellings: one source document
/// writes `sodu`, and what a client was given is what it is shown.
pub const SUDO_SPELLINGS: [&str; 2] = ["sudo", "sodu"];

/// A set of scope tokens in the order they were given (RFC 6749 §3.3), each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes(Vec<Box<str>>);

impl Scopes {
    /// Reads a scope parameter: tokens separated by single spaces or runs of them.
    ///
    /// # Errors
    /// Says in words which rule of RFC 6749 §3.3 is broken.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        Self::from_tokens(text.split(' ').filter(|token| !token.is_empty()))
    }

    /// Takes scope tokens one by one; a repeated one counts once.
    ///
    /// # Errors
    /// Says in words which rule of RFC 6749 §3.3 is broken.
    pub fn from_tokens<'a>(
        tokens: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, &'static str> {
        let mut scopes = Self::default();
        for token in tokens {
            if token.is_empty() {
                return Err("a scope cannot be empty");
            }
            if !token
                .bytes()
                .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
            {
                return Err(
                    "a scope is made of visible ASCII characters without space, \" and \\ (RFC 6749 section 3.3)",
                );
            }
            if !scopes.holds(token) {
                scopes.0.push(token.into());
            }
        }
        Ok(scopes)
    }

    /// Whether `scope` is in the set; `sudo` and `sodu` are the same scope.
    #[must_use]
    pub fn holds(&self, scope: &str) -> bool {
        if SUDO_SPELLINGS.contains(&scope) {
            return self.holds_sudo();
        }
        self.0.iter().any(|own| **own == *scope)
    }

    /// Whether the set lets its bearer act as somebody else.
    #[must_use]
    pub fn holds_sudo(&self) -> bool {
        self.0.iter().any(|own| SUDO_SPELLINGS.contains(&&**own))
    }

    /// Whether every scope of `wanted` is in the set.
    #[must_use]
    pub fn holds_all(&self, wanted: &Self) -> bool {
        wanted.0.iter().all(|scope| self.holds(scope))
    }

    /// The scopes of this set that `other` holds too, in this set's order and spelling.
    #[must_use]
    pub fn within(&self, other: &Self) -> Self {
        Self(
            self.0
                .iter()
                .filter(|scope| other.holds(scope))
                .cloned()
                .collect(),
        )
    }

    /// The scope tokens in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|scope| &**scope)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Scopes {
    /// Separated by one space, as RFC 6749 and the identity header write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, scope) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sudo_and_sodu_are_one_scope_and_keep_their_spelling() {
        let given = Scopes::parse("sodu read").unwrap();
        assert!(given.holds("sudo") && given.holds("sodu") && given.holds_sudo());
        assert_eq!(given.to_string(), "sodu read");
        let client = Scopes::parse("sudo read write").unwrap();
        assert_eq!(given.within(&client).to_string(), "sodu read");
    }

    #[test]
    fn a_scope_given_twice_counts_once_and_order_stays() {
        assert_eq!(Scopes::parse("b  a b").unwrap().to_string(), "b a");
        assert_eq!(Scopes::parse("sudo sodu").unwrap().to_string(), "sudo");
    }

    #[test]
    fn scopes_outside_the_grammar_are_refused() {
        for bad in ["a\"b", "a\\b", "ä", "a\tb"] {
            assert!(Scopes::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn client_ids_can_stand_in_a_header() {
        assert!(ClientId::parse("demo-app").is_ok());
        for bad in ["", "a b", "a\nb", "é", &"x".repeat(256)] {
            assert!(ClientId::parse(bad).is_err(), "{bad}");
        }
    }
}
