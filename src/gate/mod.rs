//! May this request pass, and as whom: the steps of contract §3, one file each. Opens no socket,
//! reads no clock, keeps nothing of its own. Must never know how a request is carried or answered:
//! it says [`Permit`] or [`Refusal`], and only what a permit wrote can be forwarded.
//! Read [`Gate::decide`] first.

pub mod answer;
pub mod credential;
pub mod explain;
pub mod headers;
pub mod identity;
pub mod path;
pub mod query;
pub mod route;
pub mod settings;
pub mod spelling;
pub mod sudo;
pub mod tenant;
#[cfg(test)]
#[path = "tests/support.rs"]
mod tests_support;

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Method};

use crate::base::clock::Now;
use crate::base::oauth::Scopes;
use crate::clients::Client;
use crate::clients::registry::Registry;
use crate::limits::limit::MISSING;
use crate::limits::{Exceeded, KeyValues, Limit, Limits, Spent};
use crate::observe::access::CredentialKind;
use crate::refusal::Refusal;
use crate::tokens::TokenClaim;
use crate::tokens::cache::TokenFacts;
use crate::tokens::recent::Recent;
use crate::tokens::verify::{Verdict, Verifier};

pub use answer::AnswerEdits;
pub use headers::{Outbound, Trailers, Way};
pub use identity::IdentityHeaders;
pub use route::{Route, Routes};

use credential::Credential;
use headers::Bearer;
use identity::Identity;
use query::Params;
use settings::{Access, IdentitySettings, Mode, OnStoreError, RouteSettings};
use spelling::Param;

/// What a decision looks at. The same request's head must be given to [`Permit::write`].
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The host in lower case, without port.
    pub host: &'a str,
    /// The raw path.
    pub path: &'a str,
    /// The raw query, without its `?`.
    pub query: Option<&'a str>,
    /// All header lines as they came.
    pub headers: &'a HeaderMap,
    /// Who calls: the peer, or whom a trusted proxy names.
    pub client_ip: IpAddr,
}

/// What the configuration says about requests; swapped whole.
pub struct Rules {
    /// Where requests go.
    pub routes: Routes,
    /// What identity headers are called.
    pub identity: IdentityHeaders,
    /// What may be spent.
    pub limits: Arc<Limits>,
}

impl Rules {
    /// Rules of a checked configuration.
    #[must_use]
    pub fn new(
        routes: Vec<RouteSettings>,
        identity: &IdentitySettings,
        limits: Arc<Limits>,
    ) -> Self {
        Self {
            routes: Routes::new(routes, &limits),
            identity: IdentityHeaders::new(identity),
            limits,
        }
    }
}

/// Is told what a decision finds, step by step, in order; for log lines, metrics and explanations.
/// Sees no token.
pub trait Witness {
    /// The route was found.
    fn route(&mut self, _route: &Arc<Route>) {}
    /// The credential was read: well-formed, or not there. Not told on public routes.
    fn credential(&mut self, _kind: CredentialKind) {}
    /// The token is good.
    fn token(&mut self, _token: &Arc<TokenFacts>) {}
    /// The scopes that count.
    fn scopes(&mut self, _scopes: &Scopes) {}
    /// A well-formed sudo as `kind:value`, before it is judged: whether it was allowed, the outcome tells.
    fn sudo(&mut self, _sudo: &str) {}
    /// A well-formed tenant as `id:value` or `code:value`, before it is judged.
    fn tenant(&mut self, _tenant: &str) {}
    /// The limits that the request passed and what it took from them at this instant.
    fn limits(&mut self, _spent: &[Spent], _now: Now) {}
    /// The limit that was exceeded; the refusal follows.
    fn exceeded(&mut self, _exceeded: &Exceeded) {}
    /// What would have been said if the route did not only observe; the request passes.
    fn observed(&mut self, _refusal: &Refusal) {}
}

/// What is answered to CONNECT and TRACE, which are never forwarded.
const FORWARDABLE: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Nobody watches.
impl Witness for () {}

/// Decides. Cheap to make: one for each worker.
pub struct Gate {
    rules: Arc<Rules>,
    verifier: Arc<Verifier>,
    /// What this worker saw last.
    recent: Recent,
    clients: Arc<Registry>,
}

/// As whom a request passes.
#[derive(Debug)]
enum Passing {
    /// Nobody that is known.
    Anonymously,
    As(Identity),
}

