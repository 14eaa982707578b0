//! A client on an in-memory wire, and handlers made of closures.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf,
};
use tokio::task::JoinHandle;

use super::connection::{Terms, serve};
use super::connections::Connections;
use super::drain::Drain;
use super::io::Transport;
use super::settings::Settings;
use super::slot::Slot;
use super::{BoxError, Handler, Peer, Received};

pub(super) type TestBody = UnsyncBoxBody<Bytes, BoxError>;

/// A handler made of a closure.
pub(super) struct Answers<F>(pub(super) F);

impl<F> Handler for Answers<F>
where
    F: Fn(Request<Received>) -> BoxFuture<'static, Response<TestBody>> + Send + Sync + 'static,
{
    type Body = TestBody;

    fn call(
        &self,
        request: Request<Received>,
        _peer: Peer,
    ) -> impl Future<Output = Response<TestBody>> + Send {
        (self.0)(request)
    }
}

pub(super) fn full(text: impl Into<Bytes>) -> TestBody {
    Full::new(text.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// A body of unknown length: the pieces, then what `end` says.
pub(super) fn pieces(pieces: Vec<&'static str>, end: End) -> TestBody {
    use futures_util::stream::{self, StreamExt as _};
    let pieces = stream::iter(pieces).map(|piece| Ok(Frame::data(Bytes::from(piece))));
    let end = stream::iter([end]).filter_map(|end| async move {
        match end {
            End::Whole => None,
            End::Error => {
                // The pieces are on their way before it breaks.
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                Some(Err(BoxError::from("the backend died")))
            }
            End::Never => std::future::pending().await,
        }
    });
    StreamBody::new(pieces.chain(end).boxed()).boxed_unsync()
}

/// How a test's body ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Whole,
    Error,
    Never,
}

/// Answers every request with its path and the body's length.
pub(super) fn echo() -> impl Handler {
    Answers(|request: Request<Received>| -> BoxFuture<'static, _> {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let text = match body.collect().await {
                Ok(body) => format!("{} {}\n", parts.uri, body.to_bytes().len()),
                Err(_) => "the body broke off\n".to_owned(),
            };
            Response::new(full(text))
        })
    })
}

/// The server's end of the wire.
pub(super) struct Wire {
    stream: DuplexStream,
    reset: Arc<AtomicBool>,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Transport for Wire {
    fn reset_on_close(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }
}

/// A client, and what it needs to know of the connection at the other end.
pub(super) struct Client {
    pub(super) wire: DuplexStream,
    pub(super) slot: Arc<Slot>,
    pub(super) connections: Arc<Connections>,
    pub(super) drain: Drain,
    pub(super) served: JoinHandle<()>,
    reset: Arc<AtomicBool>,
}

impl Client {
    pub(super) fn connect(settings: &Settings, handler: impl Handler) -> Self {
        let (wire, stream) = tokio::io::duplex(64 << 10);
        let reset = Arc::new(AtomicBool::new(false));
        let connections = Connections::new(10, 0);
        let drain = Drain::new();
        let terms = Terms::new(settings, drain.clone());
        let ip = [192, 0, 2, 1].into();
        let lease = connections.try_admit(ip, terms.watch_bytes()).unwrap();
        let slot = Arc::clone(lease.slot());
        let peer = Peer {
            addr: (ip, 40_000).into(),
            local: ([192, 0, 2, 9], 8080).into(),
        };
        let transport = Wire {
            stream,
            reset: Arc::clone(&reset),
        };
        let serving = serve(transport, peer, Arc::new(handler), Arc::new(terms), lease);
        Self {
            wire,
            slot,
            connections,
            drain,
            served: tokio::spawn(serving),
            reset,
        }
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until what came ends in `end`.
    pub(super) async fn read_until(&mut self, end: &str) -> String {
        let mut got = Vec::new();
        while !got.ends_with(end.as_bytes()) {
            let mut byte = [0];
            let n = self.wire.read(&mut byte).await.unwrap();
            assert_ne!(n, 0, "closed after {:?}", String::from_utf8_lossy(&got));
            got.extend_from_slice(&byte);
        }
        String::from_utf8(got).unwrap()
    }

    /// Reads until the server shuts its side.
    pub(super) async fn read_to_end(&mut self) -> String {
        let mut got = Vec::new();
        self.wire.read_to_end(&mut got).await.unwrap();
        String::from_utf8(got).unwrap()
    }

    /// Whether the close was made a reset; asked once the connection has ended.
    pub(super) fn was_reset(&self) -> bool {
        self.reset.load(Ordering::Relaxed)
    }

    /// Lets the connection's task run until it has nothing to do.
    pub(super) async fn settle(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}
