//! Values into lines, so that nothing a peer sends can end a line, begin another, or steer a
//! terminal; and so that no token of ours is ever written, wherever it stood.

use std::cell::Cell;
use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

/// What an access token begins with and how many characters follow (contract §4). Written again here
/// because this room knows nothing of tokens.
const TOKEN_PREFIX: &[u8] = b"sgt_";
const TOKEN_CHARS: usize = 38;
const REDACTED: &str = "sgt_[redacted]";

/// Where an access token begins in `bytes`.
pub(super) fn find_token(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(TOKEN_PREFIX.len())
        .enumerate()
        .position(|(at, window)| {
            window == TOKEN_PREFIX && token_chars(&bytes[at + TOKEN_PREFIX.len()..]) >= TOKEN_CHARS
        })
}

fn token_chars(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        .count()
}

/// `text` as a JSON string with its quotes.
pub(super) fn json(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    content(out, text);
    out.push(b'"');
}

/// `text` as a JSON string, or null.
pub(super) fn json_or_null(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => json(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

/// For lines that people read: as it is where that is harmless, else as a JSON string.
pub(super) fn readable(out: &mut Vec<u8>, text: &str) {
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'=');
    if !text.is_empty() && text.bytes().all(plain) {
        content(out, text);
    } else {
        json(out, text);
    }
}

/// For a message that people read: spaces and quotes stay, control characters do not.
pub(super) fn message(out: &mut Vec<u8>, text: &str) {
    content(out, text);
}

fn content(out: &mut Vec<u8>, mut text: &str) {
    while let Some(at) = find_token(text.as_bytes()) {
        escaped(out, &text[..at]);
        out.extend_from_slice(REDACTED.as_bytes());
        let after = at + TOKEN_PREFIX.len();
        text = &text[after + token_chars(&text.as_bytes()[after..])..];
    }
    escaped(out, text);
}

fn escaped(out: &mut Vec<u8>, text: &str) {
    let harmless = |b: u8| (b' '..0x7f).contains(&b) && b != b'"' && b != b'\\';
    if text.bytes().all(harmless) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            // Also what some readers take for the end of a line, or turns text around.
            c if c.is_control() || is_deceptive(c) => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => {
                let mut bytes = [0; 4];
                out.extend_from_slice(c.encode_utf8(&mut bytes).as_bytes());
            }
        }
    }
}

/// Line and paragraph separators, and marks of direction. All lie below U+10000.
fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A whole number.
pub(super) fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Milliseconds with three decimals.
pub(super) fn millis(out: &mut Vec<u8>, span: Duration) {
    let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    number(out, micros / 1000);
    out.push(b'.');
    padded(out, micros % 1000, 3);
}

fn padded(out: &mut Vec<u8>, value: u64, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + (value / 10_u64.pow(place) % 10) as u8);
    }
}

/// An address.
pub(super) fn address(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            for (i, octet) in ip.octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                number(out, u64::from(octet));
            }
        }
        IpAddr::V6(ip) => {
            let _ = write!(out, "{ip}");
        }
    }
}

const DATE_LEN: usize = "1970-01-01T00:00:00".len();
/// The last second that jiff knows; its year still has four digits.
const LAST_SECOND: i64 = 253_402_207_200;

/// RFC 3339 in UTC with microseconds. The date is made once a second on each thread.
pub(super) fn time(out: &mut Vec<u8>, wall_micros: i64) {
    thread_local! {
        static MADE: Cell<(i64, [u8; DATE_LEN])> = const { Cell::new((-1, [0; DATE_LEN])) };
    }
    let second = wall_micros.div_euclid(1_000_000).clamp(0, LAST_SECOND);
    let micros = wall_micros.rem_euclid(1_000_000).unsigned_abs();
    let (made, mut text) = MADE.with(Cell::get);
    if made != second {
        text = date(second);
        MADE.with(|cell| cell.set((second, text)));
    }
    out.extend_from_slice(&text);
    out.push(b'.');
    padded(out, micros, 6);
    out.push(b'Z');
}

fn date(second: i64) -> [u8; DATE_LEN] {
    let mut text = *b"1970-01-01T00:00:00";
    if let Ok(instant) = jiff::Timestamp::from_second(second) {
        let made = instant.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        if made.len() == DATE_LEN {
            text.copy_from_slice(made.as_bytes());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn time_is_rfc_3339_with_microseconds() {
        for (micros, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1_709_164_799_000_001, "2024-02-28T23:59:59.000001Z"),
            (1_709_164_800_999_999, "2024-02-29T00:00:00.999999Z"),
            (i64::MAX, "9999-12-30T22:00:00.775807Z"),
        ] {
            assert_eq!(written(|out| time(out, micros)), expected);
        }
    }

    #[test]
    fn a_json_string_reads_back_as_what_it_was() {
        let all: String = (0..0x3000_u32).filter_map(char::from_u32).collect();
        for text in [all.as_str(), "", "😀\u{feff}", "a\"b\\c/d"] {
            let line = written(|out| json(out, text));
            assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
            assert!(!line.chars().any(|c| c.is_control() || is_deceptive(c)));
        }
    }

    #[test]
    fn a_token_is_never_written_wherever_it_stands() {
        let token = format!("sgt_{}", "aB3-_".repeat(8));
        for text in [
            token.clone(),
            format!("/a/{token}/b"),
            format!("é{token}\n{token}"),
            format!("sgt_{token}"),
        ] {
            let line = written(|out| json(out, &text));
            assert!(!line.contains("aB3-_"), "{line}");
            assert!(line.contains(REDACTED));
        }
        assert_eq!(
            written(|out| json(out, "/sgt_logo.png")),
            "\"/sgt_logo.png\""
        );
    }

    #[test]
    fn numbers_are_written_whole() {
        for value in [0, 9, 10, 12_345, u64::MAX] {
            assert_eq!(written(|out| number(out, value)), value.to_string());
        }
        let span = Duration::from_micros(1_002_003);
        assert_eq!(written(|out| millis(out, span)), "1002.003");
    }
}
