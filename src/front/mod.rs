//! One request from start to end: id, own endpoint or gate, forward, counters, log line.
//!
//! The outer part cannot fail: whatever happens inside becomes an answer, and every answer leaves
//! its trace, also when the client has gone before it was whole.

mod record;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_TYPE, EXPECT};
use http::{HeaderValue, Request, Response, request};
use http_body::Body;
use http_body_util::{BodyExt, Limited};

use crate::base::clock::Clock;
use crate::endpoints::{Caller, Endpoints, Told};
use crate::gate::{Gate, Head, Permit, Way};
use crate::observe::metrics::RouteMetrics;
use crate::observe::request_id::X_REQUEST_ID;
use crate::observe::{Lines, Metrics};
use crate::refusal::Refusal;
use crate::server::{self, Drain, Peer, Received, framing, peer};
use crate::upstream::{self, Pool, Upstream};

pub use record::Answer;
use record::Record;

/// A refused request's body up to this size is read and dropped, so that the connection can go on;
/// a larger one costs the client its connection.
const DRAINED_BODY_MAX: u64 = 64 << 10;
/// How long that may take.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);

/// What all workers share.
pub struct Shared {
    /// Sidegate's own endpoints.
    pub endpoints: Arc<Endpoints>,
    /// By a route's index.
    pub upstreams: Vec<Arc<Upstream>>,
    /// By a route's index.
    pub route_metrics: Vec<RouteMetrics>,
    /// Of requests that no route took.
    pub routeless_metrics: RouteMetrics,
    /// The time.
    pub clock: Clock,
    /// Where log lines go.
    pub lines: Lines,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// `[server]`.
    pub server: server::settings::Settings,
    /// Whether it winds down.
    pub drain: Drain,
    /// Whether each request leaves an access line.
    pub access_log: bool,
}

/// Answers the requests of one worker.
pub struct Front {
    shared: Arc<Shared>,
    gate: Gate,
    pool: Arc<Pool>,
}

impl Front {
    /// The front of one worker, made on its runtime.
    #[must_use]
    pub fn new(shared: Arc<Shared>, gate: Gate) -> Self {
        Self {
            shared,
            gate,
            pool: Pool::new(),
        }
    }
}

impl server::Handler for Front {
    type Body = Answer;

    async fn call(&self, request: Request<Received>, peer: Peer) -> Response<Answer> {
        let shared = &self.shared;
        let (parts, body) = request.into_parts();
        let client = peer::client(&peer, &parts.headers, &shared.server.trusted_proxies);
        let mut record = Record::begin(shared, &parts, client.ip);
        let grpc = is_grpc(&parts);
        let expects = parts.headers.contains_key(EXPECT);

        let mut response = match self.answer(parts, body, &peer, &client, &mut record).await {
            Ok(response) => response,
            Err((refusal, body)) => {
                let mut response = refusal.render(record.request_id.as_str(), grpc);
                if let Some(body) = body
                    && !drained(body, expects).await
                {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                record.refused(refusal);
                response.map(Inner::Own)
            }
        };
        let id = record.request_id.header_value().clone();
        response.headers_mut().insert(X_REQUEST_ID, id);
        record.answered(response.status());
        response.map(|inner| Answer::new(inner, record))
    }
}

/// What an answer is made of.
pub(crate) enum Inner {
    /// Written by Sidegate.
    Own(Bytes),
    /// Streamed from a backend.
    Upstream(upstream::body::AnswerBody),
}

/// A refusal, and the request's body if nobody has taken it.
type Refused = (Refusal, Option<Received>);

impl Front {
    async fn answer(
        &self,
        parts: request::Parts,
        body: Received,
        peer: &Peer,
        client: &peer::Client,
        record: &mut Record,
    ) -> Result<Response<Inner>, Refused> {
        let framed = match framing::check(&parts) {
            Ok(framed) => framed,
            Err(refusal) => return Err((refusal, Some(body))),
        };
        if self.shared.endpoints.owns(parts.uri.path()) {
            record.is_own_endpoint();
            return self.own_endpoint(parts, body, client.ip, record).await;
        }
        let head = Head {
            method: &parts.method,
            host: &framed.host,
            path: parts.uri.path(),
            query: parts.uri.query(),
            headers: &parts.headers,
            client_ip: client.ip,
        };
        let decided = self
            .gate
            .decide(&head, record.started, &mut record.trace)
            .await;
        record.audit_sudo(decided.as_ref().err());
        let permit = match decided {
            Ok(permit) => permit,
            Err(refusal) => return Err((refusal, Some(body))),
        };
        let max_body = self.shared.server.max_body;
        let announced = body.size_hint().exact();
        if let (Some(max), Some(size)) = (max_body, announced)
            && size > max
        {
            return Err((Refusal::body_too_large(), Some(body)));
        }
        let host_header = framed.host_header;
        self.forward(permit, parts, body, (peer, client), host_header, record)
            .await
            .map_err(|refusal| (refusal, None))
    }

