//! TLS for the TCP listeners, with the files and meanings of dockerd's flags.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::config::Tls;

/// The only protocol on these connections: an upgrade of HTTP/1.1 is what attach is made of.
const ALPN: &[u8] = b"http/1.1";

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("{path}: {reason}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: pem::Error,
    },
    /// There is nothing in it.
    #[error("{0}: there is no certificate in it")]
    Empty(PathBuf),
    /// Certificate and key do not fit, or are of a kind that is not known.
    #[error("tlscert and tlskey: {0}")]
    Pair(rustls::Error),
    /// The authorities cannot be used.
    #[error("tlscacert: {0}")]
    Authorities(#[from] VerifierBuilderError),
    /// A certificate of an authority cannot be used.
    #[error("tlscacert: {0}")]
    Authority(rustls::Error),
}

/// Reads the files. Clients are verified if there are authorities for it.
pub(super) fn acceptor(tls: &Tls) -> Result<TlsAcceptor, TlsError> {
    let certificates = certificates(&tls.certificate)?;
    let key =
        PrivateKeyDer::from_pem_file(&tls.key).map_err(|reason| TlsError::Pem { path: tls.key.clone(), reason })?;
    let builder = ServerConfig::builder();
    let builder = match &tls.client_authorities {
        Some(path) => builder.with_client_cert_verifier(WebPkiClientVerifier::builder(authorities(path)?).build()?),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(certificates, key).map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Whether the files can be used.
///
/// # Errors
/// If one cannot be read, or they do not fit together.
pub fn try_tls(tls: &Tls) -> Result<(), TlsError> {
    acceptor(tls).map(drop)
}

fn authorities(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(TlsError::Authority)?;
    }
    Ok(Arc::new(roots))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = |reason| TlsError::Pem { path: path.to_owned(), reason };
    let all = CertificateDer::pem_file_iter(path).map_err(pem)?.collect::<Result<Vec<_>, _>>().map_err(pem)?;
    if all.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(all) }
}
