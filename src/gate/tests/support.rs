//! A gate over a token store in memory, and requests that are easy to write down.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderValue, Request, request};
use tokio::runtime::Handle;

use super::settings::{Access, HostPattern, IdentitySettings, Mode, OnStoreError, RouteSettings};
use super::{Gate, Head, Permit, Rules, Way, Witness};
use crate::base::clock::{Clock, UnixMillis};
use crate::base::oauth::{ClientId, Scopes};
use crate::clients::registry::Registry;
use crate::clients::tests_support::{MemoryClients, file_client};
use crate::clients::{Client, SudoGrant, TenantGrant};
use crate::limits::{self, Limits};
use crate::refusal::Refusal;
use crate::tokens::format::new_access_token;
use crate::tokens::verify::{Verdict, Verifier, Watcher};
use crate::tokens::{
    NewToken, Revocation, Settings, StoreUnavailable, TokenHash, TokenId, TokenRecord, TokenStore,
};

pub(crate) const CALLER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

#[derive(Default)]
pub(crate) struct MemoryTokens {
    records: Mutex<HashMap<TokenHash, TokenRecord>>,
    pub(crate) down: AtomicBool,
    pub(crate) reads: AtomicUsize,
}

#[async_trait]
impl TokenStore for MemoryTokens {
    async fn find(&self, hash: &TokenHash) -> Result<Option<TokenRecord>, StoreUnavailable> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return Err(StoreUnavailable("down".into()));
        }
        Ok(self.records.lock().unwrap().get(hash).cloned())
    }
    async fn insert(&self, _: NewToken) -> Result<TokenId, StoreUnavailable> {
        unreachable!()
    }
    async fn find_by_id(&self, _: TokenId) -> Result<Option<TokenRecord>, StoreUnavailable> {
        unreachable!()
    }
    async fn list(
        &self,
        _: Option<&ClientId>,
        _: bool,
        _: UnixMillis,
        _: Option<TokenId>,
        _: u32,
    ) -> Result<Vec<TokenRecord>, StoreUnavailable> {
        unreachable!()
    }
    async fn revoke(
        &self,
        _: Revocation,
        _: UnixMillis,
    ) -> Result<Vec<TokenHash>, StoreUnavailable> {
        unreachable!()
    }
    async fn prune(&self, _: UnixMillis, _: u32) -> Result<u64, StoreUnavailable> {
        unreachable!()
    }
}

struct Unwatched;
impl Watcher for Unwatched {
    fn looked_up(&self, _: &Verdict) {}
    fn store_read(&self, _: bool) {}
    fn store_is_up(&self, _: bool) {}
}

pub(crate) fn route(path: &str, access: Access) -> RouteSettings {
    RouteSettings {
        path: path.to_owned(),
        host: HostPattern::Any,
        methods: Vec::new(),
        upstream: "default".to_owned(),
        access,
        scopes: Scopes::default(),
        rate_limits: Vec::new(),
        forward_credentials: false,
        on_store_error: OnStoreError::ServeCached,
        mode: Mode::Enforce,
    }
}

/// What a gate is made of; tests change what they are about.
pub(crate) struct Setting {
    pub(crate) routes: Vec<RouteSettings>,
    pub(crate) identity: IdentitySettings,
    pub(crate) limits: Vec<limits::Settings>,
    pub(crate) clients: Vec<Client>,
    pub(crate) clients_loaded: bool,
}

impl Setting {
    /// `/` required, `/pub` public, `/opt` optional, `/obs` observing, and a client `demo` with the
    /// scopes `sudo read`.
    pub(crate) fn usual() -> Self {
        let mut observed = route("/obs", Access::Required);
        observed.mode = Mode::Observe;
        Self {
            routes: vec![
                route("/", Access::Required),
                route("/pub", Access::Public),
                route("/opt", Access::Optional),
                observed,
            ],
            identity: IdentitySettings::default(),
            limits: Vec::new(),
            clients: vec![file_client("demo", "s", "sudo read")],
            clients_loaded: true,
        }
    }

    pub(crate) fn client(mut self, change: impl FnOnce(&mut Client)) -> Self {
        change(&mut self.clients[0]);
        self
    }

    pub(crate) fn sudo(self, patterns: &[&str]) -> Self {
        let grant = SudoGrant::parse(patterns.iter().copied()).unwrap();
        self.client(|client| client.sudo = grant)
    }

    pub(crate) fn tenants(self, patterns: &[&str]) -> Self {
        let grant = TenantGrant::parse(patterns.iter().copied()).unwrap();
        self.client(|client| client.tenants = grant)
    }

    /// Changes the route `/`.
    pub(crate) fn root(mut self, change: impl FnOnce(&mut RouteSettings)) -> Self {
        change(&mut self.routes[0]);
        self
    }

