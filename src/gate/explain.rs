//! The same decision with each step told, for `sidegate explain`. Shows names, public ids and what
//! would be sent; never a token and never the value of a header that may hold a secret.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, request};

use super::query::without_ours;
use super::settings::{Access, Mode};
use super::spelling::Param;
use super::{Gate, Head, Outbound, Route, Way, Witness};
use crate::base::clock::Now;
use crate::base::oauth::Scopes;
use crate::limits::{Exceeded, Mode as LimitMode, Spent};
use crate::observe::access::CredentialKind;
use crate::refusal::Refusal;
use crate::tokens::cache::TokenFacts;
use crate::tokens::format::ACCESS_TOKEN_PREFIX;

/// Shorter texts are no tokens, and hiding them would hide half of the story.
const SHORTEST_SECRET: usize = 8;

/// What happened to one request, step by step.
#[derive(Debug, Default)]
pub struct Story {
    steps: Vec<(&'static str, String)>,
    /// Texts that must not be told.
    secrets: Vec<String>,
    passes: bool,
}

/// Decides on `parts` as the sidecar would and tells how; nothing is sent.
pub async fn explain(
    gate: &Gate,
    parts: request::Parts,
    host: &str,
    client_ip: IpAddr,
    way: &Way<'_>,
    now: Now,
) -> Story {
    let mut story = Story {
        secrets: presented_secrets(&parts),
        ..Story::default()
    };
    let head = Head {
        method: &parts.method,
        host,
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
        client_ip,
    };
    match gate.decide(&head, now, &mut story).await {
        Err(refusal) => {
            let verdict = format!("refused with {}", in_words(&refusal));
            story.tell("verdict", &verdict);
        }
        Ok(permit) => {
            story.passes = true;
            let upstream = permit.route().settings.upstream.clone();
            story.tell("verdict", &format!("forwarded to upstream \"{upstream}\""));
            let before = parts.headers.clone();
            let outbound = permit.write(parts, way);
            story.tell_outbound(&before, &outbound);
        }
    }
    story
}

/// Everything in the request that may be a credential.
fn presented_secrets(parts: &request::Parts) -> Vec<String> {
    let lines = parts.headers.get_all(AUTHORIZATION).iter();
    let from_lines = lines.flat_map(|line| {
        let text = String::from_utf8_lossy(line.as_bytes()).into_owned();
        let words = text.split([' ', '\t', ',']).map(str::to_owned);
        words.collect::<Vec<_>>()
    });
    let pairs = parts.uri.query().unwrap_or_default().split('&');
    let from_query = pairs.filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (Param::plain(name) == Some(Param::AccessToken)).then_some(value)
    });
    let decoded = from_query.flat_map(|raw| {
        let decoded = percent_encoding::percent_decode_str(raw).decode_utf8_lossy();
        [raw.to_owned(), decoded.into_owned()]
    });
    let mut secrets: Vec<String> = from_lines
        .chain(decoded)
        .filter(|secret| secret.len() >= SHORTEST_SECRET)
        .collect();
    // Of two that overlap the longer is hidden first.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

fn in_words(refusal: &Refusal) -> String {
    let word = refusal.word();
    format!(
        "{} {}: {}",
        word.status().as_u16(),
        word.as_str(),
        refusal.detail()
    )
}

