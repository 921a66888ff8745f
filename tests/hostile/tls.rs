//! The listener that speaks TLS, and a client of it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use sockerless_lambda::config::Tls;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The host of the certificate.
const HOST: &str = "localhost";

/// The daemons' certificate: one for all, as making it takes longer than many requests.
struct Identity {
    certificate: String,
    key: String,
    client: Arc<ClientConfig>,
}

fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([HOST.to_owned()]).unwrap();
        let mut trusted = RootCertStore::empty();
        trusted.add(cert.der().clone()).unwrap();
        let client = ClientConfig::builder().with_root_certificates(trusted).with_no_client_auth();
        Identity { certificate: cert.pem(), key: signing_key.serialize_pem(), client: Arc::new(client) }
    })
}

/// Writes the files of a daemon into its directory.
pub(crate) fn files(directory: &Path) -> Tls {
    let Identity { certificate: cert, key: secret, .. } = identity();
    let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    std::fs::write(&certificate, cert).unwrap();
    std::fs::write(&key, secret).unwrap();
    Tls { certificate, key, client_authorities: None }
}

/// A connection on which TLS is spoken. `pieces` counts what comes, the handshake's too.
pub(crate) async fn connect(address: SocketAddr, pieces: &Arc<AtomicU64>) -> io::Result<TlsStream<Counted>> {
    let stream = TcpStream::connect(address).await?;
    // The kernel would hold the request until the end of the handshake is acknowledged, which takes real time.
    stream.set_nodelay(true)?;
    let stream = Counted { stream, pieces: Arc::clone(pieces) };
    let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
    TlsConnector::from(Arc::clone(&identity().client)).connect(name, stream).await
}

/// A connection that counts what comes.
#[derive(Debug)]
pub(crate) struct Counted {
    stream: TcpStream,
    pieces: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        if read.is_ready() {
            self.pieces.fetch_add(1, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
