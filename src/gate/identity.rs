//! Who a request is, as headers: their names, the class of names that only Sidegate may set, and
//! values that are always safe and always decodable.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::headers::{is_forwarding, is_framing, is_hop_by_hop};
use super::settings::{DEFAULT_PREFIX, IdentityKey, IdentitySettings};
use super::sudo::Sudo;
use super::tenant::Tenant;
use crate::base::oauth::Scopes;
use crate::refusal::Refusal;
use crate::tokens::cache::TokenFacts;

/// One byte of a folded name: lower case, and whatever is no letter or digit counts as `-`, as CGI and
/// its heirs read names.
fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() {
        byte.to_ascii_lowercase()
    } else {
        b'-'
    }
}

/// Whether `name` folds to `folded`.
pub(super) fn folds_to(name: &str, folded: &[u8]) -> bool {
    name.len() == folded.len()
        && name
            .bytes()
            .zip(folded)
            .all(|(own, other)| fold(own) == *other)
}

/// Whether the folded form of `name` begins with `folded`.
pub(super) fn fold_begins(name: &str, folded: &[u8]) -> bool {
    name.get(..folded.len())
        .is_some_and(|start| folds_to(start, folded))
}

fn folded(name: &str) -> Box<[u8]> {
    name.bytes().map(fold).collect()
}

/// The names of the identity headers, and what counts as one of them when a client sends it.
#[derive(Clone, Debug)]
pub struct IdentityHeaders {
    /// By [`IdentityKey`].
    names: [HeaderName; IdentityKey::ALL.len()],
    /// Folded: the configured prefix and the default one.
    prefixes: Vec<Box<[u8]>>,
    /// Folded names outside both prefixes.
    others: Vec<Box<[u8]>>,
}

impl IdentityHeaders {
    /// The names that `settings` mean. They come checked by [`check_name`]; one that fails it would
    /// become the default.
    #[must_use]
    pub fn new(settings: &IdentitySettings) -> Self {
        let names = IdentityKey::ALL.map(|(key, _, behind_prefix)| {
            let renamed = settings.renamed.iter().find(|(own, _)| *own == key);
            let spelled = match renamed {
                Some((_, name)) => name.clone(),
                None => format!("{}{behind_prefix}", settings.prefix),
            };
            match check_name(&spelled) {
                Ok(name) if name != default_name(key) => name,
                _ => default_name(key),
            }
        });
        let mut prefixes: Vec<_> = [settings.prefix.as_str(), DEFAULT_PREFIX]
            .into_iter()
            .map(folded)
            .filter(|prefix| !prefix.is_empty())
            .collect();
        prefixes.dedup();
        let outside = |name: &&str| !prefixes.iter().any(|prefix| fold_begins(name, prefix));
        let others = names
            .iter()
            .map(HeaderName::as_str)
            .chain(settings.renamed.iter().map(|(_, name)| name.as_str()))
            .filter(outside)
            .map(folded)
            .collect();
        Self {
            names,
            prefixes,
            others,
        }
    }

    /// The header of one member.
    #[must_use]
    pub fn name(&self, key: IdentityKey) -> &HeaderName {
        &self.names[key as usize]
    }

    /// Whether a header of this name says who somebody is, by any spelling, so that only Sidegate
    /// may set it.
    #[must_use]
    pub fn is_ours(&self, name: &HeaderName) -> bool {
        let name = name.as_str();
        self.prefixes.iter().any(|prefix| fold_begins(name, prefix))
            || self.others.iter().any(|other| folds_to(name, other))
    }
}

/// The header that an identity may be written into, so spelled.
///
/// # Errors
/// Says in words what keeps it from being one: it is no name of a header, or one that frames, steers
/// or authenticates the request.
pub fn check_name(spelled: &str) -> Result<HeaderName, &'static str> {
    let name = HeaderName::from_bytes(spelled.as_bytes())
        .map_err(|_| "a header's name is made of letters, digits and -, without spaces")?;
    let taken = is_hop_by_hop(&name)
        || is_framing(&name)
        || is_forwarding(name.as_str(), false)
        || matches!(
            name.as_str(),
            "authorization" | "cookie" | "content-type" | "x-request-id"
        );
    if taken {
        return Err("this header has a meaning of its own and cannot carry an identity");
    }
    Ok(name)
}

fn default_name(key: IdentityKey) -> HeaderName {
    HeaderName::from_static(match key {
        IdentityKey::ClientId => "x-auth-client-id",
        IdentityKey::TokenId => "x-auth-token-id",
        IdentityKey::Scope => "x-auth-scope",
        IdentityKey::UserId => "x-auth-user-id",
        IdentityKey::UserLogin => "x-auth-user-login",
        IdentityKey::UserEmail => "x-auth-user-email",
        IdentityKey::UserMobile => "x-auth-user-mobile",
        IdentityKey::AccountEmail => "x-auth-account-email",
        IdentityKey::TenantId => "x-auth-tenant-id",
        IdentityKey::TenantCode => "x-auth-tenant-code",
        IdentityKey::ClientCertSubject => "x-auth-client-cert-subject",
    })
}

/// Who one request is.
#[derive(Debug)]
pub(super) struct Identity {
    facts: Arc<TokenFacts>,
    /// The scopes that count, where they are not all that the token was given.
    scope: Option<HeaderValue>,
    user: Option<(IdentityKey, HeaderValue)>,
    tenant: Option<(IdentityKey, HeaderValue)>,
}

impl Identity {
    /// The identity of a request that passed. `narrowed` are the scopes that count where they are
    /// fewer than the token's own.
    pub(super) fn new(
        facts: Arc<TokenFacts>,
        narrowed: Option<&Scopes>,
        sudo: Option<&Sudo<'_>>,
        tenant: Option<&Tenant<'_>>,
    ) -> Result<Self, Refusal> {
        let scope = narrowed.map(|scopes| header_value(&scopes.to_string(), SCOPES));
        let user = sudo.map(|sudo| Ok((sudo.header(), header_value(sudo.value(), VALUES)?)));
        let tenant = tenant.map(|one| Ok((one.header(), header_value(one.value(), VALUES)?)));
        Ok(Self {
            facts,
            scope: scope.transpose()?,
            user: user.transpose()?,
            tenant: tenant.transpose()?,
        })
    }

    /// Sets each member that is known, once.
    pub(super) fn set(&self, names: &IdentityHeaders, headers: &mut HeaderMap) {
        let mut set = |key, value: &HeaderValue| {
            headers.insert(names.name(key).clone(), value.clone());
        };
        set(IdentityKey::ClientId, self.facts.client_id_value());
        set(IdentityKey::TokenId, &HeaderValue::from(self.facts.id().0));
        let scope = self.scope.as_ref().unwrap_or(self.facts.scope_value());
        if !scope.is_empty() {
            set(IdentityKey::Scope, scope);
        }
        for (key, value) in self.user.iter().chain(&self.tenant) {
            set(*key, value);
        }
    }
}

/// Everything outside `!`–`~`, and `%` itself, so that decoding gives back what was meant.
const VALUES: &AsciiSet = &CONTROLS.add(b' ').add(b'%');
/// Scope tokens are visible ASCII by their grammar and separated by a space.
const SCOPES: &AsciiSet = CONTROLS;

fn header_value(text: &str, escaped: &'static AsciiSet) -> Result<HeaderValue, Refusal> {
    let encoded: std::borrow::Cow<'_, str> = utf8_percent_encode(text, escaped).into();
    HeaderValue::from_str(&encoded).map_err(|_| Refusal::internal_error())
}

#[cfg(test)]
#[path = "tests/identity.rs"]
mod tests;
