//! Text to settings; the only reader of configuration files and environment. Knows the settings of
//! every room and nothing of what they do with them. Read [`load`] first, then one file of `sections/`.

mod mistake;
mod overrides;
mod reader;
mod sections;
mod tree;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use toml::de::DeTable;

pub use mistake::{Mistake, Mistakes};
use reader::{Found, Reading};
use tree::{Entries, Lines, Place};

use crate::clients::Client;
use crate::{endpoints, gate, limits, observe, server, store, tokens, upstream};

/// A whole configuration, checked: nothing behind it has anything left to doubt.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// `[server]`.
    pub server: server::settings::Settings,
    /// `[admin]`.
    pub admin: AdminSettings,
    /// `[log]`.
    pub log: observe::settings::Settings,
    /// `[upstreams.*]`, by name.
    pub upstreams: Vec<upstream::settings::Settings>,
    /// `[[routes]]`; the one default route where the file has none.
    pub routes: Vec<gate::settings::RouteSettings>,
    /// `[identity]`.
    pub identity: gate::settings::IdentitySettings,
    /// `[store]`.
    pub store: store::settings::Settings,
    /// `[tokens]`.
    pub tokens: tokens::Settings,
    /// `[[clients]]`.
    pub clients: Vec<Client>,
    /// `[rate_limits.*]`; `failed-credentials` is always among them.
    pub rate_limits: Vec<limits::Settings>,
    /// `[endpoints]`.
    pub endpoints: endpoints::settings::Settings,
}

/// What `[admin]` says.
#[derive(Clone, Debug, Default)]
pub struct AdminSettings {
    /// Where the control socket is; `None`: the place of contract §2.
    pub socket: Option<PathBuf>,
}

/// Largest configuration file taken.
const FILE_MAX: usize = 1 << 20;
/// Most syntax errors told: past them it is no configuration.
const SYNTAX_MAX: usize = 100;

/// Reads the configuration in `file`, with what `env` overrides of it.
///
/// # Errors
/// Every mistake in it at once.
pub fn load(
    file: &Path,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, Mistakes> {
    let text = file_text(file)?;
    read(&text, file, &env.into_iter().collect()).0
}

/// The environment as [`load`] takes it. Bytes that are no UTF-8 become U+FFFD, which no secret may hold.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, text)| {
        let name = name.to_string_lossy().into_owned();
        (name, text.to_string_lossy().into_owned())
    })
}

