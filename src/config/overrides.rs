//! `SIDEGATE__A__B=…`: keys overridden by the environment. Names have no letter case, `_` stands for
//! `-`, two `_` part the keys of a path, lists go by index. What a variable's text means, the reader
//! of its key says; here it only finds its place.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::mistake::{Mistake, shown_key};
use super::tree::{Entries, Entry, Node, Place, Value, typed};

/// How the name of an override begins.
const PREFIX: &str = "SIDEGATE__";
/// Deeper than any key; the tree is walked by recursion.
const DEPTH_MAX: usize = 16;

/// One spelling for all a variable can mean: lower case, `_` for `-`.
pub(super) fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

/// The variable that would override the key at this path.
pub(super) fn variable_of(path: &str) -> String {
    let path = path.replace('[', ".").replace(']', "");
    let parts = path
        .split('.')
        .map(|part| folded(part).to_ascii_uppercase());
    format!("{PREFIX}{}", parts.collect::<Vec<_>>().join("__"))
}

/// Lays every override of `env` over `root`; returns what is wrong with them.
pub(super) fn apply(
    root: &mut Entries,
    env: &BTreeMap<String, String>,
    file: &str,
) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut wrong = |variable: &str, key: &str, message: String, mend: &str| {
        mistakes.push(Mistake {
            file: file.to_owned(),
            line: None,
            column: None,
            variable: Some(shown_variable(variable)),
            key: key.to_owned(),
            message,
            mend: mend.to_owned(),
        });
    };
    let mut overrides: Vec<(Vec<String>, &str, &str)> = Vec::new();
    for (name, text) in env {
        let Some(rest) = name
            .get(..PREFIX.len())
            .filter(|start| start.eq_ignore_ascii_case(PREFIX))
            .and_then(|_| name.get(PREFIX.len()..))
        else {
            continue;
        };
        let parts: Vec<String> = rest.split("__").map(folded).collect();
        if parts.len() > DEPTH_MAX {
            let message = "its name has too many parts to be a key".to_owned();
            wrong(name, "", message, "remove it");
            continue;
        }
        if parts.iter().any(String::is_empty) {
            wrong(
                name,
                "",
                "a part of its name is empty".to_owned(),
                "write SIDEGATE__TABLE__KEY with two underscores between the parts",
            );
            continue;
        }
        overrides.push((parts, name, text));
    }
    // A whole list or table before what is inside it; items of a list in the order of their numbers.
    overrides.sort_by_cached_key(|(parts, name, _)| {
        let parts: Vec<_> = parts
            .iter()
            .map(|part| (part.parse::<usize>().ok(), part.clone()))
            .collect();
        (parts, (*name).to_owned())
    });
    let mut seen = BTreeSet::new();
    for (parts, name, text) in overrides {
        if !seen.insert(parts.clone()) {
            let key = parts.join(".");
            let message = "another variable overrides the same key".to_owned();
            wrong(name, &key, message, "keep one of them");
            continue;
        }
        let variable: Rc<str> = Rc::from(shown_variable(name));
        if let Err((key, message, mend)) = set(root, &parts, text, &variable) {
            wrong(name, &key, message, mend);
        }
    }
    mistakes
}

/// A variable's name as a message shows it.
fn shown_variable(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if name.len() <= 200 && name.bytes().all(plain) {
        name.to_owned()
    } else {
        super::mistake::quoted(name)
    }
}

type Wrong = (String, String, &'static str);

/// Puts one variable's text in its place, below `entries`.
fn set(
    entries: &mut Entries,
    parts: &[String],
    text: &str,
    variable: &Rc<str>,
) -> Result<(), Wrong> {
    let place = || Place::Variable(Rc::clone(variable));
    let text_node = || Node {
        place: place(),
        value: Value::Text(text.to_owned()),
    };
    let empty_table = || Node {
        place: place(),
        value: Value::Table(Entries::new()),
    };
    let Some((first, rest)) = parts.split_first() else {
        return Ok(());
    };
    let mut path = String::new();
    let mut rest = rest;
    let mut node = {
        let made = if rest.is_empty() {
            text_node()
        } else {
            empty_table()
        };
        step(entries, first, made, rest.is_empty(), &place(), &mut path)
    };
    while let Some((part, further)) = rest.split_first() {
        rest = further;
        let last = rest.is_empty();
        let made = if last { text_node() } else { empty_table() };
        let inner = Rc::make_mut(node);
        if let Value::Text(whole) = &inner.value {
            // This variable reaches into what another one gave as a whole.
            let whole = typed(whole, variable).map_err(|error| {
                let message =
                    format!("it reaches into {path}, whose own variable is no TOML: {error}");
                (
                    path.clone(),
                    message,
                    "write that one as a TOML list or table",
                )
            })?;
            inner.value = whole.value;
        }
        node = match &mut inner.value {
            Value::Table(entries) => step(entries, part, made, last, &place(), &mut path),
            Value::List(items) => {
                let index = part.parse::<usize>().ok().filter(|i| *i <= items.len());
                let Some(index) = index else {
                    let message =
                        format!("{path} is a list of {} and has no item {part}", items.len());
                    return Err((
                        path,
                        message,
                        "count from 0, or give the next number to add an item",
                    ));
                };
                path.push_str(&format!("[{index}]"));
                if index == items.len() {
                    items.push(Rc::new(made));
                } else if last && let Some(item) = items.get_mut(index) {
                    *item = Rc::new(made);
                }
                let Some(item) = items.get_mut(index) else {
                    return Ok(());
                };
                item
            }
            other => {
                let message = format!("{path} is {} and has no {}", other.kind(), shown_key(part));
                return Err((path, message, "override the key itself"));
            }
        };
    }
    Ok(())
}

/// The entry that `part` names, made where there is none, replaced where it is the last part.
fn step<'e>(
    entries: &'e mut Entries,
    part: &str,
    made: Node,
    last: bool,
    place: &Place,
    path: &mut String,
) -> &'e mut Rc<Node> {
    let key = entries
        .keys()
        .find(|key| folded(key) == part)
        .cloned()
        .unwrap_or_else(|| part.to_owned());
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(&shown_key(&key));
    let made = Entry {
        place: place.clone(),
        node: Rc::new(made),
    };
    let node = Rc::clone(&made.node);
    let entry = entries.entry(key).or_insert(made);
    if last {
        entry.node = node;
    }
    &mut entry.node
}
