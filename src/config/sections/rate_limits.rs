//! `[rate_limits.NAME]`.

use std::num::NonZeroU32;

use crate::base::units::{Rate, UnitError};
use crate::config::mistake::{closest, quoted};
use crate::config::reader::{Field, Table, Wrong};
use crate::config::values::{check_name, choice, count, integer};
use crate::limits::{DEFAULT_MAX_KEYS, FAILED_CREDENTIALS, KeyPart, Mode, Settings};

/// Cells of a bucket: as many as a rate can name.
const BURST_MAX: u32 = u32::MAX;
/// Keys take some 100 bytes each.
const KEYS_MAX: u32 = 10_000_000;

const MODES: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("shadow", Mode::Shadow)];

/// The limits, and the names that may be referred to, also of limits with mistakes in them.
pub(in crate::config) fn read(root: &Table<'_>) -> (Vec<Settings>, Vec<String>) {
    let (mut limits, mut names) = (Vec::new(), Vec::new());
    for (name, mut table) in root.named("rate_limits") {
        table.later(&["cost", "candidate", "scope", "overrides"]);
        if name == FAILED_CREDENTIALS {
            limits.push(failed_credentials(&table));
            continue;
        }
        if let Err(wrong) = check_name(&name) {
            table.wrong(wrong);
        }
        limits.extend(one(&name, &table));
        names.push(name);
    }
    if !limits.iter().any(|limit| limit.name == FAILED_CREDENTIALS) {
        limits.push(Settings::failed_credentials());
    }
    (limits, names)
}

fn one(name: &str, table: &Table<'_>) -> Option<Settings> {
    let key = table.required(
        "key",
        "say what it counts by, such as key = \"client\"",
        key,
    );
    let rate = table.required(
        "rate",
        "say how much is allowed, such as rate = \"100/s\"",
        rate,
    );
    let burst = table.optional("burst", burst);
    let mode = table.value("mode", Mode::default(), choice(&MODES));
    let max_keys = table.value("max_keys", DEFAULT_MAX_KEYS, count(1, KEYS_MAX));
    let rate = rate?;
    Some(Settings {
        name: name.to_owned(),
        key: key?,
        rate,
        burst: burst.unwrap_or(rate.count),
        mode,
        max_keys,
    })
}

fn failed_credentials(table: &Table<'_>) -> Settings {
    let default = Settings::failed_credentials();
    for key in ["key", "max_keys"] {
        if let Some(field) = table.field(key) {
            field.wrong(Wrong::new(
                format!("it cannot be set for {FAILED_CREDENTIALS}, which counts by address"),
                "only rate, burst and mode can be: remove it",
            ));
        }
    }
    Settings {
        rate: table.value("rate", default.rate, rate),
        burst: table.value("burst", default.burst, burst),
        mode: table.value("mode", default.mode, choice(&MODES)),
        ..default
    }
}

fn rate(field: &Field<'_>) -> Result<Rate, Wrong> {
    let mend = UnitError::Rate.to_string();
    let text = field.text(&mend)?;
    Rate::parse(text).map_err(|_| Wrong::new(format!("{} is no rate", quoted(text)), mend))
}

fn burst(field: &Field<'_>) -> Result<NonZeroU32, Wrong> {
    let number = integer(1, BURST_MAX)(field)?;
    Ok(NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN))
}

fn key(field: &Field<'_>) -> Result<Vec<KeyPart>, Wrong> {
    let mend = "write \"client\" or a list such as [\"client\", \"route\"]";
    let parts = field.one_or_each(mend, choice(&KeyPart::SPELLINGS))?;
    for (index, part) in parts.iter().enumerate() {
        if parts.iter().take(index).any(|earlier| earlier == part) {
            return Err(Wrong::new("it names the same part twice", "name each once"));
        }
    }
    let empty_list = || {
        field
            .each(mend, |_| Ok(()))
            .is_ok_and(|items| items.is_empty())
    };
    if parts.is_empty() && empty_list() {
        return Err(Wrong::new(
            "it counts by nothing",
            "name at least one part; \"global\" is one bucket for all",
        ));
    }
    Ok(parts)
}

/// Names of limits that a route or a client is under.
pub(in crate::config) fn names(
    known: &[String],
) -> impl Fn(&Field<'_>) -> Result<Vec<String>, Wrong> {
    move |field| {
        let mend = "write a list of names, such as [\"per-client\"]";
        field.each(mend, |item| {
            let name = item.text(mend)?;
            if name == FAILED_CREDENTIALS {
                return Err(Wrong::new(
                    format!("{FAILED_CREDENTIALS} is always there and counts only what fails"),
                    "remove it here",
                ));
            }
            if !known.iter().any(|own| own == name) && !item.reading().partial {
                let near = closest(name, known.iter().map(String::as_str));
                let mend = match near {
                    Some((near, _)) => format!("the closest that is there is {}", quoted(near)),
                    None => format!(
                        "add [rate_limits.{}]",
                        crate::config::mistake::shown_key(name)
                    ),
                };
                let message = format!("there is no limit {}", quoted(name));
                return Err(Wrong::new(message, mend));
            }
            Ok(name.to_owned())
        })
    }
}
