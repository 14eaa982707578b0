//! Every way to say no: status, error word, headers, problem+json (RFC 9457); nothing else. The step
//! that meets an error names the refusal it means; status codes stand in this file only.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;

/// The machine word of a refusal, the member `error` of its body (contract §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    /// The request is malformed or ambiguous.
    InvalidRequest,
    /// The sudo parameter cannot be read.
    InvalidSudo,
    /// The path is malformed or can be read in two ways.
    InvalidPath,
    /// No token where one is needed.
    MissingToken,
    /// Unknown, expired or revoked.
    InvalidToken,
    /// The token lacks a scope.
    InsufficientScope,
    /// The client may not act as this user.
    SudoNotAllowed,
    /// The client may not act in this tenant.
    TenantNotAllowed,
    /// No route matches.
    NoRoute,
    /// The path is there, the method is not.
    MethodNotAllowed,
    /// The request body is larger than allowed.
    BodyTooLarge,
    /// A limit is exceeded.
    RateLimited,
    /// The head is larger than allowed.
    HeadTooLarge,
    /// The backend cannot be reached, or broke off before an answer.
    UpstreamUnreachable,
    /// The token store cannot answer.
    StoreUnavailable,
    /// The backend took too long.
    UpstreamTimeout,
    /// A bug of ours ended this request.
    InternalError,
}

impl Word {
    /// Every word, for metrics whose handles are made ahead.
    pub const ALL: [Self; 17] = [
        Self::InvalidRequest,
        Self::InvalidSudo,
        Self::InvalidPath,
        Self::MissingToken,
        Self::InvalidToken,
        Self::InsufficientScope,
        Self::SudoNotAllowed,
        Self::TenantNotAllowed,
        Self::NoRoute,
        Self::MethodNotAllowed,
        Self::BodyTooLarge,
        Self::RateLimited,
        Self::HeadTooLarge,
        Self::UpstreamUnreachable,
        Self::StoreUnavailable,
        Self::UpstreamTimeout,
        Self::InternalError,
    ];

    /// The word as clients and logs see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidSudo => "invalid_sudo",
            Self::InvalidPath => "invalid_path",
            Self::MissingToken => "missing_token",
            Self::InvalidToken => "invalid_token",
            Self::InsufficientScope => "insufficient_scope",
            Self::SudoNotAllowed => "sudo_not_allowed",
            Self::TenantNotAllowed => "tenant_not_allowed",
            Self::NoRoute => "no_route",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTooLarge => "body_too_large",
            Self::RateLimited => "rate_limited",
            Self::HeadTooLarge => "head_too_large",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::StoreUnavailable => "store_unavailable",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::InternalError => "internal_error",
        }
    }

    /// The status it is answered with.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest | Self::InvalidSudo | Self::InvalidPath => StatusCode::BAD_REQUEST,
            Self::MissingToken | Self::InvalidToken => StatusCode::UNAUTHORIZED,
            Self::InsufficientScope | Self::SudoNotAllowed | Self::TenantNotAllowed => {
                StatusCode::FORBIDDEN
            }
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UpstreamUnreachable => StatusCode::BAD_GATEWAY,
            Self::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The gRPC status of the same meaning.
    fn grpc_status(self) -> &'static str {
        match self.status().as_u16() {
            401 => "16",
            403 => "7",
            429 => "8",
            502 | 503 => "14",
            504 => "4",
            500 => "13",
            _ => "3",
        }
    }
}

/// One refusal: what the caller is told. Holds no token, no secret and no inner error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    word: Word,
    detail: Cow<'static, str>,
    /// A token was sent: 401 and 403 then name the error in `WWW-Authenticate`.
    token_sent: bool,
    /// The scopes that were needed, for `insufficient_scope`.
    scope: Option<String>,
    /// Methods for 405.
    allow: Option<String>,
    retry_after: Option<Duration>,
    /// The limit that was exceeded.
    limit: Option<String>,
    /// No message may follow on this connection.
    close: bool,
}

