//! Bytes on a socket, for what no HTTP library would send.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::soon;

/// A connection to which bytes are written as they are.
pub struct Raw {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Raw {
    pub async fn connect(addr: SocketAddr) -> Self {
        Self {
            stream: TcpStream::connect(addr).await.unwrap(),
            read: Vec::new(),
        }
    }

    /// Writes `bytes`; a peer that has closed is no failure of the test yet.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.stream.write_all(bytes.as_ref()).await;
        self
    }

    /// Everything until the peer closes (also by a reset), as text.
    pub async fn read_to_end(&mut self) -> String {
        soon("the peer closes", async {
            let mut chunk = [0; 16 << 10];
            loop {
                match self.stream.read(&mut chunk).await {
                    Ok(0) | Err(_) => break,
                    Ok(n) => self.read.extend_from_slice(&chunk[..n]),
                }
            }
        })
        .await;
        String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned()
    }

    /// Everything up to and including `end`, as text; what follows stays for the next read.
    pub async fn read_until(&mut self, end: &str) -> String {
        soon(&format!("{end:?} arrives"), async {
            let mut chunk = [0; 16 << 10];
            loop {
                let found = self
                    .read
                    .windows(end.len())
                    .position(|part| part == end.as_bytes());
                if let Some(at) = found {
                    let rest = self.read.split_off(at + end.len());
                    return String::from_utf8_lossy(&std::mem::replace(&mut self.read, rest))
                        .into_owned();
                }
                match self.stream.read(&mut chunk).await {
                    Ok(0) | Err(_) => panic!(
                        "closed before {end:?}, after {:?}",
                        String::from_utf8_lossy(&self.read)
                    ),
                    Ok(n) => self.read.extend_from_slice(&chunk[..n]),
                }
            }
        })
        .await
    }

    /// One response head, up to its empty line.
    pub async fn read_head(&mut self) -> String {
        self.read_until("\r\n\r\n").await
    }

    /// The stream itself, for tests that need more.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

/// Sends `bytes` on a fresh connection and gives all that comes back until it closes.
pub async fn exchange(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut raw = Raw::connect(addr).await;
    raw.send(bytes).await;
    raw.read_to_end().await
}
