//! The one reading of the path. What is matched is what the backend sees; a path that some reader
//! downstream could take for another one is refused, unless it leads to the same route all the same.

use std::borrow::Cow;

use crate::refusal::Refusal;

/// More readings of one path than any honest one has.
const MAX_READINGS: usize = 48;

/// What one look at a path's bytes tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// Some byte is special to some reader: another reading may exist.
    ambiguous: bool,
    /// It has upper-case letters.
    upper: bool,
}

impl Traits {
    /// Whether the path has only this one reading, letter case included.
    #[must_use]
    pub fn is_plain(self) -> bool {
        !self.ambiguous && !self.upper
    }
}

/// Looks at each byte of a raw path once.
///
/// # Errors
/// 400 `invalid_path` for a path that does not begin with `/`, a control character, a byte above `~`
/// and a broken percent-escape.
pub fn inspect(path: &str) -> Result<Traits, Refusal> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(Refusal::invalid_path("the path must begin with a slash"));
    }
    let mut traits = Traits::default();
    let mut before = 0;
    for (i, byte) in bytes.iter().enumerate() {
        match byte {
            b'A'..=b'Z' => traits.upper = true,
            b'%' => {
                let escaped = bytes.get(i + 1..i + 3);
                if !escaped.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(Refusal::invalid_path(
                        "the path has a % that is not followed by two hexadecimal digits",
                    ));
                }
                traits.ambiguous = true;
            }
            b'\\' | b';' => traits.ambiguous = true,
            b'/' | b'.' if before == b'/' => traits.ambiguous = true,
            b'!'..=b'~' => {}
            _ => {
                return Err(Refusal::invalid_path(
                    "the path has a character that must be percent-encoded",
                ));
            }
        }
        before = *byte;
    }
    Ok(traits)
}

/// Whether every reading of `path` satisfies `same`. Readings in lower case are given as such:
/// `same(reading, folded)`.
///
/// # Errors
/// 400 `invalid_path` when one does not, or when there are too many to tell.
pub fn every_reading(
    path: &str,
    traits: Traits,
    mut same: impl FnMut(&[u8], bool) -> bool,
) -> Result<(), Refusal> {
    if traits.is_plain() {
        return Ok(());
    }
    let ambiguous = || {
        Refusal::invalid_path(
            "the path can be read in more than one way: send it decoded, without dot segments, \
             doubled slashes, backslashes and semicolons",
        )
    };
    let mut readings: Vec<Vec<u8>> = vec![path.as_bytes().to_vec()];
    let mut next = 0;
    while let Some(reading) = readings.get(next) {
        let agrees = same(reading, false) && same(&lower_case(reading), true);
        if !agrees {
            return Err(ambiguous());
        }
        let further: Vec<Vec<u8>> = if traits.ambiguous {
            READERS
                .iter()
                .filter_map(|read| read(&readings[next]))
                .collect()
        } else {
            Vec::new()
        };
        for reading in further {
            if !readings.contains(&reading) {
                readings.push(reading);
            }
        }
        if readings.len() > MAX_READINGS {
            return Err(ambiguous());
        }
        next += 1;
    }
    Ok(())
}

/// One reading into another, or `None` where nothing changes.
type Reader = fn(&[u8]) -> Option<Vec<u8>>;

/// What readers downstream are known to do to a path, in whatever order and as often as they like.
const READERS: [Reader; 8] = [
    decode,
    fold_overlong,
    backslashes_to_slashes,
    merge_slashes,
    remove_dot_segments,
    drop_parameters,
    cut_at_semicolon,
    cut_at_nul,
];

/// Percent-decoding, once; what is no escape stays.
fn decode(path: &[u8]) -> Option<Vec<u8>> {
    match Cow::from(percent_encoding::percent_decode(path)) {
        Cow::Owned(decoded) => Some(decoded),
        Cow::Borrowed(_) => None,
    }
}

/// Lenient UTF-8 decoders take `C0 AF` for a slash: sequences longer than needed become the ASCII
/// character they stand for.
pub(super) fn fold_overlong(path: &[u8]) -> Option<Vec<u8>> {
    if path.is_ascii() {
        return None;
    }
    let tail = |byte: Option<&u8>| byte.filter(|b| **b & 0xC0 == 0x80).map(|b| b & 0x3F);
    let mut folded = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        let (one, two, three) = (
            tail(path.get(at + 1)),
            tail(path.get(at + 2)),
            tail(path.get(at + 3)),
        );
        let (byte, length) = match (path[at], one, two, three) {
            (lead @ (0xC0 | 0xC1), Some(one), _, _) => ((lead & 1) << 6 | one, 2),
            (0xE0, Some(one @ 0..=1), Some(two), _) => (one << 6 | two, 3),
            (0xF0, Some(0), Some(two @ 0..=1), Some(three)) => (two << 6 | three, 4),
            (byte, ..) => (byte, 1),
        };
        folded.push(byte);
        at += length;
    }
    (folded != path).then_some(folded)
}

fn backslashes_to_slashes(path: &[u8]) -> Option<Vec<u8>> {
    path.contains(&b'\\').then(|| {
        path.iter()
            .map(|b| if *b == b'\\' { b'/' } else { *b })
            .collect()
    })
}

fn merge_slashes(path: &[u8]) -> Option<Vec<u8>> {
    let mut merged = path.to_vec();
    merged.dedup_by(|a, b| *a == b'/' && *b == b'/');
    (merged.len() != path.len()).then_some(merged)
}

/// RFC 3986 §5.2.4; a `..` above the root stays at the root.
fn remove_dot_segments(path: &[u8]) -> Option<Vec<u8>> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut segments = path.split(|b| *b == b'/').skip(1).peekable();
    let mut changed = false;
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." | b".." => {
                changed = true;
                if segment == b".." {
                    kept.pop();
                }
                if last {
                    kept.push(b"");
                }
            }
            _ => kept.push(segment),
        }
    }
    changed.then(|| {
        let mut path = Vec::new();
        for segment in kept {
            path.push(b'/');
            path.extend_from_slice(segment);
        }
        if path.is_empty() { vec![b'/'] } else { path }
    })
}

/// `/a;x=1/b` is `/a/b` to a servlet.
fn drop_parameters(path: &[u8]) -> Option<Vec<u8>> {
    if !path.contains(&b';') {
        return None;
    }
    let mut inside = false;
    let kept = path.iter().copied().filter(|byte| {
        match byte {
            b';' => inside = true,
            b'/' => inside = false,
            _ => {}
        }
        !inside
    });
    Some(kept.collect())
}

/// `/a;x=1/b` is `/a` to others.
fn cut_at_semicolon(path: &[u8]) -> Option<Vec<u8>> {
    let at = path.iter().position(|b| *b == b';')?;
    Some(path[..at].to_vec())
}

/// `/a%00b` is `/a` to whoever keeps text in C strings.
fn cut_at_nul(path: &[u8]) -> Option<Vec<u8>> {
    let at = path.iter().position(|b| *b == 0)?;
    Some(path[..at].to_vec())
}

/// Lower case as a reader without regard to case compares: also the few letters beyond ASCII that
/// fold into it, such as the Kelvin sign and the long s.
fn lower_case(path: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(path) {
        Ok(text) if !text.is_ascii() => text.to_uppercase().to_lowercase().into_bytes(),
        _ => path.to_ascii_lowercase(),
    }
}

#[cfg(test)]
#[path = "tests/path.rs"]
mod tests;
