//! What a request leaves behind: counters and its line in the access log, written when the answer
//! has ended or the client has gone.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, StatusCode, request};
use http_body::{Body, Frame, SizeHint};

use super::{Inner, Shared};
use crate::base::clock::Now;
use crate::base::oauth::ClientId;
use crate::endpoints::Told;
use crate::gate::Witness;
use crate::gate::route::Route;
use crate::limits::{Exceeded, Spent};
use crate::observe::access::{AccessLine, CredentialKind};
use crate::observe::audit::AuditLine;
use crate::observe::request_id::RequestId;
use crate::refusal::{Refusal, Word};
use crate::server::BoxError;
use crate::tokens::cache::TokenFacts;
use crate::upstream::body::Progress;

/// What an access line says where there was no answer: the client left, or the drain's deadline passed.
const CLIENT_GONE: u16 = 499;

/// What the gate found out on its way.
pub(super) struct Trace {
    route: Option<Arc<Route>>,
    credential: CredentialKind,
    token: Option<Arc<TokenFacts>>,
    sudo: Option<String>,
    tenant: Option<String>,
    limit: Option<String>,
    limit_nanos: Option<u64>,
    observed: Option<Word>,
    /// Limits in shadow mode that would have refused.
    shadowed: Vec<String>,
}

impl Witness for Trace {
    fn route(&mut self, route: &Arc<Route>) {
        self.route = Some(Arc::clone(route));
    }
    fn credential(&mut self, kind: CredentialKind) {
        self.credential = kind;
    }
    fn token(&mut self, facts: &Arc<TokenFacts>) {
        self.token = Some(Arc::clone(facts));
    }
    fn sudo(&mut self, user: &str) {
        self.sudo = Some(user.to_owned());
    }
    fn tenant(&mut self, tenant: &str) {
        self.tenant = Some(tenant.to_owned());
    }
    fn limits(&mut self, spent: &[Spent], now: Now) {
        if !spent.is_empty() {
            self.limit_nanos = Some(now.mono_nanos);
        }
        let over = spent.iter().filter(|one| one.over);
        self.shadowed
            .extend(over.map(|one| one.limit().name().to_owned()));
    }
    fn exceeded(&mut self, exceeded: &Exceeded) {
        self.limit = Some(exceeded.limit().name().to_owned());
    }
    fn observed(&mut self, refusal: &Refusal) {
        self.observed = Some(refusal.word());
    }
}

/// One request's trace.
pub(super) struct Record {
    shared: Arc<Shared>,
    pub(super) started: Now,
    pub(super) request_id: RequestId,
    client_ip: IpAddr,
    method: Method,
    target: Option<PathAndQuery>,
    pub(super) trace: Trace,
    own_endpoint: bool,
    told: Option<Told>,
    status: u16,
    error: Option<Word>,
    /// Of a body that was read here.
    request_bytes: u64,
    /// Of a body that was streamed on.
    progress: Option<Arc<Progress>>,
    response_bytes: u64,
    upstream: Option<Duration>,
}

impl Record {
    pub(super) fn begin(
        shared: &Arc<Shared>,
        parts: &request::Parts,
        client_ip: IpAddr,
    ) -> Box<Self> {
        Box::new(Self {
            shared: Arc::clone(shared),
            started: shared.clock.now(),
            request_id: RequestId::of(&parts.headers),
            client_ip,
            method: parts.method.clone(),
            // Only for the log.
            target: shared
                .access_log
                .then(|| parts.uri.path_and_query().cloned())
                .flatten(),
            trace: Trace {
                route: None,
                credential: CredentialKind::None,
                token: None,
                sudo: None,
                tenant: None,
                limit: None,
                limit_nanos: None,
                observed: None,
                shadowed: Vec::new(),
            },
            own_endpoint: false,
            told: None,
            status: CLIENT_GONE,
            error: None,
            request_bytes: 0,
            progress: None,
            response_bytes: 0,
            upstream: None,
        })
    }

    pub(super) fn is_own_endpoint(&mut self) {
        self.own_endpoint = true;
    }

    pub(super) fn read_body(&mut self, bytes: usize) {
        self.request_bytes = bytes as u64;
    }

    pub(super) fn forwarded(&mut self, progress: Option<Arc<Progress>>, took: Duration) {
        self.progress = progress;
        self.upstream = Some(took);
    }

    pub(super) fn refused(&mut self, refusal: Refusal) {
        self.error = Some(refusal.word());
        if let Some(limit) = refusal.limit() {
            self.trace.limit = Some(limit.to_owned());
        }
    }

