//! What is wrong in a configuration, where, and how it is mended; all of it at once.

use std::fmt;

use serde::Serialize;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// The file of the configuration.
    pub file: String,
    /// Line, from 1; `None` where the value came from the environment.
    pub line: Option<usize>,
    /// Column in characters, from 1; `None` where the value came from the environment.
    pub column: Option<usize>,
    /// The environment variable that holds the value, where one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
    /// The key's path, such as `routes[0].access`; empty where the text could not be read so far.
    pub key: String,
    /// What is wrong. Never holds the value of a secret.
    pub message: String,
    /// What to do about it.
    pub mend: String,
}

impl fmt::Display for Mistake {
    /// `FILE:LINE:COLUMN: KEY: what is wrong; mend`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.variable, self.line, self.column) {
            (Some(variable), ..) => write!(f, "environment variable {variable}: ")?,
            (None, Some(line), Some(column)) => write!(f, "{}:{line}:{column}: ", self.file)?,
            (None, ..) => write!(f, "{}: ", self.file)?,
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.message, self.mend)
    }
}

/// Every mistake of a configuration, sorted by place: those of the file, then those of the environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(transparent)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// Sorts what was found and drops what was found twice.
    pub(super) fn new(mut found: Vec<Mistake>) -> Self {
        found.sort_by(|a, b| {
            let place = |m: &Mistake| (m.variable.clone(), m.line, m.column);
            place(a)
                .cmp(&place(b))
                .then_with(|| (&a.key, &a.message).cmp(&(&b.key, &b.message)))
        });
        found.dedup();
        Self(found)
    }

    /// A file that could not be read at all.
    pub(super) fn of_file(file: &str, message: impl Into<String>, mend: &str) -> Self {
        Self(vec![Mistake {
            file: file.to_owned(),
            line: None,
            column: None,
            variable: None,
            key: String::new(),
            message: message.into(),
            mend: mend.to_owned(),
        }])
    }

    /// The mistakes in order.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.0.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none; never so when it comes from reading a configuration.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Mistakes {
    /// One a line, and a last line with their number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.0 {
            writeln!(f, "{mistake}")?;
        }
        match self.0.len() {
            1 => write!(f, "1 mistake"),
            n => write!(f, "{n} mistakes"),
        }
    }
}

/// Longest piece of a value that a message repeats, in characters.
const QUOTED_MAX: usize = 80;

/// A value in quotes as a message may repeat it: control characters escaped, long ones cut. Not for
/// anything that may hold a secret.
pub(super) fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(QUOTED_MAX).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    let mut quoted = String::from("\"");
    quoted.extend(cut.chars().flat_map(|c| match c {
        '"' | '\\' => vec!['\\', c],
        c if c.is_control() => c.escape_unicode().collect(),
        c => vec![c],
    }));
    quoted.push_str(dots);
    quoted.push('"');
    quoted
}

/// A key as a path shows it: bare where TOML allows that, else in quotes.
pub(super) fn shown_key(key: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !key.is_empty() && key.len() <= QUOTED_MAX && key.bytes().all(bare) {
        key.to_owned()
    } else {
        quoted(key)
    }
}

/// The candidate that differs least from `wanted`, with the number of differing letters.
pub(super) fn closest<'a>(
    wanted: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<(&'a str, usize)> {
    let wanted: Vec<char> = wanted.chars().take(QUOTED_MAX).collect();
    candidates
        .into_iter()
        .map(|candidate| (candidate, distance(&wanted, candidate)))
        .min_by_key(|(_, distance)| *distance)
}

/// Letters to insert, drop, change or swap with their neighbour to make one text of the other,
/// `-` and `_` and the cases of a letter being the same.
fn distance(a: &[char], b: &str) -> usize {
    let fold = |c: &char| {
        if *c == '-' {
            '_'
        } else {
            c.to_ascii_lowercase()
        }
    };
    let a: Vec<char> = a.iter().map(fold).collect();
    let b: Vec<char> = b.chars().map(|c| fold(&c)).collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before_last[j - 2] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_name_is_the_one_with_fewest_differing_letters() {
        for (wanted, candidates, expected) in [
            ("listne", &["level", "listen", "log"][..], "listen"),
            ("acces", &["path", "access", "scopes"], "access"),
            ("max-body", &["max_headers", "max_body"], "max_body"),
            ("URL", &["ca", "url"], "url"),
        ] {
            assert_eq!(
                closest(wanted, candidates.iter().copied()).unwrap().0,
                expected
            );
        }
        assert_eq!(closest("x", []), None);
    }

    #[test]
    fn what_a_message_repeats_stays_on_its_line_and_is_short() {
        assert_eq!(quoted("a\nb\"c\u{1b}"), "\"a\\u{a}b\\\"c\\u{1b}\"");
        assert!(quoted(&"x".repeat(100_000)).len() < 100);
        assert_eq!(shown_key("per-client"), "per-client");
        assert_eq!(shown_key("a\nb"), "\"a\\u{a}b\"");
        assert_eq!(shown_key(""), "\"\"");
    }
}