/// Proof that a request may pass. Only [`Gate::decide`] makes one:
///
/// ```compile_fail,E0451
/// fn forge(route: std::sync::Arc<sidegate::gate::Route>) -> sidegate::gate::Permit {
///     sidegate::gate::Permit { route, ..todo!() }
/// }
/// ```
pub struct Permit {
    route: Arc<Route>,
    rules: Arc<Rules>,
    passing: Passing,
    bearer: Bearer,
    /// Parameters of ours stand in the query.
    cut: bool,
    edits: AnswerEdits,
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit")
            .field("route", &self.route.name)
            .finish_non_exhaustive()
    }
}

impl Permit {
    /// The route the request takes.
    #[must_use]
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }
}

impl Gate {
    /// A gate over these rules.
    #[must_use]
    pub fn new(rules: Arc<Rules>, verifier: Arc<Verifier>, clients: Arc<Registry>) -> Self {
        Self {
            rules,
            verifier,
            recent: Recent::default(),
            clients,
        }
    }

    /// The rules it goes by.
    #[must_use]
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// Whether this request may pass, and as whom. Waits only for a token that the cache does not
    /// know; may be dropped at any time.
    ///
    /// # Errors
    /// The refusal of the first step that fails, in the order of contract §3.
    pub async fn decide<W: Witness>(
        &self,
        head: &Head<'_>,
        now: Now,
        witness: &mut W,
    ) -> Result<Permit, Refusal> {
        if matches!(*head.method, Method::CONNECT | Method::TRACE) {
            return Err(Refusal::method_not_allowed(FORWARDABLE.to_owned()));
        }
        let route = self.rules.routes.find(head.method, head.host, head.path)?;
        witness.route(route);
        let params = query::read(head.query);
        let judged = self.judge(head, route, &params, now, witness).await;
        match judged {
            Err(refusal) if route.settings.mode == Mode::Observe => {
                // As on a public route, where hidden parameters are refused like everywhere: they
                // cannot be cut, and what a backend might take for ours never goes on.
                params.refuse_everywhere()?;
                witness.observed(&refusal);
                Ok(self.permit(route, &params, Bearer::CutOurs))
            }
            judged => judged,
        }
    }

    /// The steps behind the route.
    async fn judge<W: Witness>(
        &self,
        head: &Head<'_>,
        route: &Arc<Route>,
        params: &Params<'_>,
        now: Now,
        witness: &mut W,
    ) -> Result<Permit, Refusal> {
        if route.settings.access == Access::Public {
            return self.pass_anonymously(head, route, params, now, witness);
        }
        let presented = credential::find(head.headers, params)?;
        let kind = presented.as_ref().map(|credential| credential.kind);
        witness.credential(kind.unwrap_or(CredentialKind::None));
        let Some(presented) = presented else {
            return match route.settings.access {
                Access::Required => Err(Refusal::missing_token()),
                _ => self.pass_anonymously(head, route, params, now, witness),
            };
        };
        let (facts, client) = match self.validate(&presented, route, now).await? {
            Some(valid) => valid,
            None => return Err(self.failed_credential(head.client_ip, now, witness)),
        };
        witness.token(&facts);

        // What counts is what the token was given and its client still has; mostly that is all.
        let narrowed = (!client.scopes.holds_all(facts.scopes()))
            .then(|| facts.scopes().within(&client.scopes));
        let scopes = narrowed.as_ref().unwrap_or(facts.scopes());
        witness.scopes(scopes);
        if !scopes.holds_all(&route.settings.scopes) {
            let needed = route.settings.scopes.to_string();
            return Err(Refusal::insufficient_scope(needed));
        }

        params.refuse_everywhere()?;
        let tenants = tenant::read(params)?;
        let sudo = sudo::read(params)?;
        if let Some(sudo) = &sudo {
            witness.sudo(sudo.as_str());
            sudo.allow(scopes, &client)?;
        }
        let tenant = tenants.one()?;
        let tenant_text = tenant.as_ref().map(tenant::Tenant::text);
        if let (Some(tenant), Some(text)) = (&tenant, &tenant_text) {
            witness.tenant(text);
            tenant.allow(&client)?;
        }

        let user = sudo.as_ref().map(sudo::Sudo::limit_key);
        let values = KeyValues {
            client: client.id.as_str(),
            token: Some(facts.id().0),
            ip: head.client_ip,
            user: user.as_deref().unwrap_or(MISSING),
            tenant: tenant_text.as_deref().unwrap_or(MISSING),
            route: &route.name,
        };
        // Made before anything is spent: from here on only a limit can refuse.
        let identity = Identity::new(facts, narrowed.as_ref(), sudo.as_ref(), tenant.as_ref())?;
        if client.rate_limits.is_empty() {
            self.spend(&route.limits, &values, now, witness)?;
        } else {
            let names = route.settings.rate_limits.iter().chain(&client.rate_limits);
            let limits = self.rules.limits.named(names);
            self.spend(&limits, &values, now, witness)?;
        }
        let mut permit = self.permit(route, params, Bearer::Cut);
        permit.edits.deprecated = sudo.is_some_and(|sudo| sudo.is_deprecated());
        permit.passing = Passing::As(identity);
        Ok(permit)
    }

