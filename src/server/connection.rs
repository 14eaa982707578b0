//! One connection from accept to close: the HTTP/1 codec, and the times within which things must happen.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, Method, Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep, sleep_until};

use super::body::{Answer, Received};
use super::connections::Lease;
use super::drain::Drain;
use super::io::{Io, Transport};
use super::settings::Settings;
use super::slot::{Eof, Phase, RequestBody, Slot};
use super::{Handler, Peer};

/// How long a client may go on sending after our last answer.
const LINGER: Duration = Duration::from_secs(2);

/// How long a client that was accepted late in a drain, or is in the middle of a head, may take for it.
const LATE_HEAD: Duration = Duration::from_secs(1);

/// How long a request goes on after its client has shut its side. Such a client has most likely left, and
/// then what it asked for must end too, the request to the backend included; but some only say that they
/// will ask no more (`printf … | nc`), and wait for the answer.
const HALF_CLOSED: Duration = Duration::from_secs(1);

/// The buffers of a connection grow with its traffic up to this, or to the largest head.
const MAX_BUFFER: usize = 64 << 10;

/// hyper's own bound of header lines, for which it needs no allocation.
const DEFAULT_MAX_HEADERS: usize = 100;

/// What all connections of a listener have in common.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    http1: http1::Builder,
    header_read_timeout: Duration,
    idle_timeout: Duration,
    stream_idle_timeout: Option<Duration>,
    pub(super) drain: Drain,
}

impl Terms {
    pub(super) fn new(settings: &Settings, drain: Drain) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            // One sleep of ours covers this and all other times; hyper's runs while a connection is idle too.
            .header_read_timeout(None)
            .max_header_size(settings.max_header_bytes)
            .max_buf_size(settings.max_header_bytes.max(MAX_BUFFER))
            // With it hyper would never notice that a client has left; see HALF_CLOSED.
            .half_close(false);
        if settings.max_headers != DEFAULT_MAX_HEADERS {
            http1.max_headers(settings.max_headers);
        }
        Self {
            http1,
            header_read_timeout: settings.header_read_timeout,
            idle_timeout: settings.idle_timeout,
            stream_idle_timeout: Some(settings.stream_idle_timeout).filter(|t| !t.is_zero()),
            drain,
        }
    }

    /// Whether connections must note the time of every byte.
    pub(super) fn watch_bytes(&self) -> bool {
        self.stream_idle_timeout.is_some()
    }

    /// Until when the present phase, entered at `since`, may last.
    fn due(&self, slot: &Slot, since: Instant) -> Option<Instant> {
        let phase = slot.phase();
        let own = match phase {
            Phase::Fresh | Phase::Head => Some(since + self.header_read_timeout),
            Phase::Idle => Some(since + self.idle_timeout),
            Phase::Lingering => Some(since + LINGER),
            // The backend thinks: that is bounded where the answer is waited for.
            Phase::Waiting if !slot.request_body_is(RequestBody::Open) => None,
            Phase::Waiting | Phase::Answering | Phase::Ended | Phase::Broken => {
                self.stream_idle_timeout.map(|t| slot.moved() + t)
            }
        };
        let Some(stop) = self.drain.stopping() else {
            return own;
        };
        let stop = match phase {
            Phase::Idle => stop.since,
            Phase::Fresh | Phase::Head => stop.deadline.min(since.max(stop.since) + LATE_HEAD),
            _ => stop.deadline,
        };
        Some(own.map_or(stop, |own| own.min(stop)))
    }
}

