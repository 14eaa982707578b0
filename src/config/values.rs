//! Readers of single values that several tables share.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use super::mistake::{closest, quoted};
use super::reader::{Field, Wrong};
use crate::base::secret::Secret;
use crate::base::units;

/// Largest file of a secret.
const SECRET_FILE_MAX: u64 = 64 << 10;

/// A duration, zero too.
pub(super) fn duration(field: &Field<'_>) -> Result<Duration, Wrong> {
    let mend = units::UnitError::Duration.to_string();
    let text = field.text(&mend)?;
    units::duration(text).map_err(|_| Wrong::new(format!("{} is no duration", quoted(text)), mend))
}

/// A duration that may not be zero.
pub(super) fn some_duration(field: &Field<'_>) -> Result<Duration, Wrong> {
    match duration(field)? {
        Duration::ZERO => Err(Wrong::new(
            "it cannot be zero: nothing would ever be done in time",
            "write a longer one",
        )),
        span => Ok(span),
    }
}

/// A size in bytes, as text with a unit or as a bare integer.
pub(super) fn size(field: &Field<'_>) -> Result<u64, Wrong> {
    let mend = units::UnitError::Size.to_string();
    if let Ok(bytes) = field.integer(&mend) {
        return u64::try_from(bytes).map_err(|_| Wrong::new("a size cannot be negative", mend));
    }
    let text = field.text(&mend)?;
    units::size(text).map_err(|_| Wrong::new(format!("{} is no size", quoted(text)), mend))
}

/// An integer from `least` to `most`.
pub(super) fn integer(least: u32, most: u32) -> impl Fn(&Field<'_>) -> Result<u32, Wrong> {
    move |field| {
        let mend = format!("write an integer from {least} to {most}");
        let number = field.integer(&mend)?;
        u32::try_from(number)
            .ok()
            .filter(|n| (least..=most).contains(n))
            .ok_or_else(|| Wrong::new(format!("{number} is out of bounds"), mend))
    }
}

/// The same as a count of things in memory.
pub(super) fn count(least: u32, most: u32) -> impl Fn(&Field<'_>) -> Result<usize, Wrong> {
    move |field| integer(least, most)(field).map(|n| usize::try_from(n).unwrap_or(usize::MAX))
}

/// `true` or `false`.
pub(super) fn boolean(field: &Field<'_>) -> Result<bool, Wrong> {
    field.boolean()
}

/// One of some words.
pub(super) fn choice<T: Copy>(
    words: &[(&'static str, T)],
) -> impl Fn(&Field<'_>) -> Result<T, Wrong> {
    move |field| {
        let list: Vec<_> = words.iter().map(|(word, _)| quoted(word)).collect();
        let all = format!("write one of {}", list.join(", "));
        let text = field.text(&all)?;
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let near = closest(text, words.iter().map(|(word, _)| *word));
            let mend = match near {
                Some((near, far)) if far <= 2 => format!("{all}; the closest is {}", quoted(near)),
                _ => all,
            };
            Wrong::new(format!("{} is not known here", quoted(text)), mend)
        })
    }
}

