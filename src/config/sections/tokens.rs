//! `[tokens]`.

use std::time::Duration;

use crate::base::oauth::Scopes;
use crate::config::reader::{Field, Table, Wrong};
use crate::config::values::{count, duration};
use crate::tokens::Settings;

/// Tokens of a minute's cache take some 400 bytes each: this many take 4 GB.
const CACHE_MAX: u32 = 10_000_000;

pub(in crate::config) fn read(root: &Table<'_>) -> Settings {
    let mut table = root.child("tokens");
    table.later(&["close_on_revoke"]);
    let default = Settings::default();
    Settings {
        access_token_ttl: table.value("access_token_ttl", default.access_token_ttl, whole_seconds),
        default_scope: table.value("default_scope", default.default_scope, scopes),
        cache_capacity: table
            .optional("cache_capacity", count(0, CACHE_MAX))
            .map_or(default.cache_capacity, |n| n as u64),
        cache_ttl: table.value("cache_ttl", default.cache_ttl, duration),
        negative_cache_ttl: table.value("negative_cache_ttl", default.negative_cache_ttl, duration),
    }
}

/// `expires_in` counts whole seconds: a shorter life would be told as none.
fn whole_seconds(field: &Field<'_>) -> Result<Duration, Wrong> {
    let span = duration(field)?;
    if span < Duration::from_secs(1) {
        return Err(Wrong::new(
            "a token must live at least a second",
            "write \"1s\" or longer",
        ));
    }
    Ok(span)
}

fn scopes(field: &Field<'_>) -> Result<Scopes, Wrong> {
    let mend = "write scopes separated by spaces, such as \"sudo read\"";
    Scopes::parse(field.text(mend)?).map_err(|error| Wrong::new(error, mend))
}