    /// On public routes, and on optional ones without a token: parameters of ours are not looked at.
    fn pass_anonymously<W: Witness>(
        &self,
        head: &Head<'_>,
        route: &Arc<Route>,
        params: &Params<'_>,
        now: Now,
        witness: &mut W,
    ) -> Result<Permit, Refusal> {
        params.refuse_everywhere()?;
        let values = KeyValues {
            route: &route.name,
            ..KeyValues::of_ip(head.client_ip)
        };
        self.spend(&route.limits, &values, now, witness)?;
        Ok(self.permit(route, params, Bearer::Cut))
    }

    /// The token's facts and its client; `None` when the token is not good.
    async fn validate(
        &self,
        presented: &Credential<'_>,
        route: &Route,
        now: Now,
    ) -> Result<Option<(Arc<TokenFacts>, Arc<Client>)>, Refusal> {
        let Some(token) = &presented.token else {
            return Ok(None);
        };
        if route.settings.on_store_error == OnStoreError::Refuse && self.verifier.store_is_away() {
            // What cannot be a token is refused without the store.
            return match token.check() {
                Some(_) => Err(Refusal::store_unavailable()),
                None => Ok(None),
            };
        }
        let Some(facts) = self.facts(token, now).await? else {
            return Ok(None);
        };
        match self.clients.get(facts.client_id()) {
            Some(client) => Ok(Some((facts, client))),
            // Not yet read is not removed: that must never read as a bad token.
            None if self.clients.may_lack_some() => Err(Refusal::store_unavailable()),
            None => Ok(None),
        }
    }

    async fn facts(
        &self,
        token: &TokenClaim<'_>,
        now: Now,
    ) -> Result<Option<Arc<TokenFacts>>, Refusal> {
        match self.verifier.cached_through(&self.recent, token, now) {
            Verdict::Good(facts) => Ok(Some(facts)),
            Verdict::Bad => Ok(None),
            Verdict::Unsure => {
                let found = self.verifier.look_up(*token.hash()).await;
                found.map_err(|_| Refusal::store_unavailable())
            }
        }
    }

    /// A bad token is counted against its sender's address, and only that can answer it with 429.
    fn failed_credential<W: Witness>(&self, ip: IpAddr, now: Now, witness: &mut W) -> Refusal {
        match self.rules.limits.failed_credential(ip, now) {
            Ok(shadowed) => {
                if let Some(over) = shadowed {
                    witness.limits(&[over], now);
                }
                Refusal::invalid_token()
            }
            Err(exceeded) => over(&exceeded, witness),
        }
    }

    fn spend<W: Witness>(
        &self,
        limits: &[Arc<Limit>],
        values: &KeyValues<'_>,
        now: Now,
        witness: &mut W,
    ) -> Result<(), Refusal> {
        if limits.is_empty() {
            return Ok(());
        }
        match self.rules.limits.take(limits, values, now) {
            Ok(spent) => {
                witness.limits(&spent, now);
                Ok(())
            }
            Err(exceeded) => Err(over(&exceeded, witness)),
        }
    }

    /// A permit for nobody in particular.
    fn permit(&self, route: &Arc<Route>, params: &Params<'_>, bearer: Bearer) -> Permit {
        Permit {
            route: Arc::clone(route),
            rules: Arc::clone(&self.rules),
            passing: Passing::Anonymously,
            bearer: match route.settings.forward_credentials {
                true => Bearer::Keep,
                false => bearer,
            },
            cut: params.has_any(),
            edits: AnswerEdits {
                deprecated: false,
                private: params.has(Param::AccessToken),
            },
        }
    }
}

fn over<W: Witness>(exceeded: &Exceeded, witness: &mut W) -> Refusal {
    witness.exceeded(exceeded);
    Refusal::rate_limited(exceeded.limit().name(), exceeded.retry_after)
}

#[cfg(test)]
#[path = "tests/decide.rs"]
mod tests;
