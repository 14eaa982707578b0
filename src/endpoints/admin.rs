//! The admin listener: `/livez`, `/readyz`, `/metrics`. An axum router used as a plain service.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use tower_service::Service;

use crate::observe::{Metrics, metrics};

/// Whether traffic may be sent here. Each part is a latch: once reached it stays, so that a later
/// outage of the store does not take every replica out at once; draining ends it for good.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

const LISTENING: u8 = 1;
const STORE_REACHED: u8 = 2;
const DRAINING: u8 = 4;

impl Readiness {
    /// Not ready yet. That the configuration is valid goes without saying: without it nobody asks.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Every listener accepts.
    pub fn listening(&self) {
        self.0.fetch_or(LISTENING, Ordering::AcqRel);
    }

    /// The store answered once.
    pub fn store_reached(&self) {
        self.0.fetch_or(STORE_REACHED, Ordering::AcqRel);
    }

    /// It winds down.
    pub fn drain(&self) {
        self.0.fetch_or(DRAINING, Ordering::AcqRel);
    }

    /// Whether it winds down.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.load(Ordering::Acquire) & DRAINING != 0
    }

    /// Whether traffic may be sent here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire) == LISTENING | STORE_REACHED
    }

    fn words(&self) -> &'static str {
        let state = self.0.load(Ordering::Acquire);
        if state & DRAINING != 0 {
            "draining\n"
        } else if state & LISTENING == 0 {
            "waiting for the listeners\n"
        } else if state & STORE_REACHED == 0 {
            "waiting for the store\n"
        } else {
            "ready\n"
        }
    }
}

#[derive(Clone)]
struct Shown {
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
}

/// What the admin listener answers.
#[derive(Clone)]
pub struct Admin(Router);

impl Admin {
    /// Answers from these.
    #[must_use]
    pub fn new(readiness: Arc<Readiness>, metrics: Arc<Metrics>) -> Self {
        let router = Router::new()
            .route("/livez", get(async || "alive\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(scrape))
            .fallback(async || (StatusCode::NOT_FOUND, "not found\n"))
            .method_not_allowed_fallback(async || {
                (StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n")
            });
        Self(router.with_state(Shown { readiness, metrics }))
    }

    /// Answers one request; its body is not looked at.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Bytes> {
        let request = request.map(|_| axum::body::Body::empty());
        let Ok(response) = self.0.clone().call(request).await;
        let (parts, body) = response.into_parts();
        // All bodies here are in memory already.
        let body = body.collect().await.map(|body| body.to_bytes());
        let mut response = Response::from_parts(parts, body.unwrap_or_default());
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

async fn readyz(State(shown): State<Shown>) -> impl IntoResponse {
    let status = if shown.readiness.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, shown.readiness.words())
}

async fn scrape(State(shown): State<Shown>) -> impl IntoResponse {
    let Shown { readiness, metrics } = shown;
    metrics.ready.set(i64::from(readiness.is_ready()));
    metrics.draining.set(i64::from(readiness.is_draining()));
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.render())
}

#[cfg(test)]
#[path = "tests/admin.rs"]
mod tests;
