//! Opening a connection to a backend: addresses in turn, TLS where the URL says so, all within
//! `connect_timeout`.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Settings;

/// Why an upstream cannot be set up. Names the upstream, the file and what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A certificate or key file cannot be read as PEM.
    #[error("upstreams.{upstream}: {file} cannot be used: {why}")]
    File {
        /// The upstream's name.
        upstream: String,
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The system has no certificates of authorities, or TLS refuses what was given.
    #[error("upstreams.{upstream}: TLS cannot be set up: {why}")]
    Tls {
        /// The upstream's name.
        upstream: String,
        /// What is wrong.
        why: String,
    },
}

/// Why no connection could be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("it took longer than connect_timeout")]
    TimedOut,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
}

/// Clear or TLS.
#[derive(Clone)]
pub(super) enum Connector {
    Plain,
    Tls {
        connector: TlsConnector,
        name: ServerName<'static>,
    },
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            Self::Tls { .. } => "Tls",
        })
    }
}

impl Connector {
    pub(super) fn new(settings: &Settings) -> Result<Self, SetupError> {
        if !settings.origin.tls {
            return Ok(Self::Plain);
        }
        let tls_error = |why: String| SetupError::Tls {
            upstream: settings.name.clone(),
            why,
        };
        let name = settings
            .server_name
            .clone()
            .unwrap_or_else(|| settings.origin.host.clone());
        let name = ServerName::try_from(name.clone())
            .map_err(|_| tls_error(format!("\"{name}\" is no name a certificate can have")))?;
        let builder = ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .map_err(|error| tls_error(error.to_string()))?
        .with_root_certificates(roots(settings)?);
        let config = match (&settings.client_cert, &settings.client_key) {
            (Some(cert), Some(key)) => {
                let chain = certificates(settings, cert)?;
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| unusable(settings, key, &error))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| tls_error(error.to_string()))?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Self::Tls {
            connector: TlsConnector::from(Arc::new(config)),
            name,
        })
    }

    /// Opens a connection, trying each of the host's addresses, within `connect_timeout`.
    pub(super) async fn connect(&self, settings: &Settings) -> Result<Transport, ConnectError> {
        let connecting = async {
            let origin = &settings.origin;
            let stream = TcpStream::connect((origin.host.as_str(), origin.port)).await?;
            stream.set_nodelay(true)?;
            let stream = match self {
                Self::Plain => Stream::Plain(stream),
                Self::Tls { connector, name } => {
                    let stream = connector.connect(name.clone(), stream).await?;
                    Stream::Tls(Box::new(stream))
                }
            };
            let heard = Heard::default();
            Ok(Transport { stream, heard })
        };
        tokio::time::timeout(settings.connect_timeout, connecting)
            .await
            .map_err(|_| ConnectError::TimedOut)?
    }
}

/// The private CA where one is named, else the system's roots.
fn roots(settings: &Settings) -> Result<RootCertStore, SetupError> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &settings.ca {
        for certificate in certificates(settings, file)? {
            roots
                .add(certificate)
                .map_err(|error| unusable(settings, file, &error))?;
        }
        return Ok(roots);
    }
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(SetupError::Tls {
            upstream: settings.name.clone(),
            why: "the system has no certificates of authorities: install ca-certificates, or name a file as ca"
                .to_owned(),
        });
    }
    Ok(roots)
}

fn certificates(
    settings: &Settings,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let read = || CertificateDer::pem_file_iter(file)?.collect::<Result<Vec<_>, _>>();
    let found = read().map_err(|error| unusable(settings, file, &error))?;
    if found.is_empty() {
        return Err(unusable(settings, file, &"it holds no PEM certificate"));
    }
    Ok(found)
}

fn unusable(settings: &Settings, file: &Path, why: &dyn std::fmt::Display) -> SetupError {
    SetupError::File {
        upstream: settings.name.clone(),
        file: file.to_owned(),
        why: why.to_string(),
    }
}

/// Whether the backend has said anything since a request was given to its connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<AtomicBool>);

impl Heard {
    /// From now on.
    pub(super) fn begin(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether as much as a byte has come.
    pub(super) fn anything(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// An open connection.
pub(super) struct Transport {
    stream: Stream,
    heard: Heard,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    pub(super) fn heard(&self) -> &Heard {
        &self.heard
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if buf.filled().len() > before {
            this.heard.0.store(true, Ordering::Relaxed);
        }
        read
    }
}

/// A backend that answers before it has read the whole request and then closes resets the connection,
/// and what is still written fails; its answer may be there all the same. So such a write just does not
/// come to an end: the reading side, which is woken by the same reset, finds the answer or the end.
fn unless_reset(written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    match written {
        Poll::Ready(Err(error)) if matches!(error.kind(), BrokenPipe | ConnectionReset) => {
            Poll::Pending
        }
        written => written,
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        unless_reset(match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        unless_reset(match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        })
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