/// A string in which the empty one means that nothing was said.
pub(super) fn or_empty<T>(
    read: impl Fn(&Field<'_>) -> Result<T, Wrong>,
) -> impl Fn(&Field<'_>) -> Result<Option<T>, Wrong> {
    move |field| match field.text("") {
        Ok("") => Ok(None),
        _ => read(field).map(Some),
    }
}

/// The path of a file, from the configuration's folder where it is relative.
pub(super) fn path(field: &Field<'_>) -> Result<PathBuf, Wrong> {
    let text = field.text("write a path in quotes")?;
    if text.is_empty() || text.contains('\0') {
        return Err(Wrong::new("this is no path", "write the path of a file"));
    }
    Ok(field.reading().base.join(text))
}

/// The path of a file that is there and can be read.
pub(super) fn readable_file(field: &Field<'_>) -> Result<PathBuf, Wrong> {
    let path = path(field)?;
    let shown = quoted(&path.to_string_lossy());
    let is_file = |path| File::open(path)?.metadata().map(|meta| !meta.is_dir());
    match is_file(&path) {
        Ok(true) => Ok(path),
        Ok(false) => Err(Wrong::new(
            format!("{shown} is a directory"),
            "name a file in it",
        )),
        Err(error) => Err(Wrong::new(
            format!("{shown} cannot be read: {}", error.kind()),
            "name a file that this user may read; relative paths start from the configuration's folder",
        )),
    }
}

/// A name that can stand in a header, a log line and a label.
pub(super) fn check_name(name: &str) -> Result<(), Wrong> {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if (1..=64).contains(&name.len()) && name.bytes().all(safe) {
        Ok(())
    } else {
        Err(Wrong::new(
            "this name cannot be used",
            "use 1 to 64 letters, digits, \"-\", \"_\" and \".\"",
        ))
    }
}

/// A name of something that another table describes.
pub(super) fn name(field: &Field<'_>) -> Result<String, Wrong> {
    field.text("write a name in quotes").map(str::to_owned)
}

/// A path of URLs in its one form: begins with `/`, no slash at its end, nothing that two readers
/// could read in two ways.
pub(super) fn url_path(field: &Field<'_>) -> Result<String, Wrong> {
    let text = field.text("write a path that begins with a slash, such as \"/api\"")?;
    let wrong = |what: &str, mend: &str| Err(Wrong::new(format!("{} {what}", quoted(text)), mend));
    if !text.starts_with('/') {
        return wrong("does not begin with a slash", "write it as in \"/api\"");
    }
    if text.contains(['?', '#']) {
        return wrong("has a query or fragment", "write the path alone");
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return wrong(
            "has characters that cannot stand in the path of a URL",
            "use printable ASCII without spaces",
        );
    }
    if text.contains('%') {
        return wrong(
            "has a percent escape, which reads in two ways: every request for it would be refused",
            "end the path at the segment before",
        );
    }
    if text.contains([';', '\\']) || text.contains("//") {
        return wrong(
            "has \";\", \"\\\" or \"//\", which reads in two ways",
            "write plain segments with one slash between them",
        );
    }
    if text
        .split('/')
        .any(|segment| segment == "." || segment == "..")
    {
        return wrong("has a dot segment", "write the path it leads to");
    }
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    Ok(if trimmed.is_empty() { "/" } else { trimmed }.to_owned())
}

const SECRET_MEND: &str = "write a string, { env = \"NAME\" } or { file = \"/path\" }";

/// A secret: literal, from a variable or from a file. No message repeats anything of it.
pub(super) fn secret(field: &Field<'_>) -> Result<Secret, Wrong> {
    let literal = match field.text("") {
        // The text of a variable is the secret itself unless it is a table that names its source.
        Ok(text) if !(field.is_bare_text() && names_a_source(text)) => Some(text.to_owned()),
        _ => None,
    };
    let text = match literal {
        Some(text) => text,
        None => sourced_secret(field)?,
    };
    if text.is_empty() {
        return Err(Wrong::new("the secret is empty", SECRET_MEND));
    }
    Ok(Secret::new(text))
}

fn names_a_source(text: &str) -> bool {
    text.trim_start().starts_with('{')
        && toml::de::DeValue::parse(text.trim()).is_ok_and(|value| {
            let table = value.get_ref().as_table();
            table.is_some_and(|t| t.contains_key("env") || t.contains_key("file"))
        })
}

fn sourced_secret(field: &Field<'_>) -> Result<String, Wrong> {
    let Some(table) = field.table() else {
        return Err(Wrong::new("it is no secret", SECRET_MEND));
    };
    let (has_env, has_file) = (table.has("env"), table.has("file"));
    let from_env = table.optional("env", from_variable);
    let from_file = table.optional("file", from_file);
    match (has_env, has_file) {
        (true, false) => from_env.ok_or_else(reported),
        (false, true) => from_file.ok_or_else(reported),
        (true, true) => Err(Wrong::new("it names two sources", SECRET_MEND)),
        (false, false) => Err(Wrong::new("it names no source", SECRET_MEND)),
    }
}

/// Stands for a mistake that the inner key has reported already.
fn reported() -> Wrong {
    Wrong::new("", "")
}

fn from_variable(field: &Field<'_>) -> Result<String, Wrong> {
    let name = field.text("write the name of a variable in quotes")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if name.is_empty() || name.len() > 128 || !name.bytes().all(plain) {
        // Not repeated: somebody may have written the secret itself here.
        return Err(Wrong::new(
            "this is no name of an environment variable",
            "use letters, digits and \"_\"; a literal secret is a plain string without env",
        ));
    }
    match field.reading().env.get(name) {
        None => Err(Wrong::new(
            format!("the environment variable {name} is not set"),
            "set it before Sidegate starts",
        )),
        Some(text) if text.is_empty() => Err(Wrong::new(
            format!("the environment variable {name} is empty"),
            "put the secret in it",
        )),
        Some(text) if text.contains('\u{fffd}') => Err(Wrong::new(
            format!("the environment variable {name} is not UTF-8"),
            "use a secret of UTF-8 text",
        )),
        Some(text) => Ok(text.clone()),
    }
}

fn from_file(field: &Field<'_>) -> Result<String, Wrong> {
    let path = readable_file(field)?;
    let shown = quoted(&path.to_string_lossy());
    let mut text = String::new();
    let read =
        File::open(&path).and_then(|file| file.take(SECRET_FILE_MAX + 1).read_to_string(&mut text));
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(Wrong::new(
            format!("{shown} is not UTF-8"),
            "use a secret of UTF-8 text",
        )),
        Err(error) => Err(Wrong::new(
            format!("{shown} cannot be read: {}", error.kind()),
            "name a file that this user may read",
        )),
        Ok(bytes) if bytes as u64 > SECRET_FILE_MAX => Err(Wrong::new(
            format!("{shown} is larger than 64 KiB"),
            "name the file that holds the secret alone",
        )),
        Ok(_) => {
            let end = text
                .strip_suffix('\n')
                .map(|t| t.strip_suffix('\r').unwrap_or(t));
            let text = end.unwrap_or(&text).to_owned();
            if text.is_empty() {
                Err(Wrong::new(
                    format!("{shown} is empty"),
                    "put the secret in it",
                ))
            } else {
                Ok(text)
            }
        }
    }
}
