//! A backend made of bytes: heads are kept as they came on the wire, answers are written as they are.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Backend, Sidegate, eventually, sidegate};

/// What a [`Wire`] does with a request, once its head is there.
#[derive(Clone, Debug)]
pub enum Act {
    /// Writes this and reads the next head on the same connection.
    Answer(Vec<u8>),
    /// Writes this and closes.
    Last(Vec<u8>),
    /// Writes this and keeps the connection open without another word.
    Hang(Vec<u8>),
}

impl Act {
    pub fn answer(bytes: impl AsRef<[u8]>) -> Self {
        Self::Answer(bytes.as_ref().to_vec())
    }

    pub fn last(bytes: impl AsRef<[u8]>) -> Self {
        Self::Last(bytes.as_ref().to_vec())
    }

    pub fn hang(bytes: impl AsRef<[u8]>) -> Self {
        Self::Hang(bytes.as_ref().to_vec())
    }
}

/// An honest small answer.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Where a request stood: the connection it came on, and its place there, both from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub connection: usize,
    pub request: usize,
}

/// A backend that answers each head with bytes. Does not read bodies: those would count as heads.
pub struct Wire {
    backend: Backend,
    heads: Arc<Mutex<Vec<(Place, String)>>>,
    open: Arc<Mutex<usize>>,
}

impl Wire {
    pub async fn new(script: impl Fn(Place, &str) -> Act + Clone + Send + Sync + 'static) -> Self {
        let heads: Arc<Mutex<Vec<(Place, String)>>> = Arc::default();
        let open: Arc<Mutex<usize>> = Arc::default();
        let next: Arc<Mutex<usize>> = Arc::default();
        let (kept, counted) = (Arc::clone(&heads), Arc::clone(&open));
        let backend = Backend::raw(move |mut stream| {
            let (script, heads, open) = (script.clone(), Arc::clone(&kept), Arc::clone(&counted));
            let connection = {
                let mut next = next.lock().unwrap();
                *next += 1;
                *next - 1
            };
            *open.lock().unwrap() += 1;
            async move {
                let mut request = 0;
                while let Some(head) = read_head(&mut stream).await {
                    let place = Place {
                        connection,
                        request,
                    };
                    heads.lock().unwrap().push((place, head.clone()));
                    let (bytes, goes_on) = match script(place, &head) {
                        Act::Answer(bytes) => (bytes, true),
                        Act::Last(bytes) => (bytes, false),
                        Act::Hang(bytes) => {
                            let _ = stream.write_all(&bytes).await;
                            let _ = stream.read_to_end(&mut Vec::new()).await;
                            (Vec::new(), false)
                        }
                    };
                    let written = stream.write_all(&bytes).await;
                    if !goes_on || written.is_err() {
                        break;
                    }
                    request += 1;
                }
                *open.lock().unwrap() -= 1;
            }
        })
        .await;
        Self {
            backend,
            heads,
            open,
        }
    }

    /// Answers the same to everything.
    pub async fn always(act: Act) -> Self {
        Self::new(move |_, _| act.clone()).await
    }

    pub fn addr(&self) -> SocketAddr {
        self.backend.addr
    }

    /// A sidecar before it, with the default route.
    pub fn gate(&self) -> sidegate::Builder {
        Sidegate::before(&self.backend)
    }

    /// All heads so far, byte for byte.
    pub fn heads(&self) -> Vec<String> {
        let heads = self.heads.lock().unwrap();
        heads.iter().map(|(_, head)| head.clone()).collect()
    }

    /// Where they stood.
    pub fn places(&self) -> Vec<(usize, usize)> {
        let heads = self.heads.lock().unwrap();
        heads
            .iter()
            .map(|(place, _)| (place.connection, place.request))
            .collect()
    }

    /// The only head that came.
    #[track_caller]
    pub fn only_head(&self) -> String {
        let heads = self.heads();
        assert_eq!(heads.len(), 1, "{heads:#?}");
        heads[0].clone()
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        *self.open.lock().unwrap()
    }

    /// Waits until no connection is open.
    pub async fn all_closed(&self) {
        eventually("the backend's connections close", async || self.open() == 0).await;
    }
}

/// One head up to its empty line, and not a byte more; `None` when the peer has closed before one.
pub async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}
