//! What a configuration may say, and what is said to it when it may not.

mod example;
mod mistakes;
mod overrides;
mod robustness;
mod sections;

use std::path::Path;

use super::{Config, Mistakes};

/// The least that is a configuration.
const UPSTREAM: &str = "[upstreams.default]\nurl = \"http://127.0.0.1:3000\"\n";

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    pairs.iter().map(owned).collect()
}

fn read_env(text: &str, pairs: &[(&str, &str)]) -> Result<Config, Mistakes> {
    Config::from_text(text, Path::new("/etc/sidegate"), env(pairs))
}

/// `text` with an upstream before it.
fn read(text: &str) -> Result<Config, Mistakes> {
    read_env(&format!("{UPSTREAM}{text}"), &[])
}

/// The mistakes as `key: message; mend`, with the lines as `text` has them.
fn mistakes(text: &str) -> Vec<String> {
    let shown = |m: &super::Mistake| {
        let line = m
            .line
            .map_or(0, |line| line as isize - UPSTREAM.lines().count() as isize);
        format!("{line}: {}: {}; {}", m.key, m.message, m.mend)
    };
    match read(text) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.iter().map(shown).collect(),
    }
}
