//! Standard output and standard error: what was asked for goes to the one, everything else to the
//! other. Neither can make a command panic.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write as _};

use jiff::Timestamp;
use serde_json::Value;

use super::failure::Failure;
use crate::base::clock::UnixMillis;

/// Writes a line to standard error. A standard error that cannot be written to is nobody's to tell.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes `text` and a line feed to standard output.
///
/// # Errors
/// When it cannot be written; a reader that went away ends the command quietly.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    whole(text).map_err(failed)
}

/// Writes one JSON value as a line to standard output.
///
/// # Errors
/// As for [`line()`].
pub(super) fn json(value: &Value) -> Result<(), Failure> {
    line(&value.to_string())
}

/// Writes a line that is shown this one time. That nobody reads it is a failure here.
///
/// # Errors
/// The system's words for why it could not be written.
pub(super) fn once(text: &str) -> Result<(), io::Error> {
    whole(text)
}

fn whole(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// What a failed write to standard output means.
pub(super) fn failed(error: io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe => Failure::NobodyReads,
        _ => Failure::other(format!(
            "cannot write to standard output: {error}. Nothing but the output is missing; \
             run the command again with an output that takes it."
        )),
    }
}

/// A listing for people: columns that align, or a sentence where there is nothing to list.
///
/// # Errors
/// As for [`line()`].
pub(super) fn table(head: &[&str], rows: &[Vec<String>], nothing: &str) -> Result<(), Failure> {
    if rows.is_empty() {
        say(nothing);
        return Ok(());
    }
    line(&columns(head, rows))
}

fn columns(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(&head)
        .chain(rows)
        .map(|cells| cells.iter().map(|cell| printable(cell)).collect())
        .collect();
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|cells| cells.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for cells in &lines {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}

/// Characters that would steer a terminal are shown as what they are; an empty cell as a dash.
fn printable(cell: &str) -> String {
    if cell.is_empty() {
        return "-".to_owned();
    }
    let mut text = String::with_capacity(cell.len());
    for c in cell.chars() {
        if c.is_control() || is_invisible(c) {
            text.extend(c.escape_unicode());
        } else {
            text.push(c);
        }
    }
    text
}

/// Marks that turn the direction of text around, so that it reads as something else.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// RFC 3339 in UTC.
pub(super) fn time(at: UnixMillis) -> String {
    Timestamp::from_millisecond(at.0).map_or_else(|_| format!("{} ms", at.0), |at| at.to_string())
}

/// The same in JSON.
pub(super) fn json_time(at: Option<UnixMillis>) -> Value {
    at.map_or(Value::Null, |at| Value::String(time(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_an_empty_cell_is_a_dash() {
        let rows = [
            vec!["a".to_owned(), String::new(), "x".to_owned()],
            vec!["längere".to_owned(), "b".to_owned(), String::new()],
        ];
        assert_eq!(
            columns(&["ID", "SCOPES", "END"], &rows),
            "ID       SCOPES  END\na        -       x\nlängere  b       -"
        );
    }

    #[test]
    fn what_would_steer_a_terminal_is_spelled_out() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\u{a}");
        assert_eq!(printable("uid:\u{202e}1"), "uid:\\u{202e}1");
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(time(UnixMillis(1_704_067_200_000)), "2024-01-01T00:00:00Z");
        assert_eq!(
            time(UnixMillis(1_704_067_200_250)),
            "2024-01-01T00:00:00.25Z"
        );
        assert_eq!(time(UnixMillis(i64::MAX)), "9223372036854775807 ms");
    }
}
