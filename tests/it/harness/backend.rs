//! A backend that writes down what arrived.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The body of a backend's answer.
pub type BackendBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// One request as the backend saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Path and query, byte for byte.
    pub target: String,
    /// Names in lower case, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Bytes,
    pub trailers: Vec<(String, Vec<u8>)>,
}

impl Seen {
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The value of the only header of this name; more than one fails the test.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(own, _)| own == name);
        let first = found.next()?;
        assert!(found.next().is_none(), "{name} arrived more than once");
        Some(std::str::from_utf8(&first.1).unwrap())
    }

    pub fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(own, _)| own == name)
    }
}

/// A backend on a port of its own. Ends when dropped.
pub struct Backend {
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Backend {
    /// Answers 200 "ok" to everything.
    pub async fn recording() -> Self {
        Self::answering(|_| Response::new(Full::new(Bytes::from_static(b"ok")))).await
    }

    /// Answers what `answer` makes of each request.
    pub async fn answering<B>(
        answer: impl Fn(&Seen) -> Response<B> + Clone + Send + Sync + 'static,
    ) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let record = Arc::clone(&seen);
        Self::serving(seen, move |stream| {
            let (answer, record) = (answer.clone(), Arc::clone(&record));
            async move {
                let service = service_fn(|request: Request<Incoming>| {
                    let (answer, record) = (answer.clone(), Arc::clone(&record));
                    async move {
                        let seen = read(request).await;
                        let response = answer(&seen);
                        record.lock().unwrap().push(seen);
                        let boxed = |body: B| BackendBody::new(body.map_err(Into::into));
                        Ok::<_, Infallible>(response.map(boxed))
                    }
                });
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        })
        .await
    }

    /// Gives each connection to `serve`, for backends that misbehave.
    pub async fn raw<F: Future<Output = ()> + Send>(
        serve: impl Fn(TcpStream) -> F + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::serving(Arc::default(), serve).await
    }

    async fn serving<F: Future<Output = ()> + Send>(
        seen: Arc<Mutex<Vec<Seen>>>,
        serve: impl Fn(TcpStream) -> F + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let serve = serve.clone();
                tokio::spawn(async move { serve(stream).await });
            }
        });
        Self { addr, seen, task }
    }

    /// All requests that arrived and were read to their end.
    pub fn requests(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The one request that arrived; none or several fail the test.
    pub fn only_request(&self) -> Seen {
        let requests = self.requests();
        assert_eq!(
            requests.len(),
            1,
            "requests that reached the backend: {requests:#?}"
        );
        requests[0].clone()
    }
}

async fn read(request: Request<Incoming>) -> Seen {
    let (parts, body) = request.into_parts();
    let collected = body.collect().await;
    let lines = |headers: &http::HeaderMap| {
        headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect::<Vec<_>>()
    };
    let trailers = collected
        .as_ref()
        .ok()
        .and_then(|body| body.trailers().map(lines));
    Seen {
        method: parts.method.as_str().to_owned(),
        target: parts.uri.to_string(),
        headers: lines(&parts.headers),
        body: collected
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default(),
        trailers: trailers.unwrap_or_default(),
    }
}
