//! A sidecar in this process, and requests to it.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use sidegate::app::{self, Options, Running};
use sidegate::base::clock::Clock;
use sidegate::observe::{self, Lines};
use tempfile::TempDir;

use super::{Backend, Raw, soon};

/// What the clients of tests prove themselves with.
pub const SECRET: &str = "test-secret-0123456789";

/// A sidecar to be.
pub struct Builder {
    /// Tables of the configuration, by what they begin with.
    text: String,
    server: String,
    upstream: String,
    clock: Clock,
    pub(super) folder: Arc<TempDir>,
}

/// A sidecar that runs. Ends when dropped, or gracefully by [`stop`](Self::stop).
pub struct Sidegate {
    running: Option<Running>,
    pub addr: SocketAddr,
    pub admin: SocketAddr,
    pub clock: Clock,
    log: Log,
    folder: Arc<TempDir>,
}

impl Sidegate {
    /// A sidecar before this backend, with the default route.
    pub fn before(backend: &Backend) -> Builder {
        Self::before_url(&format!("http://{}", backend.addr))
    }

    /// A sidecar before the service at this URL.
    pub fn before_url(url: &str) -> Builder {
        Builder {
            text: String::new(),
            server: String::new(),
            upstream: format!("url = \"{url}\"\n"),
            clock: Clock::system(),
            folder: Arc::new(TempDir::new().unwrap()),
        }
    }
}

impl Builder {
    /// Adds tables to the configuration.
    pub fn config(mut self, tables: &str) -> Self {
        self.text.push_str(tables);
        self.text.push('\n');
        self
    }

    /// Adds keys to `[server]`.
    pub fn server(mut self, keys: &str) -> Self {
        self.server.push_str(keys);
        self.server.push('\n');
        self
    }

    /// Adds keys to `[upstreams.default]`.
    pub fn upstream(mut self, keys: &str) -> Self {
        self.upstream.push_str(keys);
        self.upstream.push('\n');
        self
    }

    /// Adds a client of the file with these scopes (separated by spaces) and everything allowed.
    pub fn client(self, id: &str, scopes: &str) -> Self {
        self.client_with(id, scopes, "")
    }

    /// The same with further keys.
    pub fn client_with(self, id: &str, scopes: &str, keys: &str) -> Self {
        let scopes: Vec<_> = scopes
            .split(' ')
            .filter(|scope| !scope.is_empty())
            .collect();
        self.config(&format!(
            "[[clients]]\nid = \"{id}\"\nsecret = \"{SECRET}\"\nscopes = {scopes:?}\n{keys}"
        ))
    }

    /// A clock that the test moves.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Uses the folder, and with it the store, of another sidecar.
    pub fn beside(mut self, other: &Sidegate) -> Self {
        self.folder = Arc::clone(&other.folder);
        self
    }

    pub(super) fn toml(&self) -> String {
        format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\nworkers = 1\n{}\n[upstreams.default]\n{}\n{}",
            self.server, self.upstream, self.text
        )
    }

    /// Starts it; a mistake in its configuration fails the test.
    pub async fn start(self) -> Sidegate {
        match self.try_start().await {
            Ok(started) => started,
            Err(error) => panic!("{error}"),
        }
    }

    /// Starts it, or says why not.
    pub async fn try_start(self) -> Result<Sidegate, String> {
        let text = self.toml();
        let file = self.folder.path().join("config.toml");
        std::fs::write(&file, &text).unwrap();
        let config = sidegate::config::load(&file, std::iter::empty::<(String, String)>())
            .map_err(|mistakes| mistakes.to_string())?;
        let log = Log::default();
        let lines = Lines::to(log.clone(), observe::settings::Format::Json);
        let options = Options {
            runtime_directory: Some(self.folder.path().into()),
            lines,
            clock: self.clock.clone(),
        };
        let running = app::start(config, options)
            .await
            .map_err(|error| error.to_string())?;
        Ok(Sidegate {
            addr: running.data_addrs()[0],
            admin: running.admin_addr(),
            clock: self.clock,
            running: Some(running),
            log,
            folder: self.folder,
        })
    }
}

impl Sidegate {
    /// The folder with its configuration and its store.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What is running.
    pub fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// Stops it as SIGTERM does.
    pub async fn stop(mut self) {
        let running = self.running.take().unwrap();
        soon("the sidecar stops", running.stop(std::future::pending())).await;
    }

