//! The configuration as it was written: tables, lists and values, each with the place it came from.
//! Text of a file and variables of the environment become one tree, so that readers need not care.

use std::collections::BTreeMap;
use std::rc::Rc;

use toml::Spanned;
use toml::de::DeValue;

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// In the file, behind so many bytes.
    At(usize),
    /// In this variable of the environment.
    Variable(Rc<str>),
}

/// One value with its place.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What stands there.
#[derive(Clone)]
pub(super) enum Value {
    String(String),
    /// `None`: more than 64 bits.
    Integer(Option<i64>),
    Float,
    Boolean(bool),
    Datetime,
    List(Vec<Rc<Node>>),
    Table(Entries),
    /// The text of a variable, before anybody has said what it shall be.
    Text(String),
}

/// The entries of a table by key.
pub(super) type Entries = BTreeMap<String, Entry>;

/// One entry of a table.
#[derive(Clone)]
pub(super) struct Entry {
    /// Where its key stands.
    pub(super) place: Place,
    pub(super) node: Rc<Node>,
}

impl Value {
    /// What it is, in words.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::String(_) | Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float => "a number with a fraction",
            Self::Boolean(_) => "true or false",
            Self::Datetime => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Takes over what the TOML parser read; `place` tells where each span is. What the parser made up in
/// place of something broken has no span and stands at `around`.
fn node(value: &Spanned<DeValue<'_>>, around: usize, place: &impl Fn(usize) -> Place) -> Node {
    let span = value.span();
    let at = if span.is_empty() { around } else { span.start };
    let value = match value.get_ref() {
        DeValue::String(text) => Value::String(text.clone().into_owned()),
        DeValue::Integer(digits) => {
            Value::Integer(i64::from_str_radix(digits.as_str(), digits.radix()).ok())
        }
        DeValue::Float(_) => Value::Float,
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Array(items) => {
            let item = |item| Rc::new(node(item, at, place));
            Value::List(items.iter().map(item).collect())
        }
        DeValue::Table(table) => Value::Table(entries(table, place)),
    };
    Node {
        place: place(at),
        value,
    }
}

/// Takes over a table that the TOML parser read.
pub(super) fn entries(table: &toml::de::DeTable<'_>, place: &impl Fn(usize) -> Place) -> Entries {
    let entry = |(key, value): (&Spanned<toml::de::DeString<'_>>, &Spanned<DeValue<'_>>)| {
        let at = key.span().start;
        let entry = Entry {
            place: place(at),
            node: Rc::new(node(value, at, place)),
        };
        (key.get_ref().clone().into_owned(), entry)
    };
    table.iter().map(entry).collect()
}

/// Reads the text of a variable as one TOML value; `Err` says what is wrong with it, repeating nothing of it.
pub(super) fn typed(text: &str, variable: &Rc<str>) -> Result<Node, String> {
    // A value ends with its text; what the parser leaves unread, it does not tell.
    match DeValue::parse(text.trim()) {
        Ok(value) => Ok(node(&value, 0, &|_| Place::Variable(Rc::clone(variable)))),
        Err(error) => Err(error.message().to_owned()),
    }
}

/// Where lines begin, to tell line and column of a byte.
pub(super) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
        let starts = std::iter::once(0).chain(after_breaks.map(|(i, _)| i + 1));
        Self {
            text,
            starts: starts.collect(),
        }
    }

    /// Line and column from 1, the column in characters.
    pub(super) fn position(&self, at: usize) -> (usize, usize) {
        let at = at.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= at);
        let start = self.starts.get(line.wrapping_sub(1)).copied().unwrap_or(0);
        let before = self.text.as_bytes().get(start..at).unwrap_or_default();
        let column = String::from_utf8_lossy(before)
            .trim_start_matches('\u{feff}')
            .chars()
            .count();
        (line, column + 1)
    }
}
