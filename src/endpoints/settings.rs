//! What `[endpoints]` says.

/// Where Sidegate's own endpoints live; `None`: switched off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The legacy OAuth 2 server; begins with `/` and does not end with one.
    pub oauth2_server: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            oauth2_server: Some("/api/oauth2/server".to_owned()),
        }
    }
}
