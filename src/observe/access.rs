//! The access line of one request.

/// How a request carried its credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// `Authorization: Bearer`.
    Bearer,
    /// `?access_token=`.
    Query,
    /// Not at all.
    None,
}
