//! The audit lines of commands: who changed what (contract §9).
//!
//! A sidecar writes its own into its log. A command writes its line to its standard error when that
//! is no terminal, so that whoever collects the output of jobs and containers has it; a person at a
//! terminal reads the same in words.

use std::io::{self, IsTerminal};

use crate::base::clock::UnixMillis;
use crate::config::Config;
use crate::observe::audit::AuditLine;
use crate::observe::lines::Lines;

/// A line about what a command did at `at`.
pub(super) fn by_command(at: UnixMillis) -> AuditLine<'static> {
    AuditLine {
        wall_micros: at.0.saturating_mul(1000),
        actor: Some("cli"),
        ..AuditLine::default()
    }
}

/// Writes it.
pub(super) fn write(config: &Config, line: &AuditLine<'_>) {
    if io::stderr().is_terminal() {
        return;
    }
    let lines = Lines::to(io::stderr(), config.log.format);
    lines.audit(line);
    lines.flush();
}
