//! What a client may do beyond its scopes: the tenants it may act in, the users it may act as.

use crate::base::glob;

/// The kinds of name a user can be meant by, as `sudo=KIND:VALUE` spells them.
pub const SUDO_KINDS: [&str; 5] = ["uid", "loginName", "email", "mobile", "username"];

/// The kinds of name a tenant can be meant by, as grants spell them.
pub const TENANT_KINDS: [&str; 2] = ["id", "code"];

/// Whom a client may act as: patterns `KIND:GLOB`, or `*` for everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SudoGrant(Vec<Pattern>);

/// The tenants a client may act in: patterns `id:GLOB` and `code:GLOB`, or `*` for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantGrant(Vec<Pattern>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    /// As it was written, for listings.
    text: String,
    /// `None` for the bare `*`.
    kind: Option<&'static str>,
    /// What is compared; e-mails are kept in lower case.
    glob: String,
}

impl Pattern {
    fn read(text: &str, kinds: &[&'static str]) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self {
                text: text.to_owned(),
                kind: None,
                glob: "*".to_owned(),
            });
        }
        let found = text
            .split_once(':')
            .and_then(|(kind, glob)| Some((*kinds.iter().find(|known| **known == kind)?, glob)));
        match found {
            Some((kind, glob)) if !glob.is_empty() => {
                let kind = canonical(kind);
                Ok(Self {
                    text: text.to_owned(),
                    kind: Some(kind),
                    glob: folded(kind, glob),
                })
            }
            _ => Err(format!(
                "\"{text}\" is no pattern: write \"*\" or KIND:PATTERN with one of the kinds {}",
                kinds.join(", ")
            )),
        }
    }

    fn allows(&self, kind: &str, value: &str) -> bool {
        self.kind.is_none_or(|own| own == kind) && glob::matches(&self.glob, value)
    }
}

/// `username` is the discouraged spelling of `loginName`.
fn canonical(kind: &str) -> &str {
    if kind == "username" {
        "loginName"
    } else {
        kind
    }
}

/// E-mail addresses compare without regard to case, everything else as it is.
fn folded(kind: &str, value: &str) -> String {
    if kind == "email" {
        value.to_lowercase()
    } else {
        value.to_owned()
    }
}

fn read_all<'a>(
    texts: impl IntoIterator<Item = &'a str>,
    kinds: &[&'static str],
) -> Result<Vec<Pattern>, String> {
    texts
        .into_iter()
        .map(|text| Pattern::read(text, kinds))
        .collect()
}

impl SudoGrant {
    /// May act as anybody: what a client has that names no patterns, the scope being the grant.
    #[must_use]
    pub fn everybody() -> Self {
        Self(vec![Pattern {
            text: "*".to_owned(),
            kind: None,
            glob: "*".to_owned(),
        }])
    }

    /// Reads patterns such as `uid:*` and `email:*@example.com`.
    ///
    /// # Errors
    /// Says in words which pattern cannot be read and how one is written.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        read_all(texts, &SUDO_KINDS).map(Self)
    }

    /// Whether the user `value`, named by `kind`, may be acted as.
    #[must_use]
    pub fn allows(&self, kind: &str, value: &str) -> bool {
        let kind = canonical(kind);
        let value = folded(kind, value);
        self.0.iter().any(|pattern| pattern.allows(kind, &value))
    }

    /// The patterns as they were written.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|pattern| pattern.text.as_str())
    }
}

impl TenantGrant {
    /// May act in every tenant: what a client has that names none.
    #[must_use]
    pub fn every() -> Self {
        Self(vec![Pattern {
            text: "*".to_owned(),
            kind: None,
            glob: "*".to_owned(),
        }])
    }

    /// Reads patterns such as `id:7` and `code:ACME`.
    ///
    /// # Errors
    /// Says in words which pattern cannot be read and how one is written.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        read_all(texts, &TENANT_KINDS).map(Self)
    }

    /// Whether the tenant with this id may be acted in.
    #[must_use]
    pub fn allows_id(&self, id: &str) -> bool {
        self.0.iter().any(|pattern| pattern.allows("id", id))
    }

    /// Whether the tenant with this code may be acted in.
    #[must_use]
    pub fn allows_code(&self, code: &str) -> bool {
        self.0.iter().any(|pattern| pattern.allows("code", code))
    }

    /// The patterns as they were written.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|pattern| pattern.text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sudo(patterns: &[&str]) -> SudoGrant {
        SudoGrant::parse(patterns.iter().copied()).unwrap()
    }

    #[test]
    fn a_pattern_allows_its_own_kind_only() {
        let grant = sudo(&["uid:7*", "email:*@example.com"]);
        assert!(grant.allows("uid", "700"));
        assert!(!grant.allows("loginName", "700"));
        assert!(!grant.allows("uid", "800"));
        assert!(grant.allows("email", "a@example.com"));
    }

    #[test]
    fn e_mails_compare_without_case_and_logins_with_it() {
        let grant = sudo(&["email:*@Example.com", "loginName:Li*"]);
        assert!(grant.allows("email", "A@EXAMPLE.COM"));
        assert!(grant.allows("loginName", "Lilei"));
        assert!(!grant.allows("loginName", "lilei"));
    }

    #[test]
    fn username_is_the_same_as_login_name_on_either_side() {
        assert!(sudo(&["loginName:li"]).allows("username", "li"));
        assert!(sudo(&["username:li"]).allows("loginName", "li"));
    }

    #[test]
    fn a_star_allows_every_kind_and_no_pattern_allows_nothing() {
        assert!(sudo(&["*"]).allows("mobile", "+8613800000000"));
        assert!(!sudo(&[]).allows("uid", "1"));
    }

    #[test]
    fn patterns_that_cannot_be_read_say_how_one_is_written() {
        for bad in ["", "uid", "uid:", "UID:1", "name:x", "id:7"] {
            let message = SudoGrant::parse([bad]).unwrap_err();
            assert!(
                message.contains("uid, loginName, email, mobile"),
                "{message}"
            );
        }
    }

    #[test]
    fn tenants_are_allowed_by_id_and_by_code() {
        let grant = TenantGrant::parse(["id:7", "code:ACME-*"]).unwrap();
        assert!(grant.allows_id("7") && !grant.allows_id("70") && !grant.allows_code("7"));
        assert!(grant.allows_code("ACME-EU") && !grant.allows_code("acme-eu"));
        assert!(TenantGrant::parse(["name:7"]).is_err());
    }
}