/// Serves one connection to its end. Dropping the future closes it at once.
pub(super) async fn serve<T: Transport, H: Handler>(
    transport: T,
    peer: Peer,
    handler: Arc<H>,
    terms: Arc<Terms>,
    lease: Lease,
) {
    let slot = lease.slot();
    let service = service_fn(|request: Request<Incoming>| {
        let handler = Arc::clone(&handler);
        let drain = &terms.drain;
        // At once, not when the future is first polled: the codec reads on in between.
        let begun = begin(request, slot);
        async move { Ok::<_, PlaceTaken>(answer(begun?, peer, &*handler, drain, slot).await) }
    });
    let io = TokioIo::new(Io::new(transport, Arc::clone(slot)));
    let mut connection = pin!(terms.http1.serve_connection(io, service));
    let mut timer = Timer::new(Instant::now() + terms.header_read_timeout);
    let mut sleep = pin!(sleep_until(timer.armed));
    let mut since = Instant::now();
    let mut half_closed = None;
    poll_fn(|cx| {
        // Registered before the look, so that what changes in between wakes.
        slot.waker().register(cx.waker());
        if slot.is_closing() {
            return Poll::Ready(());
        }
        loop {
            // The codec first: a request that has arrived is served, though its time may be up.
            if let Poll::Ready(end) = connection.as_mut().poll(cx) {
                if let Err(error) = end {
                    tracing::debug!(peer = %peer.addr, %error, "connection ended");
                }
                return Poll::Ready(());
            }
            let settled = slot.settle();
            since = settled.since.unwrap_or(since);
            if settled.became_idle {
                lease.connections().became_idle();
            }
            let held = slot.eof_is(Eof::Held);
            if held && !slot.phase().in_flight() {
                slot.set_eof(Eof::Told);
                continue;
            }
            let due = terms.due(slot, since);
            let eof = held.then(|| *half_closed.get_or_insert_with(Instant::now) + HALF_CLOSED);
            let Some(first) = due.into_iter().chain(eof).min() else {
                return Poll::Pending;
            };
            if timer.poll_until(first, sleep.as_mut(), cx).is_pending() {
                return Poll::Pending;
            }
            if eof != Some(first) {
                return Poll::Ready(());
            }
            slot.set_eof(Eof::Told);
        }
    })
    .await;
}

/// One sleep for all times of a connection. It is set anew only for an earlier time than it is set for, or
/// when it has gone off too early: a request costs no timer operation.
struct Timer {
    armed: Instant,
}

impl Timer {
    fn new(armed: Instant) -> Self {
        Self { armed }
    }

    fn poll_until(
        &mut self,
        due: Instant,
        mut sleep: std::pin::Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            if due < self.armed {
                self.armed = due;
                sleep.as_mut().reset(due);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if self.armed >= due {
                return Poll::Ready(());
            }
            self.armed = due;
            sleep.as_mut().reset(due);
        }
    }
}

/// Marks a request as in flight.
fn begin(request: Request<Incoming>, slot: &Arc<Slot>) -> Result<Request<Received>, PlaceTaken> {
    let request = request.map(|body| Received::new(body, slot));
    let body = if request.body().is_end_stream() {
        RequestBody::Done
    } else {
        RequestBody::Open
    };
    if slot.begin(body) {
        Ok(request)
    } else {
        Err(PlaceTaken)
    }
}

/// Asks the handler, and keeps the connection's state after it.
async fn answer<H: Handler>(
    request: Request<Received>,
    peer: Peer,
    handler: &H,
    drain: &Drain,
    slot: &Arc<Slot>,
) -> Response<Answer<H::Body>> {
    let (version, tunnel) = (request.version(), request.method() == Method::CONNECT);
    let mut response = handler.call(request, peer).await;
    // What a backend spoke is not what we speak: as HTTP/1.0 an answer of unknown length would end with
    // the connection. The codec falls back for clients that know only that.
    *response.version_mut() = Version::HTTP_11;
    // What follows a CONNECT is meant for a tunnel, and is no request.
    if tunnel || drain.is_draining() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    let close_delimited = version == Version::HTTP_10
        && response.body().size_hint().exact().is_none()
        && !response.headers().contains_key(CONTENT_LENGTH);
    slot.answer(close_delimited);
    response.map(|body| Answer::new(body, Arc::clone(slot)))
}

/// The connection's place was given away in the instant a request arrived; the client sees a close on a
/// connection that was idle, and may send again.
#[derive(Debug, thiserror::Error)]
#[error("the connection was closed to make room")]
struct PlaceTaken;

#[cfg(test)]
#[path = "tests/connection.rs"]
mod tests;
