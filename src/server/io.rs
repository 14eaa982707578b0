//! The byte stream below the HTTP codec: notes when bytes move and when an answer is written, lingers when
//! it is shut down, and breaks visibly when an answer was cut.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::slot::{Eof, Phase, RequestBody, Slot};

/// How much a client may still send after our last answer before it is cut off.
const LINGER_BYTES: usize = 16 << 20;

/// What a connection can run over: TCP now, TLS and Unix sockets in their time.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Makes the coming close a reset, so that the peer cannot take it for an orderly end.
    fn reset_on_close(&self);
}

impl Transport for TcpStream {
    fn reset_on_close(&self) {
        // When the peer is gone already there is nobody left to tell.
        let _ = self.set_zero_linger();
    }
}

/// A transport as the HTTP codec sees it.
#[derive(Debug)]
pub(super) struct Io<T: Transport> {
    inner: T,
    slot: Arc<Slot>,
    write_is_shut: bool,
    /// Bytes that are still thrown away.
    linger: usize,
}

impl<T: Transport> Io<T> {
    pub(super) fn new(inner: T, slot: Arc<Slot>) -> Self {
        Self {
            inner,
            slot,
            write_is_shut: false,
            linger: LINGER_BYTES,
        }
    }

    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(1..)) = written {
            self.slot.note_bytes();
        }
    }

    /// Throws away what the client sends until it closes. Without this, closing while its bytes arrive
    /// resets the connection, and a reset takes our answer with it if the client has not read it yet.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 8 << 10];
        loop {
            let mut buf = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.inner).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if buf.filled().is_empty() => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {
                    self.linger = self.linger.saturating_sub(buf.filled().len());
                    if self.linger == 0 {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<T: Transport> AsyncRead for Io<T> {
    /// While a request is in flight the end of the client's bytes is kept from the codec, which would take
    /// it for the client's end and drop the request; the connection's task says when it may know.
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            this.slot.received();
        } else if this.slot.phase().in_flight() && !this.slot.eof_is(Eof::Told) {
            this.slot.set_eof(Eof::Held);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> AsyncWrite for Io<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.wrote(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        this.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// The codec flushes only once all it has buffered is written: if the body has ended, so has the
    /// answer. A request whose body is still read is in flight all the same.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.inner).poll_flush(cx))?;
        if this.slot.phase() == Phase::Ended && !this.slot.request_body_is(RequestBody::Open) {
            this.slot.enter(Phase::Idle);
        }
        Poll::Ready(Ok(()))
    }

    /// Shuts our side, then lingers if the client may still be sending: a body that was not read to its
    /// end, or a head that could not be. The connection's task bounds the time.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.write_is_shut {
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
            this.write_is_shut = true;
        }
        let lingers = match this.slot.phase() {
            Phase::Lingering | Phase::Fresh | Phase::Head => true,
            _ => !this.slot.request_body_is(RequestBody::Done),
        };
        if lingers && this.slot.phase() != Phase::Lingering {
            this.slot.enter(Phase::Lingering);
        }
        // What has arrived already is taken out in any case: unread bytes alone make a close a reset.
        match this.poll_linger(cx) {
            Poll::Pending if lingers => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl<T: Transport> Drop for Io<T> {
    fn drop(&mut self) {
        // An answer whose end is the connection's end (HTTP/1.0) would look whole; the others carry a
        // length or a last chunk that is now missing.
        let cut = matches!(
            self.slot.phase(),
            Phase::Answering | Phase::Ended | Phase::Broken
        );
        if cut && self.slot.close_delimited() {
            self.inner.reset_on_close();
        }
    }
}
