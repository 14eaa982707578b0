//! A backend that answers with what it was sent: `sidegate echo`, the backend of `sidegate dev`, and
//! a witness for tests. Knows nothing of us.
//!
//! The answer is one JSON object and a line feed: `{method, path, query, headers, body_bytes,
//! body_sha256}`. Header names are shown as they stood on the wire and in that order, as far as that
//! can be told; bodies of any size are counted and hashed as they come, never kept.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Header lines taken; more than the sidecar lets through and adds.
const HEADERS_MAX: usize = 1024;
/// Most of a head that is kept to show its names as they were written.
const RECORDED_MAX: usize = 256 << 10;
/// How long a failing accept (no file descriptors left) waits before it tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers on `listener` until `stop` resolves; connections that are open then are closed at once.
pub async fn serve(listener: TcpListener, stop: impl Future<Output = ()>) {
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream))),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream) {
    let heads = Heads::default();
    let io = Recorder {
        stream,
        heads: heads.clone(),
    };
    let answer = service_fn(move |request| {
        let heads = heads.clone();
        async move { Ok::<_, Infallible>(answer(request, &heads).await) }
    });
    // Whoever sent something that is no HTTP has been told by hyper; there is nobody else to tell.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(io), answer)
        .await;
}

async fn answer(request: Request<Incoming>, heads: &Heads) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let headers = heads
        .take()
        .and_then(|head| as_written(&head, &parts.headers))
        .unwrap_or_else(|| as_parsed(&parts.headers));
    let body = measure(body).await;
    // From here on, what arrives is the next head.
    heads.begin();
    let Ok((bytes, sha256)) = body else {
        // The client broke off: nobody reads this, but a broken body must not look like a whole one.
        return response(
            StatusCode::BAD_REQUEST,
            &json!({"error": "the body broke off"}),
        );
    };
    let seen = json!({
        "method": parts.method.as_str(),
        "path": parts.uri.path(),
        "query": parts.uri.query(),
        "headers": headers,
        "body_bytes": bytes,
        "body_sha256": sha256,
    });
    response(StatusCode::OK, &seen)
}

/// Length and SHA-256 of a body, in memory of one frame.
async fn measure(mut body: Incoming) -> Result<(u64, String), hyper::Error> {
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut bytes = 0u64;
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            hash.update(data);
            bytes += data.len() as u64;
        }
    }
    let hex = |byte: &u8| format!("{byte:02x}");
    Ok((bytes, hash.finish().as_ref().iter().map(hex).collect()))
}

fn response(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{body}\n")));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

type Pairs = Vec<(String, String)>;

/// The headers in hyper's reading: names in lower case, lines of one name together.
fn as_parsed(headers: &HeaderMap) -> Pairs {
    let pair = |(name, value): (&http::HeaderName, &HeaderValue)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), value)
    };
    headers.iter().map(pair).collect()
}

/// The headers as the head's own lines have them; `None` unless they are the same as in hyper's
/// reading but for the case of names and the order of different ones.
fn as_written(head: &[u8], parsed: &HeaderMap) -> Option<Pairs> {
    let mut lines = head
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    // Empty lines before a request line are allowed (RFC 9112 section 2.2).
    let _request_line = lines.find(|line| !line.is_empty())?;
    let written: Pairs = lines
        .take_while(|line| !line.is_empty())
        .map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes.trim_ascii()).into_owned();
            Some((text(&line[..colon]), text(&line[colon + 1..])))
        })
        .collect::<Option<_>>()?;
    let sorted = |pairs: Pairs| {
        let folded = pairs.into_iter().map(|(n, v)| (n.to_ascii_lowercase(), v));
        let mut folded: Pairs = folded.collect();
        folded.sort();
        folded
    };
    (sorted(written.clone()) == sorted(as_parsed(parsed))).then_some(written)
}

/// The bytes of the head that is being read; hyper tells names in lower case only.
#[derive(Clone)]
struct Heads(Arc<Mutex<Option<Vec<u8>>>>);

impl Default for Heads {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Some(Vec::new()))))
    }
}

impl Heads {
    fn begin(&self) {
        *self.lock() = Some(Vec::new());
    }

    /// What was recorded; nothing more is until [`begin`](Self::begin).
    fn take(&self) -> Option<Vec<u8>> {
        self.lock().take()
    }

    fn record(&self, bytes: &[u8]) {
        let mut recorded = self.lock();
        if let Some(head) = recorded.as_mut() {
            head.extend_from_slice(bytes);
            if head.len() > RECORDED_MAX {
                *recorded = None;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection whose heads are recorded while hyper reads them.
struct Recorder {
    stream: TcpStream,
    heads: Heads,
}

impl AsyncRead for Recorder {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = polled {
            self.heads.record(&buf.filled()[before..]);
        }
        polled
    }
}

impl AsyncWrite for Recorder {
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Sends `requests` on one connection, each after the answer to the one before.
    async fn asked(requests: &[&[u8]]) -> Vec<Value> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, std::future::pending()));
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let mut answers = Vec::new();
        for request in requests {
            stream.write_all(request).await.unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"}\n") {
                assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
            }
            let text = String::from_utf8(seen).unwrap();
            assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
            let body = text.split_once("\r\n\r\n").unwrap().1;
            answers.push(serde_json::from_str(body).unwrap());
        }
        server.abort();
        answers
    }

    #[tokio::test]
    async fn it_shows_names_as_written_and_in_order_on_every_request_of_a_connection() {
        let seen = asked(&[
            b"GET /a?b=%20&c HTTP/1.1\r\nhost: x\r\nX-Auth-USER: 1\r\nAccept:*/*\r\nx-auth-user: 2\r\n\r\n",
            b"PUT /b HTTP/1.1\r\nHost: y\r\nContent-Length: 3\r\n\r\nabc",
            b"GET /c HTTP/1.1\r\nHoSt: z\r\n\r\n",
        ])
        .await;
        assert_eq!(
            seen[0],
            json!({
                "method": "GET", "path": "/a", "query": "b=%20&c",
                "headers": [["host", "x"], ["X-Auth-USER", "1"], ["Accept", "*/*"], ["x-auth-user", "2"]],
                "body_bytes": 0,
                "body_sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            })
        );
        assert_eq!(seen[1]["body_bytes"], 3);
        assert_eq!(
            seen[1]["body_sha256"],
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(seen[2]["headers"], json!([["HoSt", "z"]]));
        assert_eq!(seen[2]["query"], Value::Null);
    }

    #[tokio::test]
    async fn chunked_bodies_are_measured_without_their_framing() {
        let seen = asked(&[
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
        ])
        .await;
        assert_eq!(seen[0]["body_bytes"], 3);
        assert_eq!(
            seen[0]["body_sha256"],
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn names_that_cannot_be_matched_to_the_reading_are_shown_in_lower_case() {
        let mut parsed = HeaderMap::new();
        parsed.insert("host", HeaderValue::from_static("x"));
        let other = b"GET / HTTP/1.1\r\nHost: another\r\n\r\n";
        assert_eq!(as_written(other, &parsed), None);
        assert_eq!(
            as_parsed(&parsed),
            [("host".to_owned(), "x".to_owned())].to_vec()
        );
    }
}
