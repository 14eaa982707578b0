//! How a command ends that did not do what it was asked: the exit code and what to tell.

use std::process::ExitCode;

use super::output::say;

/// The exit codes of contract §1 beside 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// Anything that the others do not name.
    Other = 1,
    /// Wrong usage (`EX_USAGE`).
    Usage = 64,
    /// A needed service is unavailable (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// Wrong configuration (`EX_CONFIG`).
    Configuration = 78,
}

/// Why a command ends early. The text says what is wrong and what to do; it holds no secret.
#[derive(Debug)]
pub(super) enum Failure {
    /// Told on standard error.
    Told(Code, String),
    /// What there was to tell has been told.
    Silent(Code),
    /// Nobody reads standard output any more (`… | head -1`): nothing is wrong, nothing is left to do.
    NobodyReads,
}

impl Failure {
    pub(super) fn other(text: impl Into<String>) -> Self {
        Self::Told(Code::Other, text.into())
    }

    pub(super) fn usage(text: impl Into<String>) -> Self {
        Self::Told(Code::Usage, text.into())
    }

    pub(super) fn unavailable(text: impl Into<String>) -> Self {
        Self::Told(Code::Unavailable, text.into())
    }

    pub(super) fn configuration(text: impl Into<String>) -> Self {
        Self::Told(Code::Configuration, text.into())
    }

    /// Tells it, and gives the code to end with.
    pub(super) fn report(self) -> ExitCode {
        let code = match self {
            Self::Told(code, text) => {
                say(&format!("sidegate: {text}"));
                code
            }
            Self::Silent(code) => code,
            Self::NobodyReads => return ExitCode::SUCCESS,
        };
        ExitCode::from(code as u8)
    }
}