impl Refusal {
    fn new(word: Word, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            word,
            detail: detail.into(),
            token_sent: false,
            scope: None,
            allow: None,
            retry_after: None,
            limit: None,
            close: false,
        }
    }

    /// 400: malformed or ambiguous; `detail` says what and how it is written.
    #[must_use]
    pub fn invalid_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Word::InvalidRequest, detail)
    }

    /// 400 and the connection is closed: the message's framing is invalid or has two readings.
    #[must_use]
    pub fn invalid_framing(detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            close: true,
            ..Self::new(Word::InvalidRequest, detail)
        }
    }

    /// 400: the sudo parameter cannot be read.
    #[must_use]
    pub fn invalid_sudo(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Word::InvalidSudo, detail)
    }

    /// 400: the path is malformed or has two readings.
    #[must_use]
    pub fn invalid_path(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Word::InvalidPath, detail)
    }

    /// 401: no token where one is needed.
    #[must_use]
    pub fn missing_token() -> Self {
        Self::new(
            Word::MissingToken,
            "send a token as \"Authorization: Bearer TOKEN\" or as ?access_token=TOKEN",
        )
    }

    /// 401: a token was sent and is not good.
    #[must_use]
    pub fn invalid_token() -> Self {
        Self {
            token_sent: true,
            ..Self::new(
                Word::InvalidToken,
                "the token is unknown, expired or revoked",
            )
        }
    }

    /// 403: the token lacks one of the scopes in `needed`.
    #[must_use]
    pub fn insufficient_scope(needed: String) -> Self {
        Self {
            token_sent: true,
            scope: Some(needed),
            ..Self::new(
                Word::InsufficientScope,
                "the token lacks a scope that this request needs",
            )
        }
    }

    /// 403: the client may not act as this user.
    #[must_use]
    pub fn sudo_not_allowed() -> Self {
        Self {
            token_sent: true,
            ..Self::new(Word::SudoNotAllowed, "this client may not act as this user")
        }
    }

    /// 403: the client may not act in this tenant.
    #[must_use]
    pub fn tenant_not_allowed() -> Self {
        Self {
            token_sent: true,
            ..Self::new(
                Word::TenantNotAllowed,
                "this client may not act in this tenant",
            )
        }
    }

    /// 404: no route matches.
    #[must_use]
    pub fn no_route() -> Self {
        Self::new(
            Word::NoRoute,
            "no route is configured for this host and path",
        )
    }

    /// 405: `allow` lists the methods that are there.
    #[must_use]
    pub fn method_not_allowed(allow: String) -> Self {
        Self {
            allow: Some(allow),
            ..Self::new(Word::MethodNotAllowed, "this method is not allowed here")
        }
    }

    /// 413: the body is larger than `[server] max_body`.
    #[must_use]
    pub fn body_too_large() -> Self {
        Self::new(
            Word::BodyTooLarge,
            "the request body is larger than this server takes",
        )
    }

    /// 431: the head is larger than allowed. The connection is closed.
    #[must_use]
    pub fn head_too_large() -> Self {
        Self {
            close: true,
            ..Self::new(
                Word::HeadTooLarge,
                "the request head is larger than this server takes",
            )
        }
    }

    /// 429: the limit of this name is exceeded; `retry_after` until the next request can pass.
    #[must_use]
    pub fn rate_limited(limit: &str, retry_after: Duration) -> Self {
        Self {
            limit: Some(limit.to_owned()),
            retry_after: Some(retry_after),
            ..Self::new(
                Word::RateLimited,
                "too many requests: wait as long as Retry-After says",
            )
        }
    }

    /// 502: the backend cannot be reached, broke off, or answered what is no HTTP.
    #[must_use]
    pub fn upstream_unreachable() -> Self {
        Self::new(
            Word::UpstreamUnreachable,
            "the service behind this proxy cannot be reached",
        )
    }

    /// 503: whether the token is good cannot be told now.
    #[must_use]
    pub fn store_unavailable() -> Self {
        Self {
            retry_after: Some(Duration::from_secs(5)),
            ..Self::new(
                Word::StoreUnavailable,
                "tokens cannot be checked at the moment, try again",
            )
        }
    }

    /// 504: the backend took too long.
    #[must_use]
    pub fn upstream_timeout() -> Self {
        Self::new(
            Word::UpstreamTimeout,
            "the service behind this proxy did not answer in time",
        )
    }

    /// 500: a bug of ours.
    #[must_use]
    pub fn internal_error() -> Self {
        Self {
            close: true,
            ..Self::new(Word::InternalError, "this request failed inside the proxy")
        }
    }

    /// Its machine word.
    #[must_use]
    pub fn word(&self) -> Word {
        self.word
    }

    /// What the caller is told in words.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The limit that refused, if one did.
    #[must_use]
    pub fn limit(&self) -> Option<&str> {
        self.limit.as_deref()
    }

    /// The answer: problem+json, or for gRPC callers HTTP 200 with the status in its trailers-only
    /// head (contract §3). The request id stands in the body; the header is set by whoever answers.
    #[must_use]
    pub fn render(&self, request_id: &str, grpc: bool) -> Response<Bytes> {
        let mut response = if grpc {
            self.grpc()
        } else {
            self.problem(request_id)
        };
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = self.challenge() {
            insert(headers, WWW_AUTHENTICATE, &challenge);
        }
        if let Some(allow) = &self.allow {
            insert(headers, ALLOW, allow);
        }
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn problem(&self, request_id: &str) -> Response<Bytes> {
        let status = self.word.status();
        let body = Problem {
            kind: match self.word {
                Word::RateLimited => {
                    "https://iana.org/assignments/http-problem-types#quota-exceeded"
                }
                _ => "about:blank",
            },
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: &self.detail,
            error: self.word.as_str(),
            request_id,
            limit: self.limit.as_deref(),
            violated_policies: self.limit.as_deref().map(|name| [name]),
        };
        let mut response =
            Response::new(Bytes::from(serde_json::to_vec(&body).unwrap_or_default()));
        *response.status_mut() = status;
        response.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        response
    }

    fn grpc(&self) -> Response<Bytes> {
        const MESSAGE: &AsciiSet = &CONTROLS.add(b'%');
        let mut response = Response::new(Bytes::new());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(
            HeaderName::from_static("grpc-status"),
            HeaderValue::from_static(self.word.grpc_status()),
        );
        let text = format!("{}: {}", self.word.as_str(), self.detail);
        let text = utf8_percent_encode(&text, MESSAGE).to_string();
        insert(headers, HeaderName::from_static("grpc-message"), &text);
        response
    }

    /// The `WWW-Authenticate` of RFC 6750 §3: without an error where no token was sent.
    fn challenge(&self) -> Option<String> {
        let mut challenge = "Bearer realm=\"sidegate\"".to_owned();
        if !self.token_sent {
            return (self.word == Word::MissingToken).then_some(challenge);
        }
        challenge.push_str(&format!(", error=\"{}\"", self.word.as_str()));
        if let Some(scope) = &self.scope {
            challenge.push_str(&format!(", scope=\"{scope}\""));
        }
        Some(challenge)
    }
}