    /// A token of this client, issued by the endpoint.
    pub async fn token(&self, client: &str) -> String {
        let target = format!(
            "/api/oauth2/server/tokens?grant_type=client_credentials&client_id={client}&client_secret={SECRET}"
        );
        let answer = self.get(&target).await;
        answer.expect_status(200);
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// A caller with a token of this client.
    pub async fn as_client(&self, client: &str) -> Call {
        let token = self.token(client).await;
        self.call()
            .header("authorization", &format!("Bearer {token}"))
    }

    /// A caller without a token.
    pub fn call(&self) -> Call {
        Call::to(self.addr)
    }

    /// GET without a token.
    pub async fn get(&self, target: &str) -> Answer {
        self.call().get(target).await
    }

    /// GET on the admin listener.
    pub async fn admin_get(&self, target: &str) -> Answer {
        Call::to(self.admin).get(target).await
    }

    /// The value of one sample in `/metrics`; zero where it is not there.
    pub async fn metric(&self, sample: &str) -> f64 {
        let text = self.admin_get("/metrics").await.text();
        text.lines()
            .filter_map(|line| line.rsplit_once(' '))
            .find(|(name, _)| *name == sample)
            .map_or(0.0, |(_, value)| value.parse().unwrap())
    }

    /// A connection for bytes.
    pub async fn raw(&self) -> Raw {
        Raw::connect(self.addr).await
    }

    /// The whole log so far.
    pub fn log_text(&self) -> String {
        String::from_utf8(
            self.log
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
        .unwrap()
    }

    /// Log lines of this kind so far ("access", "audit", "log").
    pub fn log(&self, kind: &str) -> Vec<serde_json::Value> {
        self.log_text()
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line)
                    .unwrap_or_else(|_| panic!("no JSON: {line}"))
            })
            .filter(|line| line["kind"] == kind)
            .collect()
    }

    /// The first log line of this kind for which `is` holds, once it is written.
    pub async fn logged(
        &self,
        kind: &str,
        is: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let mut found = None;
        super::eventually(&format!("a line of kind {kind}"), async || {
            found = self.log(kind).into_iter().find(|line| is(line));
            found.is_some()
        })
        .await;
        found.unwrap()
    }
}

impl Drop for Sidegate {
    /// Whatever a test did: no secret and no token stands in any line of the log.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let text = self.log_text();
        for secret in [SECRET, "sgt_", "access_token="] {
            let leak = text.lines().find(|line| line.contains(secret));
            assert_eq!(leak, None, "{secret} in the log");
        }
    }
}

/// Log lines kept in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A caller: what it sends with each request. Every request is a connection of its own.
#[derive(Clone)]
pub struct Call {
    pub addr: SocketAddr,
    headers: Vec<(String, String)>,
}

impl Call {
    /// A caller of this address that sends nothing but a Host.
    pub fn to(addr: SocketAddr) -> Self {
        Self {
            addr,
            headers: vec![("host".to_owned(), "service.test".to_owned())],
        }
    }

    /// With this token.
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Adds a header line.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Leaves a header out.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(own, _)| own != name);
        self
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.send("GET", target, "").await
    }

    pub async fn post(&self, target: &str, body: impl Into<Bytes>) -> Answer {
        self.send("POST", target, body).await
    }

    /// Sends one request and reads the whole answer.
    pub async fn send(&self, method: &str, target: &str, body: impl Into<Bytes>) -> Answer {
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(target);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        soon(&format!("{method} {target}"), self.exchange(request)).await
    }

    /// GET from a sidecar that may be killed meanwhile: `None` where no whole answer came.
    pub async fn try_get(&self, target: &str) -> Option<Answer> {
        let mut request = Request::get(target);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::default()).unwrap();
        soon(target, self.try_exchange(request)).await.ok()
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Answer {
        self.try_exchange(request).await.unwrap()
    }

    async fn try_exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let stream = tokio::net::TcpStream::connect(self.addr).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        connection.abort();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// Fails the test, showing the answer, if its status is another one.
    #[track_caller]
    pub fn expect_status(&self, status: u16) -> &Self {
        assert_eq!(self.status.as_u16(), status, "{self:#?}");
        self
    }

    /// Fails the test unless it is the refusal with this word, in the form of contract §3.
    #[track_caller]
    pub fn expect_refusal(&self, status: u16, word: &str) -> &Self {
        self.expect_status(status);
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        let problem = self.json();
        assert_eq!(problem["error"], word, "{problem:#}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"));
        let whole = format!("{self:?}");
        assert!(
            !whole.contains(SECRET) && !whole.contains("sgt_"),
            "{whole}"
        );
        self
    }

    /// The value of the only header of this name.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.get_all(name).iter();
        let first = found.next()?;
        assert!(found.next().is_none(), "{name} came more than once");
        first.to_str().ok()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
