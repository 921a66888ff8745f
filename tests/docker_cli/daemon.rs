//! A daemon on a sandbox of its own, for one section.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A daemon that serves, and the folder that everything is in.
pub(crate) struct Daemon {
    folder: tempfile::TempDir,
    /// Programs have a /tmp of their own, so what they share with a step is elsewhere.
    shared: tempfile::TempDir,
    child: Child,
    /// The value of DOCKER_HOST.
    pub(crate) host: String,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("skls").tempdir().unwrap();
        let shared = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_sockerless-backend-lambda"))
            .arg("--sandbox")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("XDG_STATE_HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let host = line
            .trim()
            .strip_prefix("export DOCKER_HOST=")
            .unwrap_or_else(|| panic!("the daemon serves: {line:?}"))
            .to_owned();
        Self { folder, shared, child, host }
    }

    /// Where the steps work.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file that steps and programs see.
    pub(crate) fn shared(&self, name: &str) -> PathBuf {
        self.shared.path().join(name)
    }

    /// What the daemon said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The names of the functions that the sandbox holds.
    pub(crate) fn functions(&self) -> Vec<String> {
        let state: Value = serde_json::from_str(&self.ask_sandbox("GET", "/_sandbox/state", "").unwrap()).unwrap();
        let functions = state["functions"].as_array().unwrap();
        functions.iter().map(|function| function["name"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn ask_sandbox(&self, method: &str, path: &str, body: &str) -> Option<String> {
        let rendezvous: PathBuf = self.folder.path().join("sockerless-lambda/lambda.db.sandbox");
        let rendezvous: Value = serde_json::from_str(&std::fs::read_to_string(rendezvous).ok()?).ok()?;
        let address = rendezvous["endpoint"].as_str()?.trim_start_matches("http://");
        let secret = rendezvous["secret_access_key"].as_str()?;
        let mut stream = TcpStream::connect(address).ok()?;
        let length = body.len();
        // HTTP/1.0: the answer ends with the connection.
        let head = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {secret}\r\n");
        write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
    }
}

/// Ends the sandbox too, whatever still runs in it.
impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.ask_sandbox("POST", "/_sandbox/stop", "{\"when_idle\":false}");
    }
}
