//! Which route a request is for: host, then the longest path prefix on a segment boundary, then method.

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;

use super::path::{self, Traits};
use super::settings::{HostPattern, RouteSettings};
use crate::limits::{Limit, Limits};
use crate::refusal::Refusal;

/// One route with what follows from its settings.
#[derive(Debug)]
pub struct Route {
    /// Its settings.
    pub settings: RouteSettings,
    /// What logs and metrics call it: host, if it has one, and path.
    pub name: Arc<str>,
    /// Its place among the routes.
    pub index: usize,
    /// Its limits, the narrowest first.
    pub limits: Vec<Arc<Limit>>,
}

impl std::fmt::Debug for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a table says of one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Route(usize),
    /// The path is there for other methods only; the number tells paths apart.
    WrongMethod(usize),
    Nothing,
}

/// The routes that share one host and one path.
#[derive(Debug, Default)]
struct SamePath {
    number: usize,
    /// Route indices with the methods they name; one without methods comes last.
    routes: Vec<(Vec<String>, usize)>,
}

impl SamePath {
    fn find(&self, method: &Method) -> Found {
        let names = |methods: &[String]| {
            methods
                .iter()
                .any(|own| own == method.as_str() || (*method == Method::HEAD && own == "GET"))
        };
        let named = self.routes.iter().find(|(methods, _)| names(methods));
        let any = || self.routes.iter().find(|(methods, _)| methods.is_empty());
        named
            .or_else(any)
            .map_or(Found::WrongMethod(self.number), |(_, route)| {
                Found::Route(*route)
            })
    }

    fn allow(&self) -> String {
        let mut methods: Vec<&str> = Vec::new();
        for method in self.routes.iter().flat_map(|(methods, _)| methods) {
            methods.push(method);
            if method == "GET" {
                methods.push("HEAD");
            }
        }
        methods.sort_unstable();
        methods.dedup();
        methods.join(", ")
    }
}

/// The paths of one host.
#[derive(Debug, Default)]
struct Paths(HashMap<Vec<u8>, SamePath>);

impl Paths {
    /// The longest path that is `path` or a prefix of it on a segment boundary.
    fn longest(&self, path: &[u8]) -> Option<&SamePath> {
        let mut end = path.len();
        loop {
            let mut candidate = &path[..end];
            while let [shorter @ .., b'/'] = candidate {
                candidate = shorter;
            }
            let key: &[u8] = if candidate.is_empty() {
                b"/"
            } else {
                candidate
            };
            if let Some(found) = self.0.get(key) {
                return Some(found);
            }
            end = candidate.iter().rposition(|b| *b == b'/')?;
        }
    }
}

/// Paths by host.
#[derive(Debug, Default)]
struct Hosts {
    exact: HashMap<String, Paths>,
    /// Longest suffix first.
    below: Vec<(String, Paths)>,
    any: Paths,
}

impl Hosts {
    fn paths_mut(&mut self, host: &HostPattern) -> &mut Paths {
        match host {
            HostPattern::Any => &mut self.any,
            HostPattern::Exact(name) => self.exact.entry(name.clone()).or_default(),
            HostPattern::Below(suffix) => {
                let at = match self.below.iter().position(|(own, _)| own == suffix) {
                    Some(at) => at,
                    None => {
                        let longer = |(own, _): &(String, Paths)| own.len() >= suffix.len();
                        let at = self.below.partition_point(longer);
                        self.below.insert(at, (suffix.clone(), Paths::default()));
                        at
                    }
                };
                &mut self.below[at].1
            }
        }
    }

    /// The most exact host that has the path at all decides.
    fn find(&self, host: &str, path: &[u8]) -> Option<&SamePath> {
        let exact = || self.exact.get(host)?.longest(path);
        let below = || {
            self.below
                .iter()
                .filter(|(suffix, _)| {
                    host.strip_suffix(suffix.as_str())
                        .is_some_and(|rest| rest.ends_with('.'))
                })
                .find_map(|(_, paths)| paths.longest(path))
        };
        exact().or_else(below).or_else(|| self.any.longest(path))
    }
}

/// All routes of a configuration.
#[derive(Debug)]
pub struct Routes {
    all: Vec<Arc<Route>>,
    raw: Hosts,
    /// The same routes with their paths in lower case, for readers without regard to case.
    folded: Hosts,
    /// One route that every request leads to: no reading can lead elsewhere.
    only_one: bool,
}

impl Routes {
    /// Builds the tables. `settings` come checked: no two of one host, path and method.
    #[must_use]
    pub fn new(settings: Vec<RouteSettings>, limits: &Limits) -> Self {
        let route = |(index, settings): (usize, RouteSettings)| {
            let host = match &settings.host {
                HostPattern::Any => String::new(),
                HostPattern::Exact(name) => name.clone(),
                HostPattern::Below(suffix) => format!("*.{suffix}"),
            };
            let name = Arc::from(format!("{host}{}", settings.path));
            let limits = limits.named(&settings.rate_limits);
            Arc::new(Route {
                settings,
                name,
                index,
                limits,
            })
        };
        let all: Vec<_> = settings.into_iter().enumerate().map(route).collect();
        let only_one = matches!(&all[..], [one] if one.settings.path == "/"
            && one.settings.host == HostPattern::Any && one.settings.methods.is_empty());
        let raw = table(&all, |path| path.as_bytes().to_vec());
        let folded = table(&all, |path| path.to_ascii_lowercase().into_bytes());
        Self {
            all,
            raw,
            folded,
            only_one,
        }
    }

    /// Every route, in the order of the configuration.
    #[must_use]
    pub fn all(&self) -> &[Arc<Route>] {
        &self.all
    }

    /// The route that every reading of `raw_path` leads to.
    ///
    /// # Errors
    /// 400 `invalid_path`, 404 `no_route`, 405 with the methods that are there.
    pub fn find(
        &self,
        method: &Method,
        host: &str,
        raw_path: &str,
    ) -> Result<&Arc<Route>, Refusal> {
        let traits: Traits = path::inspect(raw_path)?;
        if self.only_one
            && let [route] = &self.all[..]
        {
            return Ok(route);
        }
        let look = |hosts: &Hosts, path: &[u8]| {
            hosts
                .find(host, path)
                .map_or(Found::Nothing, |same_path| same_path.find(method))
        };
        let found = look(&self.raw, raw_path.as_bytes());
        path::every_reading(raw_path, traits, |reading, folded| {
            look(if folded { &self.folded } else { &self.raw }, reading) == found
        })?;
        match found {
            Found::Route(index) => Ok(&self.all[index]),
            Found::Nothing => Err(Refusal::no_route()),
            Found::WrongMethod(_) => {
                let same_path = self.raw.find(host, raw_path.as_bytes());
                Err(Refusal::method_not_allowed(
                    same_path.map_or_else(String::new, SamePath::allow),
                ))
            }
        }
    }
}

fn table(all: &[Arc<Route>], spell: impl Fn(&str) -> Vec<u8>) -> Hosts {
    let mut hosts = Hosts::default();
    for route in all {
        let paths = hosts.paths_mut(&route.settings.host);
        let same_path = paths.0.entry(spell(&route.settings.path)).or_default();
        // The first route of a path numbers it, alike in both tables.
        if same_path.routes.is_empty() {
            same_path.number = route.index;
        }
        same_path
            .routes
            .push((route.settings.methods.clone(), route.index));
    }
    hosts
}

#[cfg(test)]
#[path = "tests/route.rs"]
mod tests;