    /// What an own endpoint found out.
    pub(super) fn told(&mut self, told: Told) {
        self.told = Some(told);
    }

    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }

    /// Every sudo is one line in the audit log, also one that was refused (contract §3.6).
    pub(super) fn audit_sudo(&self, refusal: Option<&Refusal>) {
        let Some(sudo) = self.trace.sudo.as_deref() else {
            return;
        };
        let refused = refusal.map(Refusal::word);
        let detail = match (refused, self.trace.observed) {
            (Some(word), _) => Some(format!("refused: {}", word.as_str())),
            (None, Some(word)) => Some(format!("not used, observed: {}", word.as_str())),
            (None, None) => None,
        };
        let token = self.trace.token.as_deref();
        self.shared.lines.audit(&AuditLine {
            wall_micros: self.started.wall_micros,
            event: "sudo",
            request_id: Some(self.request_id.as_str()),
            client_id: token.map(|token| token.client_id().as_str()),
            token_id: token.map(|token| token.id().0),
            client_ip: Some(self.client_ip),
            sudo: Some(sudo),
            tenant: self.trace.tenant.as_deref(),
            detail: detail.as_deref(),
            ..AuditLine::default()
        });
    }
}

impl Record {
    fn count(&self, took: Duration) {
        let shared = &*self.shared;
        let index = self.trace.route.as_ref().map(|route| route.index);
        let route = index
            .and_then(|index| shared.route_metrics.get(index))
            .unwrap_or(&shared.routeless_metrics);
        match self.error {
            Some(word) => route.refused(word),
            None if self.status == CLIENT_GONE => route.client_gone(),
            None if self.own_endpoint => route.own_endpoint(),
            None => route.forwarded(),
        }
        route.took(took, self.upstream);
        if let Some(word) = self.trace.observed {
            shared.metrics.observed(word);
        }
        for limit in &self.trace.shadowed {
            shared.metrics.rate_limited(limit, true);
        }
        if let Some(limit) = self.limit() {
            let only_counted = self.trace.observed.is_some();
            shared.metrics.rate_limited(limit, only_counted);
        }
    }

    /// What an access line says where no answer was given and it was not the client who left.
    fn cut_off(&self) -> Option<&'static str> {
        (self.status == CLIENT_GONE && self.shared.drain.is_over()).then_some("drain_timeout")
    }

    /// The limit that refused, here or in an own endpoint.
    fn limit(&self) -> Option<&str> {
        let told = || self.told.as_ref()?.limit.as_deref();
        self.trace.limit.as_deref().or_else(told)
    }

    /// The instant the limiter used: the request's own, also for the limit that refused.
    fn limit_nanos(&self) -> Option<u64> {
        let refused = || self.trace.limit.as_ref().map(|_| self.started.mono_nanos);
        let told = || self.told.as_ref()?.limit_ns;
        self.trace.limit_nanos.or_else(refused).or_else(told)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let duration = self.shared.clock.since(self.started.mono_nanos);
        self.count(duration);
        if !self.shared.access_log {
            return;
        }
        let token = self.trace.token.as_deref();
        let told = self.told.as_ref();
        self.shared.lines.access(&AccessLine {
            wall_micros: self.started.wall_micros,
            request_id: self.request_id.as_str(),
            client_ip: self.client_ip,
            method: self.method.as_str(),
            path: self.target.as_ref().map_or("", PathAndQuery::path),
            route: self.trace.route.as_ref().map(|route| &*route.name),
            status: self.status,
            credential: self.trace.credential,
            client_id: token
                .map(TokenFacts::client_id)
                .or_else(|| told?.client_id.as_ref())
                .map(ClientId::as_str),
            token_id: token.map(|token| token.id().0).or_else(|| told?.token_id),
            sudo: self.trace.sudo.as_deref(),
            tenant: self.trace.tenant.as_deref(),
            request_bytes: self
                .progress
                .as_ref()
                .map_or(self.request_bytes, |body| body.bytes()),
            response_bytes: self.response_bytes,
            duration,
            upstream: self.upstream,
            error: self
                .error
                .map(Word::as_str)
                .or_else(|| told?.error)
                .or_else(|| self.cut_off()),
            observed: self.trace.observed.map(Word::as_str),
            limit: self.limit(),
            limit_ns: self.limit_nanos(),
        });
    }
}

/// An answer's body, with the record that is written when it ends.
pub struct Answer {
    inner: Inner,
    record: Box<Record>,
}

impl Answer {
    pub(super) fn new(inner: Inner, record: Box<Record>) -> Self {
        Self { inner, record }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = match &mut this.inner {
            Inner::Own(bytes) if bytes.is_empty() => None,
            Inner::Own(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Inner::Upstream(body) => ready!(Pin::new(body).poll_frame(cx)),
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.record.response_bytes += data.len() as u64;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Own(bytes) => bytes.is_empty(),
            Inner::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Upstream(body) => body.size_hint(),
        }
    }
}
