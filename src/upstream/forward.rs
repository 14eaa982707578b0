//! One request to a backend and its answer back: streamed both ways, within the time-outs, sent
//! again only where that cannot do anything twice (contract §3.10).

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};

use super::Upstream;
use super::body::{AnswerBody, Progress, RequestBody};
use super::connect::ConnectError;
use super::pool::{Lease, Pool};
use super::retry::HeadCopy;
use crate::gate::Outbound;
use crate::refusal::Refusal;
use crate::server::Received;
use crate::server::framing::is_plain_length;

/// How an exchange with a backend went.
pub struct Answered {
    /// The answer, ready for the client, or why there is none.
    pub answer: Result<Response<AnswerBody>, Refusal>,
    /// How far the request's body came; `None` for a request without one.
    pub progress: Option<Arc<Progress>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no connection: {0}")]
    Connect(#[from] ConnectError),
    #[error("no answer within response_timeout")]
    TimedOut,
    #[error("the connection broke off before an answer: {0}")]
    BrokenOff(hyper::Error),
    #[error("the answer cannot be passed on: {0}")]
    BadAnswer(&'static str),
}

/// Sends what the gate let pass to `upstream` and gives its answer. `max_body` bounds the request's
/// body. May be dropped at any time: the connection is then closed.
pub async fn forward(
    pool: &Arc<Pool>,
    upstream: &Arc<Upstream>,
    outbound: Outbound,
    body: Received,
    max_body: Option<u64>,
) -> Answered {
    let (_, parts, edits, trailers) = outbound.into_parts();
    let body = RequestBody::new(body, max_body, trailers);
    let progress = body.progress();
    let mut request = Some(Request::from_parts(parts, body));
    let mut answer = exchange(pool, upstream, &mut request, progress.as_ref()).await;
    if let Ok(response) = &mut answer {
        match refuse_ambiguous(response) {
            Ok(()) => {
                let status = response.status();
                edits.apply(response.headers_mut(), status);
            }
            Err(failure) => answer = Err(failure),
        }
    }
    let answer = answer.map_err(|failure| refusal(upstream, failure, progress.as_deref()));
    Answered { answer, progress }
}

/// `request` is there until it is taken by a connection: so it is moved once, not from step to step.
async fn exchange(
    pool: &Arc<Pool>,
    upstream: &Arc<Upstream>,
    request: &mut Option<Request<RequestBody>>,
    progress: Option<&Arc<Progress>>,
) -> Result<Response<AnswerBody>, Failure> {
    let lease = match pool.take(upstream).await {
        Some(lease) => lease,
        None => pool.open(upstream).await?,
    };
    let reused = lease.reused;
    let again = request.as_ref().filter(|_| reused).and_then(HeadCopy::of);
    let failed = match send(lease, upstream, request, progress).await {
        Ok(response) => return Ok(response),
        Err(failed) => failed,
    };
    match failed {
        // None of it was written: the connection closed before it was taken.
        Sent::Not if reused => {}
        Sent::Not => return Err(Failure::BadAnswer("the connection closed at once")),
        // Written, but the connection was an old one and closed before any answer: it may well have
        // been closed while the request was under way. GET, HEAD and OPTIONS may be repeated.
        Sent::Unanswered { error, heard } => {
            let again = again.filter(|_| !heard && !error.is_user());
            match again.and_then(HeadCopy::request) {
                Some(again) => *request = Some(again),
                None => return Err(Failure::BrokenOff(error)),
            }
        }
        Sent::TimedOut => return Err(Failure::TimedOut),
    }
    let lease = pool.open(upstream).await?;
    match send(lease, upstream, request, progress).await {
        Ok(response) => Ok(response),
        Err(Sent::Not) => Err(Failure::BadAnswer("the connection closed at once")),
        Err(Sent::Unanswered { error, .. }) => Err(Failure::BrokenOff(error)),
        Err(Sent::TimedOut) => Err(Failure::TimedOut),
    }
}

/// What became of a request that got no answer.
enum Sent {
    /// It is where it was.
    Not,
    Unanswered {
        error: hyper::Error,
        /// Something came that may have been the beginning of an answer.
        heard: bool,
    },
    TimedOut,
}

async fn send(
    mut lease: Lease,
    upstream: &Upstream,
    request: &mut Option<Request<RequestBody>>,
    progress: Option<&Arc<Progress>>,
) -> Result<Response<AnswerBody>, Sent> {
    let Some(message) = request.take() else {
        return Err(Sent::Not);
    };
    lease.request = progress.cloned();
    lease.heard.begin();
    let answer = lease.sender.try_send_request(message);
    let limit = upstream.settings.response_timeout;
    let answer = match progress {
        None => tokio::time::timeout(limit, answer).await,
        Some(progress) => within_after_body(limit, progress, answer).await,
    };
    match answer {
        Ok(Ok(response)) => {
            // To a backend that once spoke HTTP/1.0 hyper speaks it too, and knows no chunks any more.
            lease.last = response.version() != Version::HTTP_11;
            Ok(response.map(|body| AnswerBody::new(body, lease)))
        }
        Ok(Err(mut error)) => {
            *request = error.take_message();
            match request {
                Some(_) => Err(Sent::Not),
                None => Err(Sent::Unanswered {
                    error: error.into_error(),
                    heard: lease.heard.anything(),
                }),
            }
        }
        Err(_) => Err(Sent::TimedOut),
    }
}

/// The answer's time runs from the last byte of the request (contract §2).
async fn within_after_body<T>(
    limit: Duration,
    progress: &Progress,
    answer: impl Future<Output = T>,
) -> Result<T, tokio::time::error::Elapsed> {
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => return Ok(answer),
        () = progress.ended() => {}
    }
    tokio::time::timeout(limit, answer).await
}

/// What a client could read in two ways, or did not ask for, goes no further.
fn refuse_ambiguous(response: &mut Response<AnswerBody>) -> Result<(), Failure> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Failure::BadAnswer("a 101 that nobody asked for"));
    }
    // hyper undoes one chunked coding and nothing else; the coding's name does not go on.
    let mut codings = response.headers().get_all(TRANSFER_ENCODING).iter();
    let only_chunked = codings
        .next()
        .is_none_or(|first| first.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if !only_chunked || codings.next().is_some() {
        return Err(Failure::BadAnswer("a transfer coding other than chunked"));
    }
    one_length(response.headers_mut())
}

