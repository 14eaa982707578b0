//! What `[log]` says.

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people at a terminal.
    Text,
}

/// What `[log]` says, checked.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// JSON or text.
    pub format: Format,
    /// The least severe level that is written. Access and audit lines do not depend on it.
    pub level: tracing::Level,
    /// Whether each request leaves an access line.
    pub access: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            format: Format::Json,
            level: tracing::Level::INFO,
            access: true,
        }
    }
}
