//! Small readers that collect mistakes instead of stopping at the first. A [`Table`] hands out its
//! fields by key and, when it is dropped, reports every key that nobody asked for.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

use super::mistake::{closest, shown_key};
use super::overrides::variable_of;
use super::tree::{Entries, Node, Place, Value, typed};

/// What is wrong with a value, and the mend.
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) mend: String,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            mend: mend.into(),
        }
    }
}

/// A mistake before its place is a line and a column.
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) key: String,
    pub(super) wrong: Wrong,
}

struct Unknown {
    place: Place,
    /// Path of the table and the key in it.
    table: String,
    key: String,
    candidates: Vec<&'static str>,
    later: bool,
    is_table: bool,
}

/// One reading of one configuration: what readers may look at, and what they found wrong.
pub(super) struct Reading<'r> {
    /// The folder that relative paths start from.
    pub(super) base: &'r Path,
    /// The environment, for secrets.
    pub(super) env: &'r BTreeMap<String, String>,
    /// The text had syntax errors: something may be missing that is there, so nothing is called missing.
    pub(super) partial: bool,
    found: RefCell<Vec<Found>>,
    unknown: RefCell<Vec<Unknown>>,
    /// Every key a reader asked for: `routes[].path`, `upstreams.*.url`.
    known: RefCell<BTreeSet<String>>,
}

impl<'r> Reading<'r> {
    pub(super) fn new(base: &'r Path, env: &'r BTreeMap<String, String>, partial: bool) -> Self {
        Self {
            base,
            env,
            partial,
            found: RefCell::default(),
            unknown: RefCell::default(),
            known: RefCell::default(),
        }
    }

    /// The outermost table.
    pub(super) fn root(&'r self, entries: Entries) -> Table<'r> {
        Table {
            reading: self,
            path: String::new(),
            known: String::new(),
            place: Place::At(0),
            entries,
            asked: RefCell::default(),
            later: &[],
        }
    }

    /// Every mistake, and every key that is known.
    pub(super) fn finish(self) -> (Vec<Found>, BTreeSet<String>) {
        let (mut found, known) = (self.found.into_inner(), self.known.into_inner());
        for unknown in self.unknown.into_inner() {
            found.push(unknown.told(&known));
        }
        (found, known)
    }
}

impl Unknown {
    fn told(self, known: &BTreeSet<String>) -> Found {
        let key = join(&self.table, &shown_key(&self.key));
        let what = if self.is_table { "table" } else { "key" };
        let wrong = if self.later {
            Wrong::new(
                format!("this version of Sidegate does not have this {what} yet"),
                "remove it",
            )
        } else {
            let spell = |path: &str| match &self.place {
                Place::At(_) => path.to_owned(),
                Place::Variable(_) => variable_of(path),
            };
            let near = closest(&self.key, self.candidates.iter().copied());
            // A key of another table, spelled right, is likelier meant than a distant one of this table.
            let elsewhere = known.iter().find(|path| {
                path.rsplit('.').next() == Some(&self.key) && !path.contains(['*', '['])
            });
            let mend = match (near, elsewhere) {
                (Some((_, far)), Some(path)) if far > 2 => {
                    format!("the closest known key is {}", spell(path))
                }
                (Some((near, _)), _) => {
                    let near = match &self.place {
                        Place::At(_) => near.to_owned(),
                        Place::Variable(_) => variable_of(&join(&self.table, near)),
                    };
                    format!("the closest known key is {near}")
                }
                (None, _) => "remove it".to_owned(),
            };
            Wrong::new(format!("unknown {what}"), mend)
        };
        Found {
            place: self.place,
            key,
            wrong,
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// One table being read.
pub(super) struct Table<'r> {
    reading: &'r Reading<'r>,
    path: String,
    /// The path with `*` for names and `[]` for items.
    known: String,
    place: Place,
    entries: Entries,
    asked: RefCell<Vec<&'static str>>,
    later: &'static [&'static str],
}

impl<'r> Table<'r> {
    /// Keys that the contract names and that arrive with a later version.
    pub(super) fn later(&mut self, keys: &'static [&'static str]) {
        self.later = keys;
    }

