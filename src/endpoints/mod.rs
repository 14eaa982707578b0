//! Sidegate's own HTTP: the endpoints of contract §5 on the data listener, and the admin listener.
//! Knows nothing of sockets or routes. Read `oauth2_server.rs` first.
//!
//! The data listener's endpoints are found in a table of exact raw paths, which the front asks for each
//! request; a router would match more than that, and answer HEAD by running GET.

pub mod admin;
mod form;
mod oauth2_server;
pub mod settings;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, PRAGMA};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use serde::Serialize;
use tokio::runtime::Handle;

use crate::base::clock::{Clock, Now};
use crate::base::oauth::ClientId;
use crate::clients::registry::Registry;
use crate::limits::Limits;
use crate::observe::{AuditLine, Lines, Metrics, RequestId};
use crate::refusal::Refusal;
use crate::tokens::verify::Verifier;
use crate::tokens::{self, TokenStore};
use settings::Settings;

/// What the endpoints work with.
pub struct Deps {
    /// Who is registered.
    pub registry: Arc<Registry>,
    /// Where tokens are kept.
    pub tokens: Arc<dyn TokenStore>,
    /// Who tells good tokens from bad ones, and must forget those that are revoked here.
    pub verifier: Arc<Verifier>,
    /// For failed credentials; a reload swaps them.
    pub limits: Arc<ArcSwap<Limits>>,
    /// The time.
    pub clock: Clock,
    /// Where audit lines go.
    pub lines: Lines,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How long tokens live.
    pub token_settings: tokens::Settings,
    /// Where requests are worked on: a caller that hangs up ends nothing half-way.
    pub runtime: Handle,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The peer, or the one that a trusted proxy names.
    pub ip: IpAddr,
    /// The id of the request.
    pub request_id: RequestId,
}

/// What an answer tells the access line; found among its extensions.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The client that was authenticated, or that the token belongs to.
    pub client_id: Option<ClientId>,
    /// Public number of the token.
    pub token_id: Option<i64>,
    /// The word of the failure.
    pub error: Option<&'static str>,
    /// The limit that was exceeded.
    pub limit: Option<String>,
    /// The instant that the limiter used.
    pub limit_ns: Option<u64>,
}

#[derive(Clone, Copy)]
enum Own {
    Tokens,
    Check,
    Revoke,
}

impl Own {
    /// Path below `{oauth2_server}`, endpoint.
    const OAUTH2_SERVER: [(&'static str, Self); 3] = [
        ("/tokens", Self::Tokens),
        ("/tokens/check", Self::Check),
        ("/tokens/revoke", Self::Revoke),
    ];

    /// HEAD is no GET here where GET changes something.
    fn allow(self) -> &'static str {
        match self {
            Self::Tokens | Self::Revoke => "GET, POST",
            Self::Check => "GET, HEAD, POST",
        }
    }

    fn does(self) -> &'static str {
        match self {
            Self::Tokens => "it issues a token to a client with its secret",
            Self::Check => "it says whether a token is good",
            Self::Revoke => "it revokes a token",
        }
    }

    fn allows(self, method: &Method) -> bool {
        self.allow().split(", ").any(|name| name == method.as_str())
    }
}

/// What an endpoint is, for whoever explains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// The methods it takes, as `Allow` says them.
    pub allow: &'static str,
    /// What it does, in words.
    pub does: &'static str,
}

/// The endpoint at this raw path, if there is one.
#[must_use]
pub fn describe(settings: &Settings, path: &str) -> Option<Described> {
    let below = path.strip_prefix(settings.oauth2_server.as_deref()?)?;
    let (_, own) = Own::OAUTH2_SERVER.iter().find(|(own, _)| *own == below)?;
    Some(Described {
        allow: own.allow(),
        does: own.does(),
    })
}

/// Sidegate's own endpoints on the data listener.
pub struct Endpoints {
    table: Vec<(String, Own)>,
    deps: Arc<Deps>,
}

