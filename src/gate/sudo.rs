//! sudo: whom a request acts as, `KIND:VALUE`, and whether its client may.

use std::borrow::Cow;

use super::query::{Params, is_clean};
use super::settings::IdentityKey;
use super::spelling::Param;
use crate::base::oauth::{SUDO_SPELLINGS, Scopes};
use crate::clients::Client;
use crate::refusal::Refusal;

/// What a user is named by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Uid,
    LoginName,
    Email,
    Mobile,
    /// The discouraged spelling of a login name.
    Username,
}

impl Kind {
    const SPELLINGS: [(&'static str, Self); 5] = [
        ("uid", Self::Uid),
        ("loginName", Self::LoginName),
        ("email", Self::Email),
        ("mobile", Self::Mobile),
        ("username", Self::Username),
    ];

    /// The kind that grants and limits know it by.
    fn grant(self) -> &'static str {
        match self {
            Self::Uid => "uid",
            Self::LoginName | Self::Username => "loginName",
            Self::Email => "email",
            Self::Mobile => "mobile",
        }
    }
}

/// A well-formed sudo. Whether it is allowed is another question.
#[derive(Clone, Debug)]
pub struct Sudo<'a> {
    kind: Kind,
    /// `KIND:VALUE`, decoded, as it was sent.
    text: Cow<'a, str>,
    /// Where the value begins.
    value_at: usize,
}

/// The sudo of a request, if there is one.
///
/// # Errors
/// 400 `invalid_request` for what no parameter may hold, 400 `invalid_sudo` for another kind or an
/// empty value.
pub fn read<'a>(params: &Params<'a>) -> Result<Option<Sudo<'a>>, Refusal> {
    let Some(text) = params.value(Param::Sudo)? else {
        return Ok(None);
    };
    let kind = text.split_once(':').and_then(|(kind, _)| {
        let known = |(spelling, _): &&(&str, Kind)| *spelling == kind;
        Kind::SPELLINGS.iter().find(known)
    });
    let Some((spelling, kind)) = kind else {
        return Err(Refusal::invalid_sudo(
            "write sudo=KIND:VALUE with one of the kinds uid, loginName, email, mobile",
        ));
    };
    let value_at = spelling.len() + 1;
    let value = &text[value_at..];
    if value.is_empty() {
        return Err(Refusal::invalid_sudo("sudo has no value after its kind"));
    }
    if !is_clean(value) {
        return Err(Refusal::invalid_request(
            "the value of sudo has white space at an end; a + is written %2B",
        ));
    }
    Ok(Some(Sudo {
        kind: *kind,
        text,
        value_at,
    }))
}

impl Sudo<'_> {
    /// `KIND:VALUE` as it was sent, decoded: for the audit line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Who is meant.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.text[self.value_at..]
    }

    /// The header it becomes.
    #[must_use]
    pub fn header(&self) -> IdentityKey {
        match self.kind {
            Kind::Uid => IdentityKey::UserId,
            Kind::LoginName | Kind::Username => IdentityKey::UserLogin,
            Kind::Email => IdentityKey::UserEmail,
            Kind::Mobile => IdentityKey::UserMobile,
        }
    }

    /// Whether the answer must say that this spelling is deprecated.
    #[must_use]
    pub fn is_deprecated(&self) -> bool {
        self.kind == Kind::Username
    }

    /// One name for one user in rate limits, whichever way it is spelled.
    #[must_use]
    pub fn limit_key(&self) -> Cow<'_, str> {
        match self.kind {
            Kind::Username => Cow::Owned(format!("{}:{}", self.kind.grant(), self.value())),
            Kind::Email => Cow::Owned(self.text.to_lowercase()),
            Kind::Uid | Kind::LoginName | Kind::Mobile => Cow::Borrowed(&self.text),
        }
    }

    /// Whether a token with these scopes of this client may act so.
    ///
    /// # Errors
    /// 403 `insufficient_scope`, 403 `sudo_not_allowed`.
    pub fn allow(&self, scopes: &Scopes, client: &Client) -> Result<(), Refusal> {
        if !scopes.holds_sudo() {
            // In the client's own spelling, so that it asks for what it can be given.
            let own = client
                .scopes
                .iter()
                .find(|own| SUDO_SPELLINGS.contains(own));
            let needed = own.unwrap_or(SUDO_SPELLINGS[0]);
            return Err(Refusal::insufficient_scope(needed.to_owned()));
        }
        if !client.sudo.allows(self.kind.grant(), self.value()) {
            return Err(Refusal::sudo_not_allowed());
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "tests/sudo.rs"]
mod tests;
