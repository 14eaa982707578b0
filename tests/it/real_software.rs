//! Software that nobody here wrote, unmodified, behind the sidecar and before it. What is needed is found on
//! PATH; where it is missing a test says so loudly and passes, but with `CI=true` it fails.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use aws_lc_rs::digest::{Context, SHA256, digest};
use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;

use crate::harness::outside::{Process, Served, found_all, free_port, run, run_well, skipped};
use crate::harness::{Answer, Backend, Call, SECRET, Sidegate, eventually, program};

// ---------------------------------------------------------------- Prometheus

/// Prometheus on a port of its own, watching itself.
struct Prometheus {
    process: Process,
    addr: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    async fn start() -> Option<Self> {
        if !found_all(&["prometheus"], "apt-get install prometheus") {
            return None;
        }
        let folder = TempDir::new().unwrap();
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let config = folder.path().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 200ms}}\nscrape_configs:\n- job_name: itself\n  static_configs: [{{targets: ['{addr}']}}]\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={addr}"));
        let mut process = Process::start(&mut command, &folder.path().join("log"));
        listening(&mut process, addr).await;
        let direct = Call::to(addr);
        eventually("prometheus is ready and has seen itself", async || {
            let up = direct.get("/api/v1/query?query=up").await;
            up.status == 200 && up.text().contains("\"1\"")
        })
        .await;
        Some(Self {
            process,
            addr,
            _folder: folder,
        })
    }
}

async fn listening(process: &mut Process, addr: SocketAddr) {
    eventually(&format!("something listens on {addr}"), async || {
        process.expect_alive();
        tokio::net::TcpStream::connect(addr).await.is_ok()
    })
    .await;
}

/// What a caller would take for the same answer: status, type and every byte.
#[track_caller]
fn assert_same(what: &str, through: &Answer, direct: &Answer) {
    assert_eq!(through.status, direct.status, "{what}");
    for name in ["content-type", "content-encoding", "location"] {
        assert_eq!(through.header(name), direct.header(name), "{what}: {name}");
    }
    assert!(
        through.body == direct.body,
        "{what}: {} bytes through, {} direct",
        through.body.len(),
        direct.body.len()
    );
}

#[tokio::test]
async fn prometheus_ui_and_api_work_unmodified_behind_the_sidecar() {
    let Some(mut prometheus) = Prometheus::start().await else {
        return;
    };
    let gate = Sidegate::before_url(&format!("http://{}", prometheus.addr))
        .client("grafana", "metrics")
        .start()
        .await;
    let through = gate.as_client("grafana").await;
    let direct = Call::to(prometheus.addr);

    gate.get("/api/v1/query?query=up")
        .await
        .expect_refusal(401, "missing_token");
    for target in ["/-/ready", "/-/healthy", "/", "/api/v1/status/buildinfo"] {
        assert_same(
            target,
            &through.get(target).await,
            &direct.get(target).await,
        );
    }

    // The page, and everything it asks the browser to load.
    let mut target = "/".to_owned();
    let mut page = direct.get(&target).await;
    while page.status.is_redirection() {
        target = page.header("location").unwrap().to_owned();
        page = direct.get(&target).await;
    }
    page.expect_status(200);
    assert_same("the page", &through.get(&target).await, &page);
    let assets = assets(&page.text());
    assert!(assets.iter().any(|asset| asset.contains(".js")));
    assert!(assets.iter().any(|asset| asset.contains(".css")));
    for asset in assets {
        let loaded = direct.get(&asset).await;
        loaded.expect_status(200);
        assert_same(&asset, &through.get(&asset).await, &loaded);
        // As a browser asks, compressed.
        let (through, direct) = (
            through.clone().header("accept-encoding", "gzip"),
            direct.clone().header("accept-encoding", "gzip"),
        );
        assert_same(
            &asset,
            &through.get(&asset).await,
            &direct.get(&asset).await,
        );
    }

    // Answers about one instant in the past do not change.
    let now = direct.get("/api/v1/query?query=time()").await.json();
    let now = now["data"]["result"][0].as_f64().unwrap_or(0.0);
    let query = format!("/api/v1/query?query=up%7Bjob%3D%22itself%22%7D&time={now}");
    assert_same(
        "a query",
        &through.get(&query).await,
        &direct.get(&query).await,
    );

    // A dashboard's query is longer than any URL and comes as a form.
    let many: Vec<_> = (0..4000)
        .map(|n| format!("up%7Bjob%3D%22job-{n}%22%7D"))
        .collect();
    let form = format!("query={}&time={now}", many.join("+or+"));
    assert!(form.len() > 64 << 10, "{}", form.len());
    let as_form = |call: &Call| {
        call.clone()
            .header("content-type", "application/x-www-form-urlencoded")
    };
    let answer = as_form(&through).post("/api/v1/query", form.clone()).await;
    answer.expect_status(200);
    assert_same(
        "a long query",
        &answer,
        &as_form(&direct).post("/api/v1/query", form).await,
    );

    // Remote read: binary both ways.
    let read = remote_read(now);
    let as_read = |call: &Call| {
        call.clone()
            .header("content-type", "application/x-protobuf")
            .header("content-encoding", "snappy")
            .header("x-prometheus-remote-read-version", "0.1.0")
    };
    let answer = as_read(&through).post("/api/v1/read", read.clone()).await;
    answer.expect_status(200);
    assert!(answer.body.windows(6).any(|part| part == b"itself"));
    assert_same(
        "remote read",
        &answer,
        &as_read(&direct).post("/api/v1/read", read).await,
    );
    prometheus.process.expect_alive();
}