/// One request, read.
struct Asked {
    deps: Arc<Deps>,
    from: Caller,
    now: Now,
    headers: HeaderMap,
    query: Option<String>,
    form: Option<Bytes>,
}

impl Asked {
    fn refusal(&self, refusal: &Refusal) -> Response<Bytes> {
        refusal.render(self.from.request_id.as_str(), false)
    }

    fn audit(&self, event: &'static str) -> AuditLine<'_> {
        AuditLine {
            wall_micros: self.now.wall_micros,
            event,
            request_id: Some(self.from.request_id.as_str()),
            client_ip: Some(self.from.ip),
            ..AuditLine::default()
        }
    }
}

impl Endpoints {
    /// Largest body taken; the front reads at most one byte more.
    pub const BODY_MAX: usize = 64 << 10;

    /// The endpoints that `settings` switch on.
    #[must_use]
    pub fn new(settings: &Settings, deps: Deps) -> Self {
        let below =
            |base: &String| Own::OAUTH2_SERVER.map(|(path, own)| (format!("{base}{path}"), own));
        Self {
            table: settings.oauth2_server.iter().flat_map(below).collect(),
            deps: Arc::new(deps),
        }
    }

    /// Whether this raw path is one of ours, whatever the method.
    #[must_use]
    pub fn owns(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    fn find(&self, path: &str) -> Option<Own> {
        let found = self.table.iter().find(|(own, _)| own == path);
        found.map(|(_, own)| *own)
    }

    /// Answers a request whose path is [owned](Self::owns). The work is a task of its own: whoever
    /// drops this future ends nothing half-way. What the access line should say is a [`Told`] among
    /// the answer's extensions.
    pub async fn answer(&self, request: Request<Bytes>, from: Caller) -> Response<Bytes> {
        let Some(own) = self.find(request.uri().path()) else {
            return Refusal::no_route().render(from.request_id.as_str(), false);
        };
        let (parts, body) = request.into_parts();
        let is_post = parts.method == Method::POST;
        let mut asked = Asked {
            deps: Arc::clone(&self.deps),
            now: self.deps.clock.now(),
            query: parts.uri.query().map(str::to_owned),
            form: None,
            headers: parts.headers,
            from,
        };
        let request_id = asked.from.request_id.clone();
        let work = async move {
            if !own.allows(&parts.method) {
                return oauth2_server::method_not_allowed(&asked, own.allow());
            }
            if is_post && !body.is_empty() {
                if let Err(why) = is_form(&asked.headers, &body) {
                    return oauth2_server::invalid_request(&asked, why);
                }
                asked.form = Some(body);
            }
            match own {
                Own::Tokens => oauth2_server::tokens(&asked).await,
                Own::Check => oauth2_server::check(&asked).await,
                Own::Revoke => oauth2_server::revoke(&asked).await,
            }
        };
        let answered = self.deps.runtime.spawn(work).await;
        let mut response = answered
            .unwrap_or_else(|_| Refusal::internal_error().render(request_id.as_str(), false));
        never_stored(response.headers_mut());
        response
    }
}

/// Whether a body can be read as a form; else what is wrong with it.
fn is_form(headers: &HeaderMap, body: &[u8]) -> Result<(), &'static str> {
    if body.len() > Endpoints::BODY_MAX {
        return Err("the body is larger than 64 KiB");
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(one), None) = (types.next(), types.next()) else {
        return Err("a body needs one Content-Type, application/x-www-form-urlencoded");
    };
    let essence = one.to_str().ok().and_then(|text| text.split(';').next());
    let is_form = essence.is_some_and(|text| {
        text.trim()
            .eq_ignore_ascii_case("application/x-www-form-urlencoded")
    });
    if !is_form || headers.contains_key(CONTENT_ENCODING) {
        return Err("the body must be application/x-www-form-urlencoded, without an encoding");
    }
    Ok(())
}

fn answer_json(status: StatusCode, body: &impl Serialize) -> Response<Bytes> {
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn never_stored(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
}
