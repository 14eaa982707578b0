//! The example file and the defaults are the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::super::tree::{Entries, Value, entries};
use super::super::{Place, read};
use super::read_env;

const EXAMPLE: &str = include_str!("../../../config.example.toml");

/// The example with its switched-off settings on.
fn switched_on() -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => {
            rest.to_owned()
        }
        _ => line.to_owned(),
    };
    EXAMPLE.lines().map(|line| on(line) + "\n").collect()
}

#[test]
fn the_example_is_a_configuration_and_says_nothing_but_the_defaults() {
    let example = read_env(EXAMPLE, &[]).unwrap();
    let default = read_env(super::UPSTREAM, &[]).unwrap();
    assert_eq!(format!("{example:#?}"), format!("{default:#?}"));
}

#[test]
fn what_the_example_switches_off_states_defaults_too() {
    let secret = [("DEMO_APP_SECRET", "s")];
    let example = read_env(&switched_on(), &secret).unwrap();
    let least = format!(
        "{}[[clients]]\nid = \"demo-app\"\nsecret = \"s\"\n[rate_limits.per-client]\nkey = \"client\"\nrate = \"100/s\"\n",
        super::UPSTREAM
    );
    let default = read_env(&least, &[]).unwrap();
    let mut example_limits = example.rate_limits.clone();
    let mut default_limits = default.rate_limits.clone();
    example_limits.sort_by(|a, b| a.name.cmp(&b.name));
    default_limits.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(example_limits, default_limits);
    assert_eq!(
        format!("{:?}", example.clients),
        format!("{:?}", default.clients)
    );
    assert_eq!(
        format!("{:?}", example.identity),
        format!("{:?}", default.identity)
    );
}

#[test]
fn every_key_that_is_known_stands_in_the_example() {
    let text = switched_on();
    let env = BTreeMap::from([("DEMO_APP_SECRET".to_owned(), "s".to_owned())]);
    let (config, known) = read(&text, Path::new("config.example.toml"), &env);
    config.unwrap();
    let (parsed, errors) = toml::de::DeTable::parse_recoverable(&text);
    assert!(errors.is_empty());
    let mut written = BTreeSet::new();
    keys(&entries(parsed.get_ref(), &Place::At), "", &mut written);
    let missing: Vec<_> = known
        .iter()
        .filter(|key| !key.contains(".secret.") && !written.contains(*key))
        .collect();
    assert!(
        missing.is_empty(),
        "not in config.example.toml: {missing:?}"
    );
}

fn keys(entries: &Entries, path: &str, written: &mut BTreeSet<String>) {
    for (key, entry) in entries {
        let name = if matches!(path, "upstreams" | "rate_limits") {
            "*"
        } else {
            key
        };
        let path = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        match &entry.node.value {
            Value::Table(inner) => keys(inner, &path, written),
            Value::List(items) => {
                for item in items {
                    if let Value::Table(inner) = &item.value {
                        keys(inner, &format!("{path}[]"), written);
                    }
                }
            }
            _ => {}
        }
        written.insert(path);
    }
}

#[test]
fn every_key_of_the_example_has_a_line_of_why_above_it() {
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    let is_setting = |line: &str| {
        let line = line.strip_prefix('#').unwrap_or(line);
        line.starts_with(|c: char| c.is_ascii_lowercase()) && line.contains(" = ")
    };
    for (index, line) in lines
        .iter()
        .enumerate()
        .filter(|(_, line)| is_setting(line))
    {
        let above = lines[..index]
            .iter()
            .rev()
            .find(|above| !is_setting(above))
            .unwrap();
        let table_explained = above.starts_with('[') || above.starts_with("#[");
        assert!(
            above.starts_with("# ") || table_explained,
            "{line} has no line of why"
        );
    }
}
