//! TLS for the TCP listeners, with the files and meanings of dockerd's flags.
//!
//! The files are read again while the daemon runs, so that a renewed certificate is served without a restart. Files that
//! cannot be used are reported, and what was read before them stays in use.

use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::limits;
use crate::config::Tls;
use crate::telemetry;

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
    /// It is larger than any such file.
    #[error("{path}: larger than {max} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        max: u64,
    },
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

/// What the listeners speak TLS with now, and the files that it came from.
pub(super) struct Credentials {
    files: Tls,
    current: Mutex<Current>,
}

struct Current {
    acceptor: TlsAcceptor,
    /// Of what the last look found, also if it could not be used.
    fingerprint: u64,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads the files.
    pub(super) fn load(files: &Tls) -> Result<Self, TlsError> {
        let read = Contents::read(files);
        let fingerprint = fingerprint(&read);
        let current = Current { acceptor: read?.acceptor(files)?, fingerprint };
        Ok(Self { files: files.clone(), current: Mutex::new(current) })
    }

    /// For the next connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.lock().acceptor.clone()
    }

    /// Reads the files again. `Ok(true)`: they were renewed, and new connections get what is in them. `Err`: they have
    /// changed since the last look and cannot be used; until they change again this is not repeated.
    fn reload(&self) -> Result<bool, TlsError> {
        let read = Contents::read(&self.files);
        let fingerprint = fingerprint(&read);
        let mut current = self.lock();
        if std::mem::replace(&mut current.fingerprint, fingerprint) == fingerprint {
            return Ok(false);
        }
        current.acceptor = read?.acceptor(&self.files)?;
        Ok(true)
    }

    /// Reads the files again and again until `stop`.
    pub(super) async fn keep_current(self: Arc<Self>, stop: CancellationToken) {
        loop {
            // Cancel-safe: nothing is under way while the pause lasts.
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(limits::TLS_RELOAD_INTERVAL) => {}
            }
            let credentials = Arc::clone(&self);
            let Ok(reloaded) = tokio::task::spawn_blocking(move || credentials.reload()).await else { continue };
            match reloaded {
                Ok(false) => {}
                Ok(true) => {
                    metrics::counter!(telemetry::TLS_RELOADS, "result" => "renewed").increment(1);
                    tracing::info!(certificate = %self.files.certificate.display(), "the TLS files were renewed");
                }
                Err(error) => {
                    metrics::counter!(telemetry::TLS_RELOADS, "result" => "failed").increment(1);
                    tracing::error!(%error, "the changed TLS files cannot be used: the previous ones stay in use");
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the files can be used.
///
/// # Errors
/// If one cannot be read, or they do not fit together.
pub fn try_tls(tls: &Tls) -> Result<(), TlsError> {
    Credentials::load(tls).map(drop)
}

/// The bytes of the files.
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authorities: Option<Vec<u8>>,
}

impl Contents {
    fn read(files: &Tls) -> Result<Self, TlsError> {
        Ok(Self {
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
            authorities: files.client_authorities.as_deref().map(read).transpose()?,
        })
    }

    /// Clients are verified if there are authorities for it.
    fn acceptor(&self, files: &Tls) -> Result<TlsAcceptor, TlsError> {
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|reason| TlsError::Pem { path: files.key.clone(), reason })?;
        let builder = ServerConfig::builder();
        let builder = match files.client_authorities.as_deref().zip(self.authorities.as_deref()) {
            Some((path, pem)) => {
                builder.with_client_cert_verifier(WebPkiClientVerifier::builder(authorities(path, pem)?).build()?)
            }
            None => builder.with_no_client_auth(),
        };
        let chain = certificates(&files.certificate, &self.certificate)?;
        let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Whether a look found something else than the one before.
fn fingerprint(read: &Result<Contents, TlsError>) -> u64 {
    let mut hasher = DefaultHasher::new();
    match read {
        Ok(Contents { certificate, key, authorities }) => (certificate, key, authorities).hash(&mut hasher),
        Err(error) => error.to_string().hash(&mut hasher),
    }
    hasher.finish()
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |error| TlsError::Pem { path: path.to_owned(), reason: pem::Error::Io(error) };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limits::MAX_PEM_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limits::MAX_PEM_BYTES) {
        return Err(TlsError::TooLarge { path: path.to_owned(), max: limits::MAX_PEM_BYTES });
    }
    Ok(bytes)
}

fn authorities(path: &Path, pem: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        roots.add(certificate).map_err(TlsError::Authority)?;
    }
    Ok(Arc::new(roots))
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|reason| TlsError::Pem { path: path.to_owned(), reason })?;
    if all.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn write_pair(files: &Tls) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
    }

    #[test]
    fn broken_new_files_leave_the_old_ones_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let files = Tls { certificate: path("c.pem"), key: path("k.pem"), client_authorities: None };
        write_pair(&files);
        let credentials = Credentials::load(&files).unwrap();
        let config = || Arc::clone(credentials.acceptor().config());
        let first = config();
        assert!(!credentials.reload().unwrap(), "nothing has changed");

        let old_key = std::fs::read(&files.key).unwrap();
        write_pair(&files);
        let new_key = std::fs::read(&files.key).unwrap();
        for broken in [old_key.as_slice(), b"no PEM", b"", &vec![b'x'; 2 << 20]] {
            std::fs::write(&files.key, broken).unwrap();
            assert!(credentials.reload().is_err());
            assert!(!credentials.reload().unwrap(), "it is reported once");
            assert!(Arc::ptr_eq(&first, &config()));
        }
        std::fs::remove_file(&files.key).unwrap();
        credentials.reload().unwrap_err();
        assert!(!credentials.reload().unwrap() && Arc::ptr_eq(&first, &config()));

        std::fs::write(&files.key, new_key).unwrap();
        assert!(credentials.reload().unwrap(), "the pair is complete");
        assert!(!Arc::ptr_eq(&first, &config()));
    }
}
