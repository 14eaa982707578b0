//! One line of JSON, written straight into a buffer: the access log's line costs no allocation.

use std::fmt::Display;
use std::io::Write;

use jiff::Timestamp;

/// Writes the members of one object. Whatever a value holds, the line stays one line.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    pub(super) fn end(self) {
        self.out.extend_from_slice(b"}\n");
    }

    /// A name of ours, which needs no escaping.
    fn name(&mut self, name: &str) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        text(self.out, value);
    }

    /// A member whose name came from elsewhere.
    pub(super) fn named(&mut self, name: &str, value: &str) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        text(self.out, name);
        self.out.push(b':');
        text(self.out, value);
    }

    /// A number or a word that is JSON as it stands.
    pub(super) fn plain(&mut self, name: &str, value: impl Display) {
        self.name(name);
        // Writing to a vector does not fail.
        let _ = write!(self.out, "{value}");
    }

    pub(super) fn text_or_null(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(name, value),
            None => self.plain(name, "null"),
        }
    }

    pub(super) fn plain_or_null(&mut self, name: &str, value: Option<impl Display>) {
        match value {
            Some(value) => self.plain(name, value),
            None => self.plain(name, "null"),
        }
    }

    pub(super) fn time(&mut self, at: &mut TimeText, wall_micros: i64) {
        self.name("time");
        self.out.push(b'"');
        at.write(self.out, wall_micros);
        self.out.push(b'"');
    }
}

/// A JSON string: quotes, backslashes and everything that could move a cursor are escaped.
pub(super) fn text(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    let mut from = 0;
    for (at, c) in value.char_indices() {
        let escaped = match c {
            '"' | '\\' => true,
            // C0 and C1 controls, and the separators that some readers take for line ends.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => true,
            _ => false,
        };
        if escaped {
            out.extend_from_slice(&value.as_bytes()[from..at]);
            let _ = match c {
                '"' => write!(out, "\\\""),
                '\\' => write!(out, "\\\\"),
                c => write!(out, "\\u{:04x}", u32::from(c)),
            };
            from = at + c.len_utf8();
        }
    }
    out.extend_from_slice(&value.as_bytes()[from..]);
    out.push(b'"');
}

/// RFC 3339 in UTC with microseconds; the part that changes once a second is kept.
#[derive(Default)]
pub(super) struct TimeText {
    second: Option<i64>,
    text: String,
}

impl TimeText {
    pub(super) fn write(&mut self, out: &mut Vec<u8>, wall_micros: i64) {
        let second = wall_micros.div_euclid(1_000_000);
        if self.second != Some(second) {
            self.second = Some(second);
            let stamp = Timestamp::from_second(second).unwrap_or_default();
            self.text = stamp.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        }
        let micros = wall_micros.rem_euclid(1_000_000);
        out.extend_from_slice(self.text.as_bytes());
        let _ = write!(out, ".{micros:06}Z");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn time_is_rfc_3339_in_utc_with_microseconds() {
        let mut time = TimeText::default();
        for (micros, expected) in [
            (1_700_000_000_000_007, "2023-11-14T22:13:20.000007Z"),
            (1_700_000_000_999_999, "2023-11-14T22:13:20.999999Z"),
            (1_700_000_001_000_000, "2023-11-14T22:13:21.000000Z"),
        ] {
            let mut out = Vec::new();
            time.write(&mut out, micros);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    proptest! {
        #[test]
        fn whatever_a_value_holds_the_line_is_one_line_and_reads_back(name in "\\PC*|.*", value in any::<String>()) {
            let mut out = Vec::new();
            let mut object = Object::begin(&mut out);
            object.text("a", &value);
            object.named(&name, &value);
            object.end();
            let line = String::from_utf8(out).unwrap();
            prop_assert_eq!(line.chars().filter(|c| c.is_control()).count(), 1, "only its own end");
            let read: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(read[&name].as_str(), Some(value.as_str()));
        }
    }
}