fn insert(headers: &mut http::HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Rounded up, and never zero: a client that waits as long as told must find room.
fn whole_seconds(wait: Duration) -> u64 {
    let rounded = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    rounded.max(1)
}

#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    error: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'a str>,
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    violated_policies: Option<[&'a str; 1]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'a>(response: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
        response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    }

    #[test]
    fn a_refusal_is_a_problem_with_its_word_and_request_id() {
        let response = Refusal::no_route().render("id-1", false);
        assert_eq!(response.status(), 404);
        assert_eq!(
            header(&response, "content-type"),
            Some("application/problem+json")
        );
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["type"], "about:blank");
        assert_eq!(body["title"], "Not Found");
        assert_eq!(body["status"], 404);
        assert_eq!(body["error"], "no_route");
        assert_eq!(body["request_id"], "id-1");
        assert!(body.get("limit").is_none());
    }

    #[test]
    fn the_challenge_names_an_error_only_when_a_token_was_sent() {
        let challenge = |refusal: Refusal| {
            header(&refusal.render("x", false), "www-authenticate").map(str::to_owned)
        };
        assert_eq!(
            challenge(Refusal::missing_token()).as_deref(),
            Some("Bearer realm=\"sidegate\"")
        );
        assert_eq!(
            challenge(Refusal::invalid_token()).as_deref(),
            Some("Bearer realm=\"sidegate\", error=\"invalid_token\"")
        );
        assert_eq!(
            challenge(Refusal::insufficient_scope("a b".into())).as_deref(),
            Some("Bearer realm=\"sidegate\", error=\"insufficient_scope\", scope=\"a b\"")
        );
        assert_eq!(challenge(Refusal::no_route()), None);
        assert_eq!(challenge(Refusal::store_unavailable()), None);
    }

    #[test]
    fn a_rate_limit_says_which_and_when_to_come_back() {
        let response =
            Refusal::rate_limited("per-client", Duration::from_millis(1200)).render("x", false);
        assert_eq!(header(&response, "retry-after"), Some("2"));
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(
            body["type"],
            "https://iana.org/assignments/http-problem-types#quota-exceeded"
        );
        assert_eq!(body["limit"], "per-client");
        assert_eq!(body["violated-policies"], serde_json::json!(["per-client"]));
    }

    #[test]
    fn grpc_callers_get_200_and_the_status_in_the_head() {
        for (refusal, status) in [
            (Refusal::missing_token(), "16"),
            (Refusal::sudo_not_allowed(), "7"),
            (Refusal::rate_limited("l", Duration::ZERO), "8"),
            (Refusal::upstream_unreachable(), "14"),
            (Refusal::store_unavailable(), "14"),
            (Refusal::upstream_timeout(), "4"),
            (Refusal::no_route(), "3"),
        ] {
            let response = refusal.render("x", true);
            assert_eq!(response.status(), 200);
            assert_eq!(header(&response, "content-type"), Some("application/grpc"));
            assert_eq!(
                header(&response, "grpc-status"),
                Some(status),
                "{refusal:?}"
            );
            assert!(response.body().is_empty());
        }
    }
}
