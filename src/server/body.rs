//! Bodies as they pass through the server: the connection knows from them how far a request has come.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::slot::{Phase, RequestBody, Slot};

/// A request's body. Dropped before its end, the connection closes after the answer, unless the rest is
/// there already.
#[derive(Debug, Default)]
pub struct Received {
    body: Option<Incoming>,
    /// Held until the body has ended.
    slot: Option<Arc<Slot>>,
}

impl Received {
    /// Of a request that came over no connection.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    pub(super) fn new(body: Incoming, slot: &Arc<Slot>) -> Self {
        let slot = (!body.is_end_stream()).then(|| Arc::clone(slot));
        Self {
            body: Some(body),
            slot,
        }
    }

    fn mark(&mut self, state: RequestBody) {
        if let Some(slot) = self.slot.take() {
            slot.set_request_body(state);
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        let ended = body.is_end_stream();
        match &frame {
            Some(Err(_)) => self.mark(RequestBody::Left),
            None => self.mark(RequestBody::Done),
            Some(Ok(_)) if ended => self.mark(RequestBody::Done),
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.mark(RequestBody::Left);
    }
}

/// An answer's body on its way to the client.
#[derive(Debug)]
pub(super) struct Answer<B> {
    body: B,
    slot: Arc<Slot>,
}

impl<B> Answer<B> {
    pub(super) fn new(body: B, slot: Arc<Slot>) -> Self {
        Self { body, slot }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Err(_)) = &frame {
            self.slot.enter(Phase::Broken);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        // The codec lets go of a body that has ended, or of which nothing may be sent (HEAD, 204, 304).
        if self.slot.phase() == Phase::Answering {
            self.slot.enter(Phase::Ended);
        }
    }
}