    /// The table's path.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The reading it is part of.
    pub(super) fn reading(&self) -> &'r Reading<'r> {
        self.reading
    }

    /// The field of this key, if it is there.
    pub(super) fn field(&self, key: &'static str) -> Option<Field<'r>> {
        let known = join(&self.known, key);
        self.reading.known.borrow_mut().insert(known.clone());
        self.asked.borrow_mut().push(key);
        let entry = self.entries.get(key)?;
        Some(Field {
            reading: self.reading,
            path: join(&self.path, key),
            known,
            node: Rc::clone(&entry.node),
        })
    }

    /// The value of a key; `None` where it is absent or wrong.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Field<'r>) -> Result<T, Wrong>,
    ) -> Option<T> {
        let field = self.field(key)?;
        match read(&field) {
            Ok(value) => Some(value),
            Err(wrong) => {
                field.wrong(wrong);
                None
            }
        }
    }

    /// The value of a key; `default` where it is absent or wrong.
    pub(super) fn value<T>(
        &self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Field<'r>) -> Result<T, Wrong>,
    ) -> T {
        self.optional(key, read).unwrap_or(default)
    }

    /// The value of a key that has no default; absent, it is a mistake mended by `mend`.
    pub(super) fn required<T>(
        &self,
        key: &'static str,
        mend: &str,
        read: impl FnOnce(&Field<'r>) -> Result<T, Wrong>,
    ) -> Option<T> {
        if !self.entries.contains_key(key) {
            self.missing(key, mend);
        }
        self.optional(key, read)
    }

    /// Reports a key that should be there.
    pub(super) fn missing(&self, key: &str, mend: &str) {
        if !self.reading.partial {
            self.reading.found.borrow_mut().push(Found {
                place: self.place.clone(),
                key: join(&self.path, key),
                wrong: Wrong::new("it is missing", mend),
            });
        }
    }

    /// Reports that something is wrong with the table as a whole.
    pub(super) fn wrong(&self, wrong: Wrong) {
        self.reading.found.borrow_mut().push(Found {
            place: self.place.clone(),
            key: self.path.clone(),
            wrong,
        });
    }

    /// The table of this key; an empty one where it is absent or no table.
    pub(super) fn child(&self, key: &'static str) -> Table<'r> {
        self.child_or(key, &format!("write [{}]", join(&self.path, key)))
    }

    fn child_or(&self, key: &'static str, mend: &str) -> Table<'r> {
        let table = self.field(key).and_then(|field| {
            let table = field.table();
            if table.is_none() {
                field.wrong_kind("a table", mend);
            }
            table
        });
        table.unwrap_or_else(|| Table {
            reading: self.reading,
            path: join(&self.path, key),
            known: join(&self.known, key),
            place: self.place.clone(),
            entries: Entries::new(),
            asked: RefCell::default(),
            later: &[],
        })
    }

    /// The tables in the table of this key, by name. A name made by the environment has `-` for `_`.
    pub(super) fn named(&self, key: &'static str) -> Vec<(String, Table<'r>)> {
        let mend = format!("write [{}.NAME] for each", join(&self.path, key));
        let mut all = self.child_or(key, &mend);
        let mut named = Vec::new();
        for (name, entry) in std::mem::take(&mut all.entries) {
            let made = matches!(entry.place, Place::Variable(_));
            let name = if made { name.replace('_', "-") } else { name };
            let path = join(&all.path, &shown_key(&name));
            let field = Field {
                reading: self.reading,
                known: join(&all.known, "*"),
                node: entry.node,
                path,
            };
            match field.table() {
                Some(table) => named.push((name, table)),
                None => field.wrong_kind("a table", &format!("write [{}]", field.path)),
            }
        }
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        named
    }

    /// The tables in the list of this key; none where it is absent.
    pub(super) fn listed(&self, key: &'static str) -> Vec<Table<'r>> {
        let Some(field) = self.field(key) else {
            return Vec::new();
        };
        let mend = format!("write [[{key}]], with two brackets, for each");
        let Some(items) = field.items() else {
            field.wrong(field.no_list("a list of tables", &mend));
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(items.len());
        for item in items {
            match item.table() {
                Some(table) => tables.push(table),
                None => item.wrong_kind("a table", &mend),
            }
        }
        tables
    }

    /// Whether the key is there, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        let asked = self.asked.borrow();
        let mut unknown = self.reading.unknown.borrow_mut();
        for (key, entry) in &self.entries {
            if asked.contains(&key.as_str()) {
                continue;
            }
            let later = self.later.contains(&key.as_str());
            let is_table = matches!(entry.node.value, Value::Table(_));
            let mut report = |place: &Place| {
                unknown.push(Unknown {
                    place: place.clone(),
                    table: self.path.clone(),
                    key: key.clone(),
                    candidates: asked.clone(),
                    later,
                    is_table,
                });
            };
            if let Place::At(_) = entry.place {
                report(&entry.place);
            }
            // Each variable that reaches into it is unknown too, and is named.
            let mut variables = BTreeSet::new();
            variables_in(&entry.node, &mut variables);
            for place in &variables {
                report(place);
            }
        }
    }
}

/// The variables that gave a value in or below `node`.
fn variables_in(node: &Node, variables: &mut BTreeSet<Place>) {
    match &node.value {
        Value::Table(entries) if !entries.is_empty() => {
            for entry in entries.values() {
                variables_in(&entry.node, variables);
            }
        }
        Value::List(items) if !items.is_empty() => {
            for item in items {
                variables_in(item, variables);
            }
        }
        _ => {
            if let Place::Variable(_) = node.place {
                variables.insert(node.place.clone());
            }
        }
    }
}

/// One value being read.
#[derive(Clone)]
pub(super) struct Field<'r> {
    reading: &'r Reading<'r>,
    path: String,
    known: String,
    node: Rc<Node>,
}

impl<'r> Field<'r> {
    /// Reports a mistake in this value.
    pub(super) fn wrong(&self, wrong: Wrong) {
        self.reading.found.borrow_mut().push(Found {
            place: self.node.place.clone(),
            key: self.path.clone(),
            wrong,
        });
    }

    fn wrong_kind(&self, wanted: &str, mend: &str) {
        self.wrong(self.other_kind(wanted, mend));
    }

    fn other_kind(&self, wanted: &str, mend: &str) -> Wrong {
        let kind = self.node.value.kind();
        Wrong::new(format!("it must be {wanted} and is {kind}"), mend)
    }

    /// The reading it is part of.
    pub(super) fn reading(&self) -> &'r Reading<'r> {
        self.reading
    }

    /// The value, with the text of a variable read as TOML.
    fn typed(&self) -> Result<Node, Wrong> {
        match (&self.node.value, &self.node.place) {
            (Value::Text(text), Place::Variable(variable)) => typed(text, variable)
                .map_err(|error| Wrong::new("the variable's text is no TOML value", error)),
            _ => Ok((*self.node).clone()),
        }
    }

    /// A string; the whole text of a variable.
    pub(super) fn text(&self, mend: &str) -> Result<&str, Wrong> {
        match &self.node.value {
            Value::String(text) | Value::Text(text) => Ok(text),
            _ => Err(self.other_kind("a string", mend)),
        }
    }

    /// An integer.
    pub(super) fn integer(&self, mend: &str) -> Result<i64, Wrong> {
        let too_large = || Wrong::new("the number is too large", mend);
        match self.typed().map(|node| node.value) {
            Ok(Value::Integer(number)) => number.ok_or_else(too_large),
            _ => Err(self.other_kind("an integer", mend)),
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Result<bool, Wrong> {
        match self.typed().map(|node| node.value) {
            Ok(Value::Boolean(value)) => Ok(value),
            _ => Err(self.other_kind("true or false", "write true or false, without quotes")),
        }
    }

    /// The items of a list; `None` where it is none.
    fn items(&self) -> Option<Vec<Field<'r>>> {
        let nodes: Vec<Rc<Node>> = match self.typed().ok()?.value {
            Value::List(items) => items,
            // Made by variables that name 0, 1, 2 …: nobody had said yet that it is a list.
            Value::Table(entries) if matches!(self.node.place, Place::Variable(_)) => {
                let by_number = |(key, entry): (&String, &super::tree::Entry)| {
                    Some((key.parse::<usize>().ok()?, Rc::clone(&entry.node)))
                };
                let numbered: Option<BTreeMap<_, _>> = entries.iter().map(by_number).collect();
                let numbered = numbered?;
                let no_gaps = numbered.keys().copied().eq(0..entries.len());
                if !no_gaps {
                    return None;
                }
                numbered.into_values().collect()
            }
            _ => return None,
        };
        let item = |(index, node): (usize, Rc<Node>)| Field {
            reading: self.reading,
            path: format!("{}[{index}]", self.path),
            known: format!("{}[]", self.known),
            node,
        };
        Some(nodes.into_iter().enumerate().map(item).collect())
    }

    /// The value as a table; `None` where it is none.
    pub(super) fn table(&self) -> Option<Table<'r>> {
        let node = self.typed().ok()?;
        let Value::Table(entries) = node.value else {
            return None;
        };
        Some(Table {
            reading: self.reading,
            path: self.path.clone(),
            known: self.known.clone(),
            place: node.place,
            entries,
            asked: RefCell::default(),
            later: &[],
        })
    }

    /// Whether it is the empty string, which says nothing.
    pub(super) fn is_empty_text(&self) -> bool {
        matches!(&self.node.value, Value::String(text) | Value::Text(text) if text.is_empty())
    }

    /// Whether it is the text of a variable.
    pub(super) fn is_bare_text(&self) -> bool {
        matches!(self.node.value, Value::Text(_))
    }

    /// Why it has no items.
    fn no_list(&self, wanted: &str, mend: &str) -> Wrong {
        match (&self.node.value, &self.node.place) {
            (Value::Table(_), Place::Variable(_)) => Wrong::new(
                "it is a list, and variables must give its items by number, from 0 without gaps",
                "give the items before this one, or write the list in the file",
            ),
            _ => self.other_kind(wanted, mend),
        }
    }

    /// Reads each item of a list; those that are wrong are reported and left out.
    pub(super) fn each<T>(
        &self,
        mend: &str,
        read: impl Fn(&Field<'r>) -> Result<T, Wrong>,
    ) -> Result<Vec<T>, Wrong> {
        let items = self.items().ok_or_else(|| self.no_list("a list", mend))?;
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            match read(&item) {
                Ok(value) => values.push(value),
                Err(wrong) => item.wrong(wrong),
            }
        }
        Ok(values)
    }

    /// Reads one string, or each item of a list.
    pub(super) fn one_or_each<T>(
        &self,
        mend: &str,
        read: impl Fn(&Field<'r>) -> Result<T, Wrong>,
    ) -> Result<Vec<T>, Wrong> {
        match &self.node.value {
            Value::String(_) => read(self).map(|one| vec![one]),
            Value::Text(text) if !text.trim_start().starts_with('[') => {
                read(self).map(|one| vec![one])
            }
            // `[::1]:8080` begins like a list and is none.
            Value::Text(_) if self.items().is_none() => read(self).map(|one| vec![one]),
            _ => self.each(mend, read),
        }
    }
}