impl Story {
    /// Whether the request would be forwarded.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.passes
    }

    /// Every step with what was found.
    pub fn steps(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.steps
            .iter()
            .map(|(step, found)| (*step, found.as_str()))
    }

    fn tell(&mut self, step: &'static str, found: &str) {
        let found = self.without_secrets(found);
        self.steps.push((step, found));
    }

    fn without_secrets(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            text = text.replace(secret.as_str(), "…");
        }
        // Also one that stands where none belongs.
        let mut told = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(at) = rest.find(ACCESS_TOKEN_PREFIX) {
            told.push_str(&rest[..at]);
            told.push_str(ACCESS_TOKEN_PREFIX);
            told.push('…');
            let behind = &rest[at + ACCESS_TOKEN_PREFIX.len()..];
            let token_byte = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '%');
            rest = behind.trim_start_matches(token_byte);
        }
        told.push_str(rest);
        told
    }

    fn tell_outbound(&mut self, before: &HeaderMap, outbound: &Outbound) {
        let parts = outbound.parts();
        let path = parts.uri.path();
        let target = match parts.uri.query() {
            None => path.to_owned(),
            Some(query) if has_token(query) => {
                let rest = without_ours(query, false).unwrap_or_default();
                let joined = if rest.is_empty() { "" } else { "&" };
                format!("{path}?{rest}{joined}access_token=…")
            }
            Some(query) => format!("{path}?{query}"),
        };
        self.tell("sends", &format!("{} {target}", parts.method));
        let after = &parts.headers;
        let removed: Vec<&str> = before
            .keys()
            .filter(|name| !after.contains_key(*name))
            .map(HeaderName::as_str)
            .collect();
        if !removed.is_empty() {
            self.tell("removes", &removed.join(", "));
        }
        for name in after.keys() {
            let lines = || after.get_all(name).iter();
            if lines().eq(before.get_all(name)) {
                continue;
            }
            for line in lines() {
                let value = match *name {
                    AUTHORIZATION | COOKIE => "…".into(),
                    _ => String::from_utf8_lossy(line.as_bytes()),
                };
                self.tell("sets", &format!("{name}: {value}"));
            }
        }
    }
}

fn has_token(query: &str) -> bool {
    super::query::read(Some(query)).has(Param::AccessToken)
}

impl Witness for Story {
    fn route(&mut self, route: &Arc<Route>) {
        let access = match route.settings.access {
            Access::Required => "a token is required",
            Access::Optional => "a token is optional",
            Access::Public => {
                "public: credentials and parameters of ours are cut and not looked at"
            }
        };
        let mode = match route.settings.mode {
            Mode::Enforce => "",
            Mode::Observe => "; it only observes",
        };
        self.tell("route", &format!("{}: {access}{mode}", route.name));
    }

    fn credential(&mut self, kind: CredentialKind) {
        let found = match kind {
            CredentialKind::Bearer => "Authorization: Bearer",
            CredentialKind::Query => "access_token in the query",
            CredentialKind::None => "none",
        };
        self.tell("credential", found);
    }

    fn token(&mut self, token: &Arc<TokenFacts>) {
        let (id, client) = (token.id(), token.client_id());
        self.tell("token", &format!("number {id} of client {client} is good"));
    }

    fn scopes(&mut self, scopes: &Scopes) {
        let found = if scopes.is_empty() {
            "none that counts".to_owned()
        } else {
            scopes.to_string()
        };
        self.tell("scopes", &found);
    }

    fn sudo(&mut self, sudo: &str) {
        self.tell("sudo", sudo);
    }

    fn tenant(&mut self, tenant: &str) {
        self.tell("tenant", tenant);
    }

    fn limits(&mut self, spent: &[Spent], _: Now) {
        for one in spent {
            let name = one.limit().name();
            let shadow = match (one.limit().mode(), one.over) {
                (LimitMode::Shadow, true) => ", would be exceeded (shadow)",
                (LimitMode::Shadow, false) => " (shadow)",
                (LimitMode::Enforce, _) => "",
            };
            self.tell("limit", &format!("{name}: {} left{shadow}", one.remaining));
        }
    }

    fn exceeded(&mut self, exceeded: &Exceeded) {
        let name = exceeded.limit().name();
        self.tell("limit", &format!("{name}: exceeded"));
    }

    fn observed(&mut self, refusal: &Refusal) {
        let found = format!("would be refused with {}", in_words(refusal));
        self.tell("observed", &found);
    }
}

impl fmt::Display for Story {
    /// One line a step.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (step, found) in &self.steps {
            // What came from outside stays on its line.
            let found: String = found
                .chars()
                .map(|c| if c.is_control() { '\u{FFFD}' } else { c })
                .collect();
            writeln!(f, "{step:<11}{found}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "tests/explain.rs"]
mod tests;
