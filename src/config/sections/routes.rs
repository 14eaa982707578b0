//! `[[routes]]`.

use std::collections::HashMap;
use std::net::Ipv6Addr;

use super::rate_limits;
use super::server::MODES;
use super::upstreams::is_host;
use crate::base::oauth::Scopes;
use crate::config::mistake::{closest, quoted, shown_key};
use crate::config::reader::{Field, Table, Wrong};
use crate::config::values::{boolean, choice, name, or_empty, url_path};
use crate::gate::settings::{Access, HostPattern, Mode, OnStoreError, RouteSettings};

/// The upstream of routes that name none.
const DEFAULT_UPSTREAM: &str = "default";

/// What routes may refer to.
pub(in crate::config) struct Names<'n> {
    pub(in crate::config) upstreams: &'n [String],
    pub(in crate::config) limits: &'n [String],
    /// Paths that Sidegate answers itself.
    pub(in crate::config) own_paths: &'n [String],
}

pub(in crate::config) fn read(
    root: &Table<'_>,
    mode: Mode,
    names: &Names<'_>,
) -> Vec<RouteSettings> {
    let mut tables = root.listed("routes");
    if tables.is_empty() {
        // What the table would ask for is known even where there is none.
        if !root.has("routes") && !names.upstreams.iter().any(|own| own == DEFAULT_UPSTREAM) {
            root.missing("upstreams.default", DEFAULT_MEND);
        }
        return vec![whole(mode)];
    }
    let mut taken = HashMap::new();
    tables
        .iter_mut()
        .map(|table| {
            table.later(&["strip_prefix", "upgrades"]);
            let route = one(table, mode, names);
            twice(table, &route, &mut taken);
            route
        })
        .collect()
}

/// The route of a configuration that has none: everything, with a token.
fn whole(mode: Mode) -> RouteSettings {
    RouteSettings {
        path: "/".to_owned(),
        host: HostPattern::Any,
        methods: Vec::new(),
        upstream: DEFAULT_UPSTREAM.to_owned(),
        access: Access::default(),
        scopes: Scopes::default(),
        rate_limits: Vec::new(),
        forward_credentials: false,
        on_store_error: OnStoreError::default(),
        mode,
    }
}

fn one(table: &Table<'_>, mode: Mode, names: &Names<'_>) -> RouteSettings {
    let default = whole(mode);
    let accesses = [
        ("required", Access::Required),
        ("optional", Access::Optional),
        ("public", Access::Public),
    ];
    let on_store_errors = [
        ("serve_cached", OnStoreError::ServeCached),
        ("refuse", OnStoreError::Refuse),
    ];
    let route = RouteSettings {
        path: table.value("path", default.path, |field| path(field, names.own_paths)),
        host: table
            .optional("host", or_empty(host))
            .flatten()
            .unwrap_or(default.host),
        methods: table.value("methods", default.methods, methods),
        upstream: table.value("upstream", default.upstream, name),
        access: table.value("access", default.access, choice(&accesses)),
        scopes: table.value("scopes", default.scopes, scopes),
        rate_limits: table.value(
            "rate_limits",
            default.rate_limits,
            rate_limits::names(names.limits),
        ),
        forward_credentials: table.value("forward_credentials", false, boolean),
        on_store_error: table.value(
            "on_store_error",
            default.on_store_error,
            choice(&on_store_errors),
        ),
        mode: table
            .optional("mode", or_empty(choice(&MODES)))
            .flatten()
            .unwrap_or(mode),
    };
    known_upstream(table, &route.upstream, names.upstreams);
    route
}

const DEFAULT_MEND: &str = "add [upstreams.default] with url = \"http://127.0.0.1:3000\"";

fn known_upstream(table: &Table<'_>, upstream: &str, known: &[String]) {
    if table.reading().partial || known.iter().any(|own| own == upstream) {
        return;
    }
    let message = format!("there is no upstream {}", quoted(upstream));
    let near = closest(upstream, known.iter().map(String::as_str));
    match (table.field("upstream"), near) {
        (Some(field), Some((near, _))) if field.text("").is_ok() => {
            let mend = format!("the closest that is there is {}", quoted(near));
            field.wrong(Wrong::new(message, mend));
        }
        (Some(field), None) if field.text("").is_ok() => {
            let mend = format!("add [upstreams.{}] with its url", shown_key(upstream));
            field.wrong(Wrong::new(message, mend));
        }
        (Some(_), _) => {} // no string: told already
        (None, _) => {
            let mend = format!("name its upstream, or {DEFAULT_MEND}");
            table.wrong(Wrong::new(message, mend));
        }
    }
}

