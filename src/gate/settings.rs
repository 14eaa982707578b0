//! What `[[routes]]` and `[identity]` of the configuration say.

use crate::base::oauth::Scopes;

/// Whether refusals refuse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They do.
    #[default]
    Enforce,
    /// Refusals of credentials and limits are counted and logged, and the request passes without identity.
    Observe,
}

/// Whether a route asks for a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// No request passes without a valid one.
    #[default]
    Required,
    /// A request without one passes without identity; a bad one is refused.
    Optional,
    /// Credentials are cut and not looked at.
    Public,
}

/// What happens on a route while the store is known to be away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStoreError {
    /// Cached tokens pass until they were not confirmed for `cache_ttl`.
    #[default]
    ServeCached,
    /// 503 at once.
    Refuse,
}

/// The host part of a route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This host, in lower case, without port.
    Exact(String),
    /// Every host below this one: `example.com` for `*.example.com`; not the host itself.
    Below(String),
    /// Every host.
    Any,
}

/// One `[[routes]]` table, checked.
#[derive(Clone, Debug)]
pub struct RouteSettings {
    /// Begins with `/`, without a slash at its end except for `/` alone; matches on segment boundaries.
    pub path: String,
    /// Which hosts it is for.
    pub host: HostPattern,
    /// Upper-case methods it is for; none: all. GET includes HEAD.
    pub methods: Vec<String>,
    /// Name of its `[upstreams.NAME]`.
    pub upstream: String,
    /// Whether a token is needed.
    pub access: Access,
    /// Scopes a token must hold, all of them.
    pub scopes: Scopes,
    /// Names of its limits.
    pub rate_limits: Vec<String>,
    /// Leave the credential in place for the backend.
    pub forward_credentials: bool,
    /// What to do while the store is away.
    pub on_store_error: OnStoreError,
    /// Refuse or observe; the server's where the table says nothing.
    pub mode: Mode,
}

/// The members of an identity, in the order of the contract's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentityKey {
    /// The client a token belongs to.
    ClientId,
    /// The token's public id.
    TokenId,
    /// The scopes that count.
    Scope,
    /// From sudo, by kind.
    UserId,
    /// From sudo, by kind.
    UserLogin,
    /// From sudo, by kind, or a persistent token's account.
    UserEmail,
    /// From sudo, by kind.
    UserMobile,
    /// The account a persistent token belongs to.
    AccountEmail,
    /// From `tenantId`.
    TenantId,
    /// From `tenantCode`.
    TenantCode,
    /// Subject of a verified client certificate.
    ClientCertSubject,
}

impl IdentityKey {
    /// Every member, its key in `[identity.headers]`, and its name behind the prefix.
    pub const ALL: [(Self, &'static str, &'static str); 11] = [
        (Self::ClientId, "client_id", "Client-Id"),
        (Self::TokenId, "token_id", "Token-Id"),
        (Self::Scope, "scope", "Scope"),
        (Self::UserId, "user_id", "User-Id"),
        (Self::UserLogin, "user_login", "User-Login"),
        (Self::UserEmail, "user_email", "User-Email"),
        (Self::UserMobile, "user_mobile", "User-Mobile"),
        (Self::AccountEmail, "account_email", "Account-Email"),
        (Self::TenantId, "tenant_id", "Tenant-Id"),
        (Self::TenantCode, "tenant_code", "Tenant-Code"),
        (
            Self::ClientCertSubject,
            "client_cert_subject",
            "Client-Cert-Subject",
        ),
    ];
}

/// Where identity headers begin unless `[identity] prefix` says otherwise.
pub const DEFAULT_PREFIX: &str = "X-Auth-";

/// What `[identity]` says.
#[derive(Clone, Debug)]
pub struct IdentitySettings {
    /// Every inbound header whose folded name begins so is dropped.
    pub prefix: String,
    /// Members whose header has a name of its own, as written.
    pub renamed: Vec<(IdentityKey, String)>,
}

impl Default for IdentitySettings {
    fn default() -> Self {
        Self {
            prefix: DEFAULT_PREFIX.to_owned(),
            renamed: Vec::new(),
        }
    }
}
