//! TLS with dockerd's flags, and the docker CLI's own flags against it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::support::{Home, http};

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