    pub(crate) async fn build(self) -> World {
        let clock = Clock::manual(UnixMillis(1_700_000_000_000));
        let tokens = Arc::new(MemoryTokens::default());
        let verifier = Verifier::new(
            &Settings::default(),
            Arc::clone(&tokens) as Arc<dyn TokenStore>,
            Handle::current(),
            clock.clone(),
            Arc::new(Unwatched),
        );
        let clients = Arc::new(Registry::new(self.clients, Arc::new(MemoryClients::new())));
        if self.clients_loaded {
            clients.load().await.unwrap();
        }
        let limits = Arc::new(Limits::new(&self.limits, None));
        let rules = Arc::new(Rules::new(self.routes, &self.identity, limits));
        World {
            gate: Gate::new(rules, Arc::clone(&verifier), Arc::clone(&clients)),
            clients,
            verifier,
            tokens,
            clock,
        }
    }
}

pub(crate) struct World {
    pub(crate) gate: Gate,
    pub(crate) clients: Arc<Registry>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) tokens: Arc<MemoryTokens>,
    pub(crate) clock: Clock,
}

impl World {
    /// A token of `client` with these scopes.
    pub(crate) fn token(&self, client: &str, scopes: &str) -> String {
        let (token, hash) = new_access_token().unwrap();
        self.tokens.records.lock().unwrap().insert(
            hash,
            TokenRecord {
                id: TokenId(42),
                client_id: ClientId::parse(client).unwrap(),
                scopes: Scopes::parse(scopes).unwrap(),
                issued: UnixMillis(0),
                expires: self.clock.now().wall().plus(Duration::from_secs(3600)),
                revoked: None,
            },
        );
        token.expose().to_owned()
    }

    /// Decides on `GET target` with these header lines.
    pub(crate) async fn decide(
        &self,
        target: &str,
        lines: &[(&str, &str)],
    ) -> Result<(Permit, request::Parts), Refusal> {
        self.decide_watched(target, lines, &mut ()).await
    }

    pub(crate) async fn decide_watched<W: Witness>(
        &self,
        target: &str,
        lines: &[(&str, &str)],
        witness: &mut W,
    ) -> Result<(Permit, request::Parts), Refusal> {
        let parts = request(target, lines);
        let head = head(&parts);
        let permit = self.gate.decide(&head, self.clock.now(), witness).await?;
        Ok((permit, parts))
    }

    /// What goes on of a request that passes.
    pub(crate) async fn forward(&self, target: &str, lines: &[(&str, &str)]) -> request::Parts {
        let (permit, parts) = self.decide(target, lines).await.unwrap();
        written(permit, parts)
    }

    /// The word of the refusal, or `"passes"`.
    pub(crate) async fn word(&self, target: &str, lines: &[(&str, &str)]) -> &'static str {
        match self.decide(target, lines).await {
            Ok(_) => "passes",
            Err(refusal) => refusal.word().as_str(),
        }
    }

    /// As [`word`](Self::word), with a good token as Bearer.
    pub(crate) async fn word_of_demo(&self, target: &str) -> &'static str {
        let token = format!("Bearer {}", self.token("demo", "sudo read"));
        self.word(target, &[("authorization", &token)]).await
    }

    /// As [`forward`](Self::forward), with a good token as Bearer.
    pub(crate) async fn forward_of_demo(&self, target: &str) -> request::Parts {
        let token = format!("Bearer {}", self.token("demo", "sudo read"));
        self.forward(target, &[("authorization", &token)]).await
    }
}

pub(crate) fn request(target: &str, lines: &[(&str, &str)]) -> request::Parts {
    let mut parts = Request::builder()
        .uri(target)
        .body(())
        .unwrap()
        .into_parts()
        .0;
    for (name, value) in lines {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        parts.headers.append(name, value);
    }
    if !parts.headers.contains_key("host") {
        parts
            .headers
            .insert("host", HeaderValue::from_static("app.example.com"));
    }
    parts
}

pub(crate) fn head(parts: &request::Parts) -> Head<'_> {
    Head {
        method: &parts.method,
        host: "app.example.com",
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
        client_ip: CALLER,
    }
}

pub(crate) fn written(permit: Permit, parts: request::Parts) -> request::Parts {
    written_by(permit, parts, false)
}

/// What is written of a request from a peer that is `trusted`.
pub(crate) fn written_by(permit: Permit, parts: request::Parts, trusted: bool) -> request::Parts {
    let way = Way {
        peer_ip: CALLER,
        trusted,
        scheme: "http",
        host_header: &HeaderValue::from_static("app.example.com"),
        request_id: &HeaderValue::from_static("id-1"),
    };
    permit.write(parts, &way).into_parts().1
}

/// All values of one header.
pub(crate) fn values(parts: &request::Parts, name: &str) -> Vec<String> {
    let lines = parts.headers.get_all(name).iter();
    lines
        .map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned())
        .collect()
}

/// The names of the identity headers that go on.
pub(crate) fn identity_names(parts: &request::Parts) -> Vec<String> {
    let names = parts.headers.keys().map(|name| name.as_str().to_owned());
    names.filter(|name| name.starts_with("x-auth")).collect()
}