impl Config {
    /// Reads a configuration that is in no file; its relative paths start from `base_dir`.
    ///
    /// # Errors
    /// Every mistake in it at once.
    pub fn from_text(
        text: &str,
        base_dir: &Path,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Mistakes> {
        let file = base_dir.join("config.toml");
        read(text, &file, &env.into_iter().collect()).0
    }
}

/// The text of a configuration file.
fn file_text(file: &Path) -> Result<String, Mistakes> {
    let shown = file.display().to_string();
    let wrong = |message: String, mend: &str| Mistakes::of_file(&shown, message, mend);
    let unreadable = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => wrong(
            "there is no such file".to_owned(),
            "name the configuration with --config FILE or SIDEGATE_CONFIG",
        ),
        ErrorKind::IsADirectory => is_directory(&shown),
        kind => wrong(
            format!("the file cannot be read: {kind}"),
            "let this user read it",
        ),
    };
    let opened = File::open(file).map_err(unreadable)?;
    if opened.metadata().is_ok_and(|meta| meta.is_dir()) {
        return Err(is_directory(&shown));
    }
    let mut bytes = Vec::new();
    opened
        .take(FILE_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() > FILE_MAX {
        let message = "the file is larger than 1 MiB".to_owned();
        return Err(wrong(message, "name a configuration file"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let bytes = error.into_bytes();
        let good = String::from_utf8_lossy(bytes.get(..at).unwrap_or_default());
        let (line, column) = Lines::of(&good).position(at);
        Mistakes::new(vec![Mistake {
            file: shown.clone(),
            line: Some(line),
            column: Some(column),
            variable: None,
            key: String::new(),
            message: "the text is not UTF-8 from here on".to_owned(),
            mend: "save the file as UTF-8".to_owned(),
        }])
    })
}

fn is_directory(shown: &str) -> Mistakes {
    Mistakes::of_file(
        shown,
        "this is a directory",
        "name the configuration file in it",
    )
}

/// Text and environment to a configuration; also every key that the readers know.
fn read(
    text: &str,
    file: &Path,
    env: &BTreeMap<String, String>,
) -> (Result<Config, Mistakes>, BTreeSet<String>) {
    let shown = file.display().to_string();
    let lines = Lines::of(text);
    let (parsed, errors) = DeTable::parse_recoverable(text);
    let mut entries = tree::entries(parsed.get_ref(), &Place::At);
    let mut mistakes = overrides::apply(&mut entries, env, &shown);
    let mut broken_lines = BTreeSet::new();
    for error in &errors {
        let at = error.span().map_or(text.len(), |span| span.start);
        let (line, column) = lines.position(at);
        // One line's errors follow from its first.
        if broken_lines.len() < SYNTAX_MAX && broken_lines.insert(line) {
            mistakes.push(syntax(error, text, &shown, line, column));
        }
    }
    let base = file.parent().unwrap_or(Path::new(""));
    let reading = Reading::new(base, env, !errors.is_empty());
    let config = sections(&reading, entries, file);
    let (found, known) = reading.finish();
    for Found { place, key, wrong } in found {
        let (line, column, variable) = match &place {
            Place::At(at) => {
                let (line, column) = lines.position(*at);
                (Some(line), Some(column), None)
            }
            Place::Variable(name) => (None, None, Some(name.to_string())),
        };
        // Behind a broken line what reads like a key may be the rest of a secret: it is not repeated.
        let rest =
            |l: usize| wrong.message.starts_with("unknown") && broken_lines.contains(&(l - 1));
        let told =
            wrong.message.is_empty() || line.is_some_and(|l| broken_lines.contains(&l) || rest(l));
        if !told {
            mistakes.push(Mistake {
                file: shown.clone(),
                line,
                column,
                variable,
                key,
                message: wrong.message,
                mend: wrong.mend,
            });
        }
    }
    let result = if mistakes.is_empty() && errors.is_empty() {
        Ok(config)
    } else {
        Err(Mistakes::new(mistakes))
    };
    (result, known)
}

/// What the TOML parser says of the text. It repeats nothing of it.
fn syntax(error: &toml::de::Error, text: &str, file: &str, line: usize, column: usize) -> Mistake {
    let (message, mend) = match error.message().split_once(", expected ") {
        Some((message, expected)) => (message, format!("expected is {expected}")),
        None if error.message() == "duplicate key" => {
            (error.message(), "keep one of the two".to_owned())
        }
        None => (
            error.message(),
            "write valid TOML (https://toml.io)".to_owned(),
        ),
    };
    let key = match (error.message(), error.span()) {
        ("duplicate key", Some(span)) => {
            let name = text.get(span.clone()).unwrap_or("");
            match table_before(text.get(..span.start).unwrap_or("")) {
                Some(table) if !name.starts_with('[') => format!("{table}.{name}"),
                _ => name.to_owned(),
            }
        }
        _ => String::new(),
    };
    Mistake {
        file: file.to_owned(),
        line: Some(line),
        column: Some(column),
        variable: None,
        key: key.lines().next().unwrap_or("").chars().take(80).collect(),
        message: message.to_owned(),
        mend,
    }
}

/// The table that a line stands in, by the last header before it; of `[[routes]]` with its number.
fn table_before(text: &str) -> Option<String> {
    let is_name = |name: &str| {
        let part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        !name.is_empty() && name.bytes().all(part)
    };
    let header = |line: &str| {
        let line = line.trim();
        let (list, name) = match line.strip_prefix("[[") {
            Some(rest) => (true, rest.strip_suffix("]]")?),
            None => (false, line.strip_prefix('[')?.strip_suffix(']')?),
        };
        is_name(name.trim()).then(|| (list, name.trim().to_owned()))
    };
    let headers: Vec<_> = text.lines().filter_map(header).collect();
    let (list, name) = headers.last()?;
    if !list {
        return Some(name.clone());
    }
    let number = headers.iter().filter(|other| other.1 == *name).count() - 1;
    Some(format!("{name}[{number}]"))
}

/// Each table by its reader; those that others refer to first.
fn sections(reading: &Reading<'_>, entries: Entries, file: &Path) -> Config {
    use sections::{
        admin, clients, endpoints, identity, log, rate_limits, routes, server, store, tokens,
        upstreams,
    };
    let mut root = reading.root(entries);
    root.later(&["otlp", "egress", "validators"]);
    let root = &root;
    let (server, mode) = server::read(root);
    let (upstreams, upstream_names) = upstreams::read(root);
    let (rate_limits, limit_names) = rate_limits::read(root);
    let endpoints = endpoints::read(root);
    let names = routes::Names {
        upstreams: &upstream_names,
        limits: &limit_names,
        own_paths: &endpoints::own_paths(&endpoints),
    };
    let routes = routes::read(root, mode, &names);
    let tokens = tokens::read(root);
    Config {
        file: file.to_owned(),
        server,
        admin: admin::read(root),
        log: log::read(root),
        upstreams,
        routes,
        identity: identity::read(root),
        store: store::read(root),
        clients: clients::read(root, &tokens.default_scope, &limit_names),
        tokens,
        rate_limits,
        endpoints,
    }
}

#[cfg(test)]
mod tests;