    async fn forward(
        &self,
        permit: Permit,
        parts: request::Parts,
        body: Received,
        (peer, client): (&Peer, &peer::Client),
        host_header: Option<HeaderValue>,
        record: &mut Record,
    ) -> Result<Response<Inner>, Refusal> {
        let shared = &self.shared;
        let Some(upstream) = shared.upstreams.get(permit.route().index) else {
            return Err(Refusal::internal_error());
        };
        let way = Way {
            peer_ip: peer.addr.ip(),
            trusted: client.trusted,
            scheme: "http",
            host_header: host_header.as_ref().unwrap_or(upstream.authority()),
            request_id: record.request_id.header_value(),
        };
        let outbound = permit.write(parts, &way);
        let sent = shared.clock.mono_nanos();
        let upstream::Answered { answer, progress } =
            upstream::forward(&self.pool, upstream, outbound, body, shared.server.max_body).await;
        record.forwarded(progress, shared.clock.since(sent));
        answer.map(|response| response.map(Inner::Upstream))
    }

    /// Own endpoints may wait for the store, so they run on the control plane; their bodies are
    /// small and read here.
    async fn own_endpoint(
        &self,
        parts: request::Parts,
        body: Received,
        ip: IpAddr,
        record: &mut Record,
    ) -> Result<Response<Inner>, Refused> {
        let patience = self.shared.server.header_read_timeout;
        let body = match tokio::time::timeout(patience, small_body(body)).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => return Err((Refusal::invalid_framing("the body broke off"), None)),
            Err(_) => return Err((Refusal::invalid_framing("the body took too long"), None)),
        };
        record.read_body(body.len());
        let caller = Caller {
            ip,
            request_id: record.request_id.clone(),
        };
        let request = Request::from_parts(parts, body);
        let mut response = self.shared.endpoints.answer(request, caller).await;
        if let Some(told) = response.extensions_mut().remove::<Told>() {
            record.told(told);
        }
        Ok(response.map(Inner::Own))
    }
}

/// Reads a body of an own endpoint; of one that is too large no more than it takes to see that.
async fn small_body(mut body: Received) -> Result<Bytes, hyper::Error> {
    let mut read = BytesMut::new();
    while read.len() <= Endpoints::BODY_MAX {
        let Some(frame) = body.frame().await.transpose()? else {
            break;
        };
        if let Ok(data) = frame.into_data() {
            read.extend_from_slice(&data);
        }
    }
    Ok(read.freeze())
}

fn is_grpc(parts: &request::Parts) -> bool {
    parts
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Reads and drops what is left of a refused request, if that is little and comes soon. A client
/// that waits for `100 Continue` is not asked for its body.
async fn drained(body: Received, expects: bool) -> bool {
    if body.is_end_stream() {
        return true;
    }
    let little = body
        .size_hint()
        .exact()
        .is_some_and(|size| size <= DRAINED_BODY_MAX);
    if !little || expects {
        return false;
    }
    let limit = usize::try_from(DRAINED_BODY_MAX).unwrap_or(usize::MAX);
    let reading = Limited::new(body, limit).collect();
    matches!(
        tokio::time::timeout(DRAIN_PATIENCE, reading).await,
        Ok(Ok(_))
    )
}
