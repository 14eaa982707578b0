//! The names of Sidegate's parameters, and every way known to us in which some reader downstream
//! takes another name for one of them. A name that is plainly ours is cut; one that only some reader
//! would take for ours is refused, since whether it is ours cannot be told.

use super::path::fold_overlong;

/// A parameter of the query that is Sidegate's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Param {
    /// The token.
    AccessToken,
    /// The user to act as.
    Sudo,
    /// The tenant, by id.
    TenantId,
    /// The tenant, by code.
    TenantCode,
}

impl Param {
    /// Every parameter of ours.
    pub const ALL: [Self; 4] = [
        Self::AccessToken,
        Self::Sudo,
        Self::TenantId,
        Self::TenantCode,
    ];

    /// As the contract spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::Sudo => "sudo",
            Self::TenantId => "tenantId",
            Self::TenantCode => "tenantCode",
        }
    }

    fn of_name(name: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|param| name.eq_ignore_ascii_case(param.as_str().as_bytes()))
    }

    /// The parameter that this raw name plainly is: percent-decoded once, in any letter case.
    #[must_use]
    pub fn plain(raw_name: &str) -> Option<Self> {
        let raw = raw_name.as_bytes();
        if !raw.contains(&b'%') {
            return Self::of_name(raw);
        }
        let decoded: Vec<u8> = percent_encoding::percent_decode(raw).collect();
        // A `+` is a space and in none of the names, so whether it is decoded makes no difference.
        Self::of_name(&decoded)
    }
}

/// More decodings in a row than any reader does.
const DECODINGS: usize = 4;

/// Whether any reader would take this raw name for one of ours.
#[must_use]
pub(super) fn some_reader_takes_it_for_ours(raw_name: &str) -> bool {
    // The shortest of ours has four characters, and no way of writing one takes less than a byte.
    if raw_name.len() < 4 {
        return false;
    }
    let innocent = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if raw_name.bytes().all(innocent) {
        return Param::of_name(raw_name.as_bytes()).is_some();
    }
    let mut name = raw_name.replace('+', " ").into_bytes();
    for _ in 0..DECODINGS {
        let decoded = unescape(&name);
        if is_read_as_ours(&decoded) {
            return true;
        }
        if decoded == name {
            return false;
        }
        name = decoded;
    }
    false
}

/// Percent-decoding, once, together with the `%uXXXX` that ASP.NET knows. What is no escape stays.
fn unescape(name: &[u8]) -> Vec<u8> {
    let hex = |digits: Option<&[u8]>| {
        let digits = digits.filter(|all| all.iter().all(u8::is_ascii_hexdigit))?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut out = Vec::with_capacity(name.len());
    let mut at = 0;
    while let Some(byte) = name.get(at) {
        let unicode = || {
            (name.get(at + 1)?.eq_ignore_ascii_case(&b'u')).then_some(())?;
            char::from_u32(hex(name.get(at + 2..at + 6))?)
        };
        let escaped = || u8::try_from(hex(name.get(at + 1..at + 3))?).ok();
        if *byte != b'%' {
            out.push(*byte);
            at += 1;
        } else if let Some(value) = escaped() {
            out.push(value);
            at += 3;
        } else if let Some(value) = unicode() {
            out.extend_from_slice(value.encode_utf8(&mut [0; 4]).as_bytes());
            at += 6;
        } else {
            out.push(*byte);
            at += 1;
        }
    }
    out
}

/// Whether a decoded name is read as one of ours by somebody.
fn is_read_as_ours(decoded: &[u8]) -> bool {
    let lenient = fold_overlong(decoded);
    let text = String::from_utf8_lossy(lenient.as_deref().unwrap_or(decoded));
    let text = fold_letters(&text);
    // Some drop what does not show, ASP also a `%` that escapes nothing.
    let unseen = |c: &char| is_unseen(*c) || *c == '%';
    let visible: String = text.chars().filter(|c| !unseen(c)).collect();
    // PHP and whoever keeps names in C strings stop at NUL, and whoever decodes before splitting at `=`.
    let up_to = |end: char| text.split(end).next().unwrap_or_default();
    [&text, &visible, up_to('\0'), up_to('=')]
        .into_iter()
        .any(|name| mangles_to_ours(name) || mangles_to_ours(base(name)))
}

/// What PHP, Rack and `qs` make `sudo[x]`, `[sudo]` and `sudo]x` members of.
fn base(name: &str) -> &str {
    let brackets = ['[', ']'];
    let inner = name.trim_start_matches(brackets);
    inner.split(brackets).next().unwrap_or_default()
}

/// What PHP does to a name (leading spaces go, `.`, space and an unclosed `[` become `_`), and what
/// ASP.NET, Spring (`!sudo`) and `qs` (`[sudo]`, `?sudo`) trim from its ends.
fn mangles_to_ours(name: &str) -> bool {
    let trimmed = name.trim_matches(|c: char| {
        c.is_whitespace() || is_unseen(c) || matches!(c, ',' | ';' | '!' | '?' | '&' | '[' | ']')
    });
    // `access[token]` is a member of `access` to everybody.
    let closed = name
        .split_once('[')
        .is_some_and(|(_, rest)| rest.contains(']'));
    let mut mangled = [0; 12]; // the longest of ours
    let mut length = 0;
    for c in trimmed.chars() {
        let c = match c {
            '.' => '_',
            '[' if !closed => '_',
            c if c.is_whitespace() => '_',
            c => c,
        };
        match (u8::try_from(c), mangled.get_mut(length)) {
            (Ok(byte), Some(place)) => *place = byte,
            _ => return false,
        }
        length += 1;
    }
    Param::of_name(&mangled[..length]).is_some()
}

/// Letters that a comparison without regard to case, or one over full-width forms, takes for ASCII:
/// the Kelvin sign, the long s, the dotless and the dotted i, `ｓｕｄｏ`.
fn fold_letters(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    let narrow = |c: char| match c {
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(u32::from(c) - 0xFEE0).unwrap_or(c),
        c => c,
    };
    let narrow: String = text.chars().map(narrow).collect();
    let folded = narrow.to_uppercase().to_lowercase();
    folded
        .chars()
        .filter(|c| !matches!(c, '\u{307}' | '\u{FFFD}'))
        .collect()
}

/// Characters that do not show: controls and format characters.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{AD}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
}

#[cfg(test)]
#[path = "tests/spelling.rs"]
mod tests;
