//! The way to an upstream: its name, a TCP connection, TLS, each timed on its own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use dwell_probes::phase::Phase;
use dwell_probes::time::Stamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::settings::Upstream;
use crate::threads;

/// Why an upstream was not reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreached {
    /// Its name is not known.
    #[error("its name cannot be resolved: {0}")]
    Dns(io::Error),
    /// It takes no connection.
    #[error("it takes no connection: {0}")]
    Connect(io::Error),
    /// It speaks no TLS, or its certificate is not trusted.
    #[error("TLS failed: {0}")]
    Tls(io::Error),
}

/// A connection's bytes.
pub(super) struct Stream {
    way: Way,
    heard: Arc<AtomicBool>,
}

enum Way {
    Plain(Tcp),
    Tls(Box<TlsStream<Tcp>>),
}

/// A TCP connection whose bytes wake the thread that used it last: a call that is served by another thread takes it there.
struct Tcp {
    /// `None` when it was lost on its way to another thread.
    stream: Option<TcpStream>,
    thread: usize,
}

impl Tcp {
    fn new(stream: TcpStream) -> Self {
        Self { stream: Some(stream), thread: threads::number() }
    }

    fn here(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        let here = threads::number();
        if self.thread != here {
            let stream = self.stream.take().map(TcpStream::into_std).transpose()?;
            self.stream = stream.map(TcpStream::from_std).transpose()?;
            self.thread = here;
        }
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.here()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.here()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.here()?.poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.here()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.here()?.poll_shutdown(cx)
    }
}

impl Stream {
    fn new(way: Way) -> Self {
        Self { way, heard: Arc::default() }
    }

    /// Set whenever bytes have come.
    pub(super) fn heard(&self) -> Arc<AtomicBool> {
        self.heard.clone()
    }
}

/// What opening a connection took, phase by phase.
pub(super) type Steps = Vec<(Phase, Stamp, Stamp)>;

/// How connections to one upstream are opened.
pub(super) struct Transport {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Transport {
    /// Reads certificates, so that connecting needs no files.
    pub(super) fn new(upstream: &Upstream) -> anyhow::Result<Self> {
        let tls = upstream.tls.then(|| tls(upstream)).transpose()?;
        Ok(Self { host: upstream.host.clone(), port: upstream.port, tls })
    }

    /// Opens a connection. What was done is in `steps`, also when it failed or was given up.
    pub(super) async fn open(&self, steps: &mut Steps) -> Result<Stream, Unreached> {
        let addresses = self.resolve(steps).await?;
        let start = Stamp::now();
        let connected = connect(&addresses).await;
        steps.push((Phase::Connect, start, Stamp::now()));
        let tcp = Tcp::new(connected.map_err(Unreached::Connect)?);
        let Some((connector, name)) = &self.tls else { return Ok(Stream::new(Way::Plain(tcp))) };
        let start = Stamp::now();
        let shaken = connector.connect(name.clone(), tcp).await;
        steps.push((Phase::Tls, start, Stamp::now()));
        Ok(Stream::new(Way::Tls(Box::new(shaken.map_err(Unreached::Tls)?))))
    }

    async fn resolve(&self, steps: &mut Steps) -> Result<Vec<SocketAddr>, Unreached> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let start = Stamp::now();
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        steps.push((Phase::Dns, start, Stamp::now()));
        Ok(found.map_err(Unreached::Dns)?.collect())
    }
}

/// The first address that answers.
async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Small frames must not wait for the acknowledgement of the ones before.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn tls(upstream: &Upstream) -> anyhow::Result<(TlsConnector, ServerName<'static>)> {
    use anyhow::Context as _;
    let mut roots = RootCertStore::empty();
    // Certificates that cannot be read are as good as not there; an upstream that needs one will be refused.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &upstream.ca_file {
        let shown = || format!("ca_file of {}: cannot read {}", upstream.name, path.display());
        for certificate in CertificateDer::pem_file_iter(path).with_context(shown)? {
            roots.add(certificate.with_context(shown)?).with_context(shown)?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from(upstream.host.clone())
        .with_context(|| format!("the host of {} is no name that TLS knows", upstream.name))?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

macro_rules! either {
    ($stream:expr, $inner:ident => $do:expr) => {
        match &mut $stream.get_mut().way {
            Way::Plain($inner) => {
                let $inner = Pin::new($inner);
                $do
            }
            Way::Tls($inner) => {
                let $inner = Pin::new($inner.as_mut());
                $do
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = either!(Pin::new(&mut *this), stream => stream.poll_read(cx, buffer));
        if buffer.filled().len() > before {
            this.heard.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(cx, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.way {
            Way::Plain(stream) => stream.is_write_vectored(),
            Way::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }
}