fn path(field: &Field<'_>, own_paths: &[String]) -> Result<String, Wrong> {
    let path = url_path(field)?;
    if own_paths.contains(&path) {
        return Err(Wrong::new(
            format!("{} is answered by Sidegate itself", quoted(&path)),
            "remove the route, or move the endpoint by [endpoints] oauth2_server",
        ));
    }
    Ok(path)
}

fn host(field: &Field<'_>) -> Result<HostPattern, Wrong> {
    let mend = "write a host without port, such as \"app.example.com\", or \"*.example.com\" for all below it";
    let text = field.text(mend)?;
    let lower = text.to_ascii_lowercase();
    let v6 = |host: &str| {
        let inner = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        inner.is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok())
    };
    match lower.strip_prefix("*.") {
        Some(suffix) if is_host(suffix) => Ok(HostPattern::Below(suffix.to_owned())),
        None if is_host(&lower) || v6(&lower) => Ok(HostPattern::Exact(lower)),
        _ if lower == "*" => Err(Wrong::new(
            "\"*\" is no host",
            "leave host out for a route of every host",
        )),
        _ => Err(Wrong::new(format!("{} is no host", quoted(text)), mend)),
    }
}

fn methods(field: &Field<'_>) -> Result<Vec<String>, Wrong> {
    let mend = "write a list of methods in capitals, such as [\"GET\", \"POST\"]";
    let mut methods = field.each(mend, |item| {
        let text = item.text(mend)?;
        let shown = quoted(text);
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if text.is_empty() || text.len() > 32 || !text.bytes().all(token) {
            return Err(Wrong::new(format!("{shown} is no method"), mend));
        }
        let upper = text.to_ascii_uppercase();
        if text != upper {
            let mend = format!("write {}: methods have letter case", quoted(&upper));
            return Err(Wrong::new(format!("{shown} is not in capitals"), mend));
        }
        if matches!(text, "CONNECT" | "TRACE") {
            let message = format!("{text} is never forwarded");
            return Err(Wrong::new(message, "remove it"));
        }
        Ok(upper)
    })?;
    let mut seen = std::collections::HashSet::new();
    methods.retain(|method| seen.insert(method.clone()));
    Ok(methods)
}

/// Scopes as a list of strings.
pub(super) fn scopes(field: &Field<'_>) -> Result<Scopes, Wrong> {
    let mend = "write a list of scopes, such as [\"read\", \"write\"]";
    let tokens = field.each(mend, |item| {
        let text = item.text(mend)?;
        let one = Scopes::from_tokens([text]).map_err(|error| Wrong::new(error, mend))?;
        Ok(one.to_string())
    })?;
    Scopes::from_tokens(tokens.iter().map(String::as_str)).map_err(|error| Wrong::new(error, mend))
}

/// What one path of one host has taken so far: the methods, with the route and its path as written.
type Taken = HashMap<(HostPattern, String), Vec<(String, String, String)>>;

/// Stands for a route of all methods; no method is spelled so.
const ALL: &str = "";

/// Two routes that one request could mean alike. Paths that differ in letter case alone are one: a
/// request for either would have two readings and be refused.
fn twice(table: &Table<'_>, route: &RouteSettings, taken: &mut Taken) {
    let no_method = |field: &Field<'_>| field.each("", |_| Ok(())).is_ok_and(|all| all.is_empty());
    if let Some(field) = table.field("methods")
        && route.methods.is_empty()
        && !no_method(&field)
    {
        return; // none could be read: told already
    }
    let key = (route.host.clone(), route.path.to_ascii_lowercase());
    let others = taken.entry(key).or_default();
    let mut methods: Vec<&str> = route.methods.iter().map(String::as_str).collect();
    if methods.contains(&"GET") && !methods.contains(&"HEAD") {
        methods.push("HEAD");
    }
    if methods.is_empty() {
        methods.push(ALL);
    }
    let clash = others
        .iter()
        .find(|(method, ..)| methods.contains(&method.as_str()));
    if let Some((method, other, path)) = clash {
        let method = if method == ALL {
            "every method"
        } else {
            method
        };
        let wrong = if *path == route.path {
            let message = format!("{other} has the same host and path for {method} already");
            Wrong::new(
                message,
                "remove one of them, or name other methods; GET includes HEAD",
            )
        } else {
            let message = format!(
                "it differs from {other} in letter case alone, so requests for either are refused"
            );
            Wrong::new(message, "give them different paths")
        };
        table.wrong(wrong);
    }
    for method in methods {
        others.push((
            method.to_owned(),
            table.path().to_owned(),
            route.path.clone(),
        ));
    }
}