/// The paths in `src="…"` and `href="…"` that the page's own server serves.
fn assets(page: &str) -> Vec<String> {
    let mut found: Vec<_> = ["src=\"", "href=\""]
        .iter()
        .flat_map(|attribute| page.split(attribute).skip(1))
        .filter_map(|rest| rest.split('"').next())
        .map(|path| path.trim_start_matches('.').to_owned())
        .filter(|path| path.contains("/static/") && path.starts_with('/'))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// A remote-read request for `up` until `now`, as protobuf in an uncompressed snappy block.
fn remote_read(now: f64) -> Bytes {
    fn varint(mut n: u64, out: &mut Vec<u8>) {
        while n >= 0x80 {
            out.push((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
    }
    fn field(number: u8, content: &[u8], out: &mut Vec<u8>) {
        out.push(number << 3 | 2);
        varint(content.len() as u64, out);
        out.extend_from_slice(content);
    }
    let mut matcher = Vec::new();
    field(2, b"__name__", &mut matcher);
    field(3, b"up", &mut matcher);
    let end = (now * 1000.0) as u64;
    let mut query = Vec::new();
    for (number, time) in [(1, end - 60_000), (2, end)] {
        query.push(number << 3);
        varint(time, &mut query);
    }
    field(3, &matcher, &mut query);
    let mut message = Vec::new();
    field(1, &query, &mut message);

    assert!(message.len() <= 60, "one literal of snappy's short form");
    let mut block = Vec::new();
    varint(message.len() as u64, &mut block);
    block.push((message.len() as u8 - 1) << 2);
    block.extend_from_slice(&message);
    block.into()
}

// ---------------------------------------------------------------- docker-registry

const BLOB_PIECES: u64 = 200;
const PIECE: usize = 1 << 20;
/// How much more memory 800 MiB of transfers may take, in KiB.
const MEMORY_RISE: u64 = 8 << 10;

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// One MiB of a blob; each is another one, and nothing in it compresses well.
fn piece(seed: u64, number: u64) -> Bytes {
    let mut state = seed ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::with_capacity(PIECE);
    // Sixteen bytes of news for each KiB are enough to notice anything lost, doubled or moved.
    for _ in 0..PIECE / 1024 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes().repeat(128));
    }
    bytes.into()
}

fn blob(seed: u64) -> Body {
    let pieces = (0..BLOB_PIECES).map(move |n| Ok(Frame::data(piece(seed, n))));
    StreamBody::new(stream::iter(pieces)).boxed_unsync()
}

fn blob_digest(seed: u64) -> String {
    let mut sha = Context::new(&SHA256);
    for n in 0..BLOB_PIECES {
        sha.update(&piece(seed, n));
    }
    named(sha.finish().as_ref())
}

fn named(sha: &[u8]) -> String {
    let hex: String = sha.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn nothing() -> Body {
    Empty::new().boxed_unsync()
}

/// A caller whose bodies are streams, as those of registry clients are.
struct Pusher {
    addr: SocketAddr,
    token: String,
}

impl Pusher {
    async fn send(
        &self,
        method: Method,
        target: &str,
        length: Option<u64>,
        body: Body,
    ) -> Streamed {
        let stream = tokio::net::TcpStream::connect(self.addr).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", self.addr.to_string())
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/octet-stream");
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let response = sender.send_request(request.body(body).unwrap()).await;
        Streamed(response.unwrap())
    }

    /// Begins an upload; gives the target that its `Location` names, as a client would follow it.
    async fn begin(&self, name: &str) -> String {
        let target = format!("/v2/{name}/blobs/uploads/");
        let begun = self
            .send(Method::POST, &target, Some(0), nothing())
            .await
            .expect(202);
        self.location(&begun)
    }

    /// The registry's URLs lead back to the sidecar, since it is told the host that the client called.
    fn location(&self, answer: &Response<Incoming>) -> String {
        let location = answer.headers()["location"].to_str().unwrap();
        let own = format!("http://{}", self.addr);
        let target = location.strip_prefix(&own);
        target
            .unwrap_or_else(|| panic!("{location} leads past {own}"))
            .to_owned()
    }

    /// Pulls a blob and gives its length and digest.
    async fn pull(&self, name: &str, digest: &str) -> (u64, String) {
        let target = format!("/v2/{name}/blobs/{digest}");
        let answer = self.send(Method::GET, &target, None, nothing()).await;
        let mut body = answer.expect(200).into_body();
        let (mut sha, mut length) = (Context::new(&SHA256), 0);
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap_or_default();
            length += data.len() as u64;
            sha.update(&data);
        }
        (length, named(sha.finish().as_ref()))
    }
}

struct Streamed(Response<Incoming>);

impl Streamed {
    #[track_caller]
    fn expect(self, status: u16) -> Response<Incoming> {
        assert_eq!(self.0.status().as_u16(), status, "{:?}", self.0);
        self.0
    }
}

fn with(target: &str, parameter: &str) -> String {
    let joint = if target.contains('?') { '&' } else { '?' };
    format!("{target}{joint}{parameter}")
}

async fn registry(folder: &Path) -> Option<(Process, SocketAddr)> {
    if !found_all(&["docker-registry"], "apt-get install docker-registry") {
        return None;
    }
    let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config = folder.join("registry.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: warn}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp: {{addr: '{addr}'}}\n",
        folder.join("blobs").display()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(&config);
    let mut process = Process::start(&mut command, &folder.join("registry.log"));
    listening(&mut process, addr).await;
    Some((process, addr))
}

#[tokio::test]
async fn a_registry_blob_of_200_mib_goes_up_and_down_byte_for_byte_in_flat_memory() {
    let folder = TempDir::new().unwrap();
    let Some((mut registry, addr)) = registry(folder.path()).await else {
        return;
    };
    let gate = Served::start(&format!(
        "[upstreams.default]\nurl = \"http://{addr}\"\n[[clients]]\nid = \"ci\"\nsecret = \"{SECRET}\"\nscopes = [\"push\"]\n"
    ))
    .await;
    let pusher = Pusher {
        addr: gate.addr,
        token: gate.token("ci").await,
    };
    gate.call()
        .get("/v2/")
        .await
        .expect_refusal(401, "missing_token");
    // Everything has been used once before memory is looked at.
    let small = pusher.begin("warm/up").await;
    let of_nothing = named(digest(&SHA256, b"").as_ref());
    pusher
        .send(
            Method::PUT,
            &with(&small, &format!("digest={of_nothing}")),
            Some(0),
            nothing(),
        )
        .await
        .expect(201);
    let before = gate.process.memory("VmHWM");
    let size = BLOB_PIECES * PIECE as u64;

    // In chunks, without a length.
    let chunked = blob_digest(1);
    let target = pusher.begin("big/chunked").await;
    let sent = pusher
        .send(Method::PATCH, &target, None, blob(1))
        .await
        .expect(202);
    assert_eq!(
        sent.headers()["range"].to_str().unwrap(),
        format!("0-{}", size - 1)
    );
    let target = with(&pusher.location(&sent), &format!("digest={chunked}"));
    pusher
        .send(Method::PUT, &target, Some(0), nothing())
        .await
        .expect(201);

    // In one piece, with its length.
    let whole = blob_digest(2);
    let target = with(&pusher.begin("big/whole").await, &format!("digest={whole}"));
    let stored = pusher
        .send(Method::PUT, &target, Some(size), blob(2))
        .await
        .expect(201);
    assert_eq!(
        pusher.location(&stored),
        format!("/v2/big/whole/blobs/{whole}")
    );

    for (name, digest) in [("big/chunked", chunked), ("big/whole", whole)] {
        assert_eq!(pusher.pull(name, &digest).await, (size, digest));
    }
    let rise = gate.process.memory("VmHWM").saturating_sub(before);
    eprintln!("peak memory: {before} KiB before, {rise} KiB more after 800 MiB");
    assert!(
        rise < MEMORY_RISE,
        "{rise} KiB more than the {before} KiB before"
    );
    registry.expect_alive();
}

#[tokio::test]
async fn a_registry_behind_a_trusted_proxy_builds_its_urls_from_what_that_proxy_says() {
    let folder = TempDir::new().unwrap();
    let Some((_registry, addr)) = registry(folder.path()).await else {
        return;
    };
    let gate = Sidegate::before_url(&format!("http://{addr}"))
        .server("trusted_proxies = [\"127.0.0.0/8\"]")
        .client("ci", "push")
        .start()
        .await;
    let answer = gate
        .as_client("ci")
        .await
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "registry.example.com")
        .post("/v2/some/name/blobs/uploads/", "")
        .await;
    answer.expect_status(202);
    let location = answer.header("location").unwrap();
    assert!(
        location.starts_with("https://registry.example.com/v2/some/name/blobs/uploads/"),
        "{location}"
    );
}

// ---------------------------------------------------------------- callers

/// The sidecar's own echo backend and a sidecar before it, both as shipped.
async fn before_echo(folder: &TempDir) -> (Process, Served) {
    let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut command = program();
    command.args(["echo", "--listen", &addr.to_string()]);
    let mut echo = Process::start(&mut command, &folder.path().join("echo.log"));
    listening(&mut echo, addr).await;
    let gate = Served::start(&format!(
        "[upstreams.default]\nurl = \"http://{addr}\"\n[[clients]]\nid = \"demo-app\"\nsecret = \"{SECRET}\"\nscopes = [\"sudo\"]\n"
    ))
    .await;
    (echo, gate)
}

async fn python_calls(script: &str) {
    let mend = "apt-get install python3, then pip install requests requests-oauthlib";
    if !found_all(&["python3"], mend) {
        return;
    }
    let mut probe = Command::new("python3");
    probe.args(["-c", "import requests, requests_oauthlib"]);
    if !run(probe).await.status.success() {
        skipped("python3 has no requests or no requests-oauthlib", mend);
        return;
    }
    let folder = TempDir::new().unwrap();
    let (_echo, gate) = before_echo(&folder).await;
    let mut command = Command::new("python3");
    command
        .arg(format!(
            "{}/tests/it/real/{script}",
            env!("CARGO_MANIFEST_DIR")
        ))
        .args([&format!("http://{}", gate.addr), "demo-app", SECRET]);
    assert_eq!(run_well(command).await, "ok\n");
}

#[tokio::test]
async fn python_requests_gets_a_token_calls_streams_and_revokes() {
    python_calls("requests_caller.py").await;
}

#[tokio::test]
async fn requests_oauthlib_takes_the_string_in_expires_in_and_calls_with_the_token() {
    python_calls("oauthlib_caller.py").await;
}

#[tokio::test]
async fn curl_gets_a_token_by_form_or_query_uploads_and_waits_for_100_continue() {
    if !found_all(&["curl"], "apt-get install curl") {
        return;
    }
    let folder = TempDir::new().unwrap();
    let (_echo, gate) = before_echo(&folder).await;
    let base = format!("http://{}", gate.addr);
    let curl = async |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command
            .args(["-sS", "--max-time", "10", "-q"])
            .args(arguments);
        run_well(command).await
    };
    let tokens = format!("{base}/api/oauth2/server/tokens");
    let secret = format!("client_secret={SECRET}");
    let credentials = [
        "-d",
        "grant_type=client_credentials",
        "-d",
        "client_id=demo-app",
        "-d",
        &secret,
    ];
    let by_form = curl(&[&credentials[..], &[&tokens]].concat()).await;
    let by_query = curl(&[&["-G"], &credentials[..], &[&tokens]].concat()).await;
    for answer in [&by_form, &by_query] {
        let answer: serde_json::Value = serde_json::from_str(answer).unwrap();
        assert_eq!(answer["token_type"], "bearer");
        assert_eq!(answer["expires_in"], "43200");
    }
    let answer: serde_json::Value = serde_json::from_str(&by_form).unwrap();
    let bearer = format!(
        "Authorization: Bearer {}",
        answer["access_token"].as_str().unwrap()
    );

    // A body for which curl asks first, and one that it sends in chunks.
    let body = vec![b'z'; 3 << 20];
    let file = folder.path().join("body");
    std::fs::write(&file, &body).unwrap();
    let expected = named(digest(&SHA256, &body).as_ref());
    for more in [
        &["-H", "Expect: 100-continue"][..],
        &["-H", "Transfer-Encoding: chunked"][..],
    ] {
        let upload = ["-T", file.to_str().unwrap(), "-H", &bearer];
        let target = format!("{base}/upload?sudo=uid:7");
        let seen = curl(&[&upload[..], more, &[&target]].concat()).await;
        let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
        assert_eq!(seen["method"], "PUT");
        assert_eq!(seen["body_bytes"], body.len());
        assert!(expected.ends_with(seen["body_sha256"].as_str().unwrap()));
    }

    let refused = curl(&["-w", "%{http_code}", "-o", "/dev/null", &base]).await;
    assert_eq!(refused, "401");
}

/// A backend that must never be asked: what is refused is refused before it.
#[tokio::test]
async fn curl_sees_a_large_upload_without_a_token_refused_before_it_is_sent() {
    if !found_all(&["curl"], "apt-get install curl") {
        return;
    }
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend).start().await;
    let mut command = Command::new("curl");
    command
        .args(["-sS", "-q", "--max-time", "10", "-o", "/dev/null"])
        .args(["-w", "%{http_code} %{size_upload}"])
        .args(["-H", "Expect: 100-continue", "--expect100-timeout", "10"])
        .args(["--data-binary", &"x".repeat(100_000)])
        .arg(format!("http://{}/", gate.addr));
    assert_eq!(run_well(command).await, "401 0");
    assert!(backend.requests().is_empty());
}
