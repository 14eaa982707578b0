//! Bodies on their way through: counted, bounded, never buffered whole.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::Notify;

use super::pool::Lease;
use crate::gate::Trailers;
use crate::server::{BoxError, Received};

/// How far a request body has come. Shared by the body, which the connection owns, and whoever
/// waits for the answer.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: AtomicU64,
    state: AtomicU8,
    ended: Notify,
}

const UNDER_WAY: u8 = 0;
const WHOLE: u8 = 1;
const TOO_LARGE: u8 = 2;
const BROKEN: u8 = 3;

impl Progress {
    /// Bytes of the body taken from the client so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the whole body was handed to the backend's connection.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.state.load(Ordering::Acquire) == WHOLE
    }

    /// Whether it was given up because it exceeds `max_body`.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.state.load(Ordering::Acquire) == TOO_LARGE
    }

    /// Whether the client broke off.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.state.load(Ordering::Acquire) == BROKEN
    }

    fn end(&self, state: u8) {
        self.state.store(state, Ordering::Release);
        self.ended.notify_one();
    }

    /// Waits until the body has ended, one way or the other. One waiter only.
    pub(super) async fn ended(&self) {
        while self.state.load(Ordering::Acquire) == UNDER_WAY {
            self.ended.notified().await;
        }
    }
}

/// A request body on its way to a backend.
pub enum RequestBody {
    /// There is none.
    Empty,
    /// Streamed from the client.
    Streaming(StreamingBody),
}

/// The streamed kind.
pub struct StreamingBody {
    inner: Received,
    progress: Arc<Progress>,
    max: Option<u64>,
    trailers: Trailers,
}

impl RequestBody {
    /// Wraps what a client sends; more than `max` bytes end it with an error.
    pub(super) fn new(inner: Received, max: Option<u64>, trailers: Trailers) -> Self {
        if inner.is_end_stream() {
            return Self::Empty;
        }
        Self::Streaming(StreamingBody {
            inner,
            progress: Arc::default(),
            max,
            trailers,
        })
    }

    /// `None` for a request without a body.
    pub(super) fn progress(&self) -> Option<Arc<Progress>> {
        match self {
            Self::Empty => None,
            Self::Streaming(body) => Some(Arc::clone(&body.progress)),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Self::Streaming(body) = self.get_mut() else {
            return Poll::Ready(None);
        };
        let frame = match ready!(Pin::new(&mut body.inner).poll_frame(cx)) {
            None => {
                body.progress.end(WHOLE);
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                body.progress.end(BROKEN);
                return Poll::Ready(Some(Err(error.into())));
            }
            Some(Ok(frame)) => frame,
        };
        let frame = match frame.into_data() {
            Ok(data) => {
                let more = data.len() as u64;
                let total = body.progress.bytes.fetch_add(more, Ordering::Relaxed) + more;
                if body.max.is_some_and(|max| total > max) {
                    body.progress.end(TOO_LARGE);
                    return Poll::Ready(Some(Err("the body is larger than max_body".into())));
                }
                Frame::data(data)
            }
            Err(frame) => match frame.into_trailers() {
                Ok(mut trailers) => {
                    body.trailers.filter(&mut trailers);
                    Frame::trailers(trailers)
                }
                Err(frame) => frame,
            },
        };
        if body.inner.is_end_stream() {
            body.progress.end(WHOLE);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(body) => body.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(body) => body.inner.size_hint(),
        }
    }
}

/// An answer's body on its way to the client. When it has ended, the backend's connection goes back
/// to the pool; dropped before, the connection is closed.
pub struct AnswerBody {
    inner: Incoming,
    lease: Option<Lease>,
}

impl AnswerBody {
    pub(super) fn new(inner: Incoming, lease: Lease) -> Self {
        let mut body = Self {
            inner,
            lease: Some(lease),
        };
        body.give_back_at_end();
        body
    }

    fn give_back_at_end(&mut self) {
        if self.inner.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        match &frame {
            Some(Err(_)) => this.lease = None,
            Some(Ok(_)) => this.give_back_at_end(),
            None => {
                if let Some(lease) = this.lease.take() {
                    lease.give_back();
                }
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