/// Leaves one plain number. hyper takes a length that is repeated, in lines or in a list, and looks at
/// none of an answer to HEAD; a client must not have to choose.
fn one_length(headers: &mut HeaderMap) -> Result<(), Failure> {
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lines.next() else {
        return Ok(());
    };
    if lines.next().is_none() && is_plain_length(first.as_bytes()) {
        return Ok(());
    }
    let number = |text: &[u8]| {
        let digits = text.len() < 20 && text.iter().all(u8::is_ascii_digit);
        let text = std::str::from_utf8(text).ok().filter(|_| digits)?;
        text.parse::<u64>().ok()
    };
    let mut numbers = headers
        .get_all(CONTENT_LENGTH)
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b','))
        .map(|one| number(one.trim_ascii()));
    let first = numbers.next().flatten();
    match first.filter(|first| numbers.all(|other| other == Some(*first))) {
        Some(length) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            Ok(())
        }
        None => Err(Failure::BadAnswer(
            "a Content-Length that is no number or several",
        )),
    }
}

/// The step that meets the failure names the refusal it means; the cause is for the log only.
fn refusal(upstream: &Upstream, failure: Failure, progress: Option<&Progress>) -> Refusal {
    if progress.is_some_and(Progress::is_too_large) {
        return Refusal::body_too_large();
    }
    if progress.is_some_and(Progress::is_broken) {
        return Refusal::invalid_framing("the request body broke off");
    }
    tracing::warn!(upstream = upstream.name(), cause = %failure, "a backend gave no answer");
    match failure {
        Failure::TimedOut | Failure::Connect(ConnectError::TimedOut) => Refusal::upstream_timeout(),
        _ => Refusal::upstream_unreachable(),
    }
}
