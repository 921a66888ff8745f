//! TLS with dockerd's flags, and the docker CLI's own flags against it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::{Daemon, Home, free_address, http, until};

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// An authority, and what it has signed: PEM files as `docker` and the daemon want them.
struct Authority {
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        std::fs::write(directory.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { directory, issuer: Issuer::new(params, key) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes `NAME-cert.pem` and `NAME-key.pem`.
    fn sign(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}-cert.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}-key.pem")), key.serialize_pem()).unwrap();
    }
}

fn files(authority: &Authority, ca: &Path, name: &str) -> Vec<String> {
    vec![
        format!("--tlscacert={}", ca.display()),
        format!("--tlscert={}", authority.path(&format!("{name}-cert.pem")).display()),
        format!("--tlskey={}", authority.path(&format!("{name}-key.pem")).display()),
    ]
}

/// `docker`, as a user calls it; `None`: it is not installed.
fn docker(home: &Home, host: &str, flags: &[String], command: &[&str]) -> Option<Output> {
    let mut docker = Command::new("docker");
    docker.env_clear().env("PATH", std::env::var_os("PATH")?).env("HOME", home.directory());
    docker.arg("-H").arg(host).args(flags).args(command).stdin(Stdio::null()).output().ok()
}

#[test]
fn clients_show_a_certificate_or_are_not_let_in() {
    let (home, ours, theirs) = (Home::new(), Authority::new(), Authority::new());
    ours.sign("server");
    ours.sign("client");
    theirs.sign("client");
    let mut args = vec!["--sandbox".to_owned(), "--tlsverify".to_owned(), "--listen=tcp://127.0.0.1:0".to_owned()];
    args.extend(files(&ours, &ours.path("ca.pem"), "server"));
    let daemon = home.serve_with(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let address = daemon.host.strip_prefix("tcp://").unwrap().to_owned();

    assert!(!http(&address, "GET", "/_ping", "").is_ok_and(|(status, _)| status == 200), "plain HTTP is not spoken");

    let verify = |files: Vec<String>| [vec!["--tlsverify".to_owned()], files].concat();
    let known = verify(files(&ours, &ours.path("ca.pem"), "client"));
    let Some(output) =
        docker(&home, &daemon.host, &known, &["run", "--rm", "host", "sh", "-c", "echo over TLS; exit 3"])
    else {
        println!("SKIPPED: the docker CLI is not installed");
        return;
    };
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), b"over TLS\n".as_slice()), "{error}");

    let stranger = verify(files(&theirs, &ours.path("ca.pem"), "client"));
    let output = docker(&home, &daemon.host, &stranger, &["version"]).unwrap();
    assert!(!output.status.success(), "an authority that we do not know has signed it");
    let nobody = vec!["--tlsverify".to_owned(), format!("--tlscacert={}", ours.path("ca.pem").display())];
    assert!(!docker(&home, &daemon.host, &nobody, &["version"]).unwrap().status.success(), "it shows no certificate");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let (home, authority) = (Home::new(), Authority::new());
    authority.sign("server");
    let (cert, key) = (authority.path("server-cert.pem"), authority.path("server-key.pem"));
    let missing = authority.path("missing.pem");
    for (cert, key, said) in
        [(&missing, &key, "missing.pem"), (&cert, &missing, "missing.pem"), (&key, &key, "no certificate")]
    {
        let output = home
            .command(&["--sandbox", "--listen=tcp://127.0.0.1:0"])
            .arg(format!("--tlscert={}", cert.display()))
            .arg(format!("--tlskey={}", key.display()))
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && error.contains(said), "{error}");
    }
}

/// The certificate that the daemon shows to a client of ours, if it lets the client in. The daemon's authority is `roots`'.
fn shown_to(address: &str, roots: &Authority, client: &Authority) -> Option<Vec<u8>> {
    let mut trusted = RootCertStore::empty();
    trusted.add(CertificateDer::from_pem_file(roots.path("ca.pem")).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_file(client.path("client-cert.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(client.path("client-key.pem")).unwrap();
    let config = ClientConfig::builder().with_root_certificates(trusted).with_client_auth_cert(chain, key).unwrap();
    let connection = ClientConnection::new(Arc::new(config), "127.0.0.1".try_into().unwrap()).unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = StreamOwned::new(connection, socket);
    let request = format!("GET /_ping HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    // A client that is not let in learns it only now.
    let _ = stream.read_to_end(&mut answer);
    answer.starts_with(b"HTTP/1.1 200 ").then(|| stream.conn.peer_certificates().unwrap()[0].to_vec())
}

/// Serves TLS to clients of the authority in `client-ca.pem`, with metrics.
fn serve_tls(home: &Home, server: &Authority, client_authorities: &Path, metrics: &str) -> (Daemon, String) {
    let mut args = vec!["--sandbox".to_owned(), "--tlsverify".to_owned(), "--listen=tcp://127.0.0.1:0".to_owned()];
    args.push(format!("--metrics-listen={metrics}"));
    args.extend(files(server, client_authorities, "server"));
    let daemon = home.serve_with(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let address = daemon.host.strip_prefix("tcp://").unwrap().to_owned();
    (daemon, address)
}

#[tokio::test]
async fn renewed_certificate_is_served() {
    let (home, ours, theirs, metrics) = (Home::new(), Authority::new(), Authority::new(), free_address());
    ours.sign("server");
    ours.sign("client");
    theirs.sign("client");
    let client_authorities = ours.path("client-ca.pem");
    std::fs::copy(ours.path("ca.pem"), &client_authorities).unwrap();
    let (daemon, address) = serve_tls(&home, &ours, &client_authorities, &metrics);
    let first = shown_to(&address, &ours, &ours).unwrap();
    assert_eq!(shown_to(&address, &ours, &theirs), None);

    ours.sign("server");
    let renewed = async || shown_to(&address, &ours, &ours).filter(|shown| *shown != first);
    let second = until("the renewed certificate is served", renewed).await;

    // A broken file is reported, and what was read before it stays in use.
    let key = ours.path("server-key.pem");
    let good = std::fs::read(&key).unwrap();
    std::fs::write(&key, "no PEM").unwrap();
    until("the broken key is noticed", async || {
        let (_, text) = http(&metrics, "GET", "/metrics", "").unwrap();
        text.contains("sockerless_tls_reloads_total{result=\"failed\"}").then_some(())
    })
    .await;
    assert_eq!(shown_to(&address, &ours, &ours).as_ref(), Some(&second));
    std::fs::write(&key, good).unwrap();

    std::fs::copy(theirs.path("ca.pem"), &client_authorities).unwrap();
    until("clients of the new authority are let in", async || shown_to(&address, &ours, &theirs)).await;
    assert_eq!(shown_to(&address, &ours, &ours), None, "the old authority's clients are not");
    assert_eq!(daemon.stop(), 0);
}

/// Nothing, a piece of a handshake, and what is no handshake.
#[tokio::test]
async fn tls_handshake_that_stalls_frees_its_place() {
    let (home, ours, metrics) = (Home::new(), Authority::new(), free_address());
    ours.sign("server");
    ours.sign("client");
    let (daemon, address) = serve_tls(&home, &ours, &ours.path("ca.pem"), &metrics);
    let stalled: Vec<TcpStream> = [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01"]
        .into_iter()
        .chain([b"".as_slice()])
        .enumerate()
        .map(|(index, begins)| {
            // The last one is a client of the metrics' listener that sends nothing.
            let mut stream = TcpStream::connect(if index == 3 { &metrics } else { &address }).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(begins).unwrap();
            stream
        })
        .collect();
    assert!(shown_to(&address, &ours, &ours).is_some(), "others are served meanwhile");
    for mut stream in stalled {
        let mut rest = Vec::new();
        // Within the patience, which is half of what an idle connection gets.
        let _ = stream.read_to_end(&mut rest).map_err(|error| {
            assert!(!matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{error}");
        });
    }
    assert_eq!(daemon.stop(), 0);
}
