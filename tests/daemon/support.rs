//! The real binary, its sandbox, and a client: what the tests of the daemon need.

#[path = "until.rs"]
mod until;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use bollard::Docker;
use serde_json::Value;

pub(crate) use until::until_within;

/// How long a state is waited for that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The functions' role in tests that believe in an account.
pub(crate) const ROLE: &str = "arn:aws:iam::000000000000:role/job";
/// The registry of their images.
pub(crate) const REGISTRY: &str = "000000000000.dkr.ecr.us-east-1.amazonaws.com";
const BINARY: &str = env!("CARGO_BIN_EXE_sockerless-backend-lambda");

/// A state directory of its own. What programs write must not be below /tmp: theirs is private.
pub(crate) struct Home {
    state: tempfile::TempDir,
    shared: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self {
            state: tempfile::Builder::new().prefix("skls").tempdir().unwrap(),
            shared: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
        }
    }

    /// The daemon's own directory.
    pub(crate) fn directory(&self) -> PathBuf {
        self.state.path().join("sockerless-lambda")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.directory().join("lambda.db")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory().join("docker.sock")
    }

    /// A file that programs in containers can write.
    pub(crate) fn shared(&self, name: &str) -> PathBuf {
        self.shared.path().join(name)
    }

    /// The binary, with nothing of this machine's configuration.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("XDG_STATE_HOME", self.state.path()).env("HOME", self.state.path());
        command.stdin(Stdio::null());
        command
    }

    /// The binary, believing in a real account whose endpoint happens to be on this machine. The key `sandbox` stands for
    /// what the sandbox behind the endpoint demands.
    pub(crate) fn account_command(&self, endpoint: &str, key: &str) -> Command {
        let mut command = self.command(&["--region", "us-east-1", "--role-arn", ROLE, "--endpoint-url", endpoint]);
        command.args(["--image-registry", REGISTRY]).arg("--database").arg(self.database());
        let (id, secret) = keys(endpoint).unwrap_or_else(|| ("sandbox".to_owned(), "sandbox".to_owned()));
        let id = if key == "sandbox" { &id } else { key };
        command.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret);
        command
    }

    /// Starts the daemon on its embedded sandbox, and waits until it serves.
    pub(crate) fn serve(&self) -> Daemon {
        self.serve_with(&["--sandbox"])
    }

    pub(crate) fn serve_with(&self, args: &[&str]) -> Daemon {
        let mut child = self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            let mut words = String::new();
            child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
            panic!("the daemon did not start: {words}");
        }
        let host = line.trim().strip_prefix("export DOCKER_HOST=").unwrap().to_owned();
        // Whatever it says is read, so that it never waits for us.
        let mut words = child.stderr.take().unwrap();
        std::thread::spawn(move || std::io::copy(&mut words, &mut std::io::sink()));
        Daemon { child, host }
    }

    /// What the sandbox that belongs to the database says of itself.
    pub(crate) fn sandbox(&self) -> Value {
        sandbox_state(&self.sandbox_endpoint())
    }

    /// Makes calls of the sandbox that belongs to the database fail, or lets all succeed again.
    pub(crate) fn set_faults(&self, faults: &Value) {
        set_faults(&self.sandbox_endpoint(), faults);
    }

    fn sandbox_endpoint(&self) -> String {
        let text = std::fs::read_to_string(self.database().with_extension("db.sandbox")).unwrap();
        endpoint_of(&text).unwrap()
    }
}

/// Ends the sandbox too, whatever became of the daemon.
impl Drop for Home {
    fn drop(&mut self) {
        let Ok(text) = std::fs::read_to_string(self.database().with_extension("db.sandbox")) else { return };
        if let Some(endpoint) = endpoint_of(&text) {
            let _ = http(&endpoint, "POST", "/_sandbox/stop", "{\"when_idle\":false}");
        }
    }
}

/// Where the sandbox of a rendezvous is; its keys are remembered.
fn endpoint_of(rendezvous: &str) -> Option<String> {
    let rendezvous: Value = serde_json::from_str(rendezvous).ok()?;
    let word = |name: &str| rendezvous[name].as_str().map(str::to_owned);
    let endpoint = word("endpoint")?;
    remember_keys(&endpoint, (word("access_key_id")?, word("secret_access_key")?));
    Some(endpoint)
}

/// The keys that the sandboxes of this test demand, by endpoint.
static KEYS: Mutex<BTreeMap<String, (String, String)>> = Mutex::new(BTreeMap::new());

pub(crate) fn remember_keys(endpoint: &str, keys: (String, String)) {
    KEYS.lock().unwrap().insert(endpoint.to_owned(), keys);
}

/// The key id and the secret of the sandbox there, if it is one.
pub(crate) fn keys(endpoint: &str) -> Option<(String, String)> {
    KEYS.lock().unwrap().get(endpoint).cloned()
}

/// A header, with its line's end, for what is asked of a sandbox by hand.
pub(crate) fn authorization(endpoint: &str) -> String {
    keys(endpoint).map_or_else(String::new, |(_, secret)| format!("Authorization: Bearer {secret}\r\n"))
}

/// The state of a sandbox, as its admin surface tells it.
pub(crate) fn sandbox_state(endpoint: &str) -> Value {
    let (status, body) = http(endpoint, "GET", "/_sandbox/state", "").unwrap();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn set_faults(endpoint: &str, faults: &Value) {
    let (status, body) = http(endpoint, "POST", "/_sandbox/faults", &faults.to_string()).unwrap();
    assert_eq!(status, 200, "{body}");
}

/// One HTTP exchange on a connection of its own.
pub(crate) fn http(endpoint: &str, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    exchange(endpoint, method, path, &authorization(endpoint), body)
}

/// As [`http`], with headers, each with its line's end.
pub(crate) fn exchange(
    endpoint: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let address = endpoint.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address)?;
    let length = body.len();
    let has_type = body.is_empty() || headers.to_ascii_lowercase().contains("content-type:");
    let of_type = if has_type { "" } else { "Content-Type: application/json\r\n" };
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{of_type}{headers}\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok((status, if chunked { dechunk(body) } else { body.to_owned() }))
}

fn dechunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        whole.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    whole
}

/// A daemon that serves.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) host: String,
}

impl Daemon {
    pub(crate) fn docker(&self) -> Docker {
        let path = self.host.strip_prefix("unix://").unwrap();
        Docker::connect_with_unix(path, 120, bollard::API_DEFAULT_VERSION).unwrap()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the exit code that follows.
    pub(crate) fn stop(mut self) -> i32 {
        terminate(&self.child);
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many lines a file has; a missing one has none.
pub(crate) fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// A sandbox that stands for AWS itself, shared by several daemons.
pub(crate) struct Aws {
    child: Child,
    pub(crate) endpoint: String,
}

impl Aws {
    pub(crate) fn start(home: &Home) -> Self {
        let mut child = home.command(&["sandbox"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut variable = |name: &str| {
            let begin = format!("export {name}=");
            lines.find_map(|line| line.unwrap().strip_prefix(&begin).map(str::to_owned)).unwrap()
        };
        let endpoint = variable("AWS_ENDPOINT_URL");
        remember_keys(&endpoint, (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")));
        Self { child, endpoint }
    }

    /// What it holds.
    pub(crate) fn state(&self) -> Value {
        sandbox_state(&self.endpoint)
    }

    /// Makes calls fail, or lets all succeed again.
    pub(crate) fn set_faults(&self, faults: &Value) {
        set_faults(&self.endpoint, faults);
    }

    /// How many calls there were, by operation.
    pub(crate) fn calls(&self) -> BTreeMap<String, u64> {
        serde_json::from_value(self.state()["calls"].clone()).unwrap()
    }

    /// The names of the functions that there are.
    pub(crate) fn functions(&self) -> Vec<String> {
        let functions = self.state()["functions"].as_array().unwrap().clone();
        functions.iter().map(|function| function["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Makes a function by hand. `tags`: the members of a JSON object.
    pub(crate) async fn create_function(&self, name: &str, tags: &str) {
        let body = format!(
            r#"{{"FunctionName":"{name}","Role":"{ROLE}","PackageType":"Image",
                "Code":{{"ImageUri":"{REGISTRY}/host:latest"}},"Tags":{{{tags}}}}}"#
        );
        until("it is made", async || (self.call("POST", "/2015-03-31/functions", &body).0 == 201).then_some(())).await;
    }

    /// Changes a function's configuration by hand, and waits until that is done.
    pub(crate) async fn change_function(&self, name: &str, change: &str) {
        self.change(name, "configuration", change).await;
    }

    /// Changes a function's `code` or `configuration` by hand, and waits until that is done.
    pub(crate) async fn change(&self, name: &str, part: &str, change: &str) {
        let path = format!("/2015-03-31/functions/{name}");
        let changed = format!("{path}/{part}");
        until("it can be changed", async || (self.call("PUT", &changed, change).0 == 200).then_some(())).await;
        let done = "\"LastUpdateStatus\":\"Successful\"";
        until("it is changed", async || self.call("GET", &path, "").1.contains(done).then_some(())).await;
    }

    /// A call of Lambda by hand.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        http(&self.endpoint, method, path, body).unwrap()
    }
}

impl Drop for Aws {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A daemon that believes in a real account, whose endpoint happens to be on this machine.
pub(crate) struct Account {
    child: Child,
    pub(crate) metrics: String,
    socket: PathBuf,
}

impl Account {
    pub(crate) fn start(home: &Home, endpoint: &str, key: &str, args: &[&str]) -> Self {
        Self::start_with(home, endpoint, key, args, &[])
    }

    /// One that is ready.
    pub(crate) async fn serving(home: &Home, aws: &Aws, args: &[&str]) -> Self {
        let account = Self::start(home, &aws.endpoint, "sandbox", args);
        account.until_ready().await;
        account
    }

    /// With variables of the environment.
    pub(crate) fn start_with(
        home: &Home,
        endpoint: &str,
        key: &str,
        args: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let metrics = free_address();
        let socket = home.directory().join("api.sock");
        std::fs::create_dir_all(home.directory()).unwrap();
        let child = home
            .account_command(endpoint, key)
            .args(["--metrics-listen", &metrics, "--listen", &format!("unix://{}", socket.display())])
            .args(args)
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, metrics, socket }
    }

    /// What /readyz says, with its status.
    pub(crate) fn ready(&self) -> Option<(u16, Value)> {
        let (status, body) = http(&self.metrics, "GET", "/readyz", "").ok()?;
        Some((status, serde_json::from_str(&body).ok()?))
    }

    /// The status of /healthz.
    pub(crate) fn alive(&self) -> u16 {
        http(&self.metrics, "GET", "/healthz", "").unwrap().0
    }

    pub(crate) async fn until_ready(&self) {
        until("it is ready", async || self.ready().filter(|(status, _)| *status == 200)).await;
    }

    /// What /metrics says.
    pub(crate) fn metrics(&self) -> String {
        http(&self.metrics, "GET", "/metrics", "").unwrap().1
    }

    /// Waits for a problem of this name, and gives its reason.
    pub(crate) async fn until_problem(&self, name: &str) -> String {
        until(name, async || {
            let (status, body) = self.ready()?;
            (status == 503 && body.to_string().contains(name)).then(|| body.to_string())
        })
        .await
    }

    pub(crate) fn docker(&self) -> Docker {
        Docker::connect_with_unix(self.socket.to_str().unwrap(), 120, bollard::API_DEFAULT_VERSION).unwrap()
    }

    pub(crate) fn stop(mut self) {
        terminate(&self.child);
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }

    /// SIGTERM, and an end in time.
    #[cfg(feature = "otlp")]
    pub(crate) async fn stop_in_time(mut self) {
        terminate(&self.child);
        let ended = until("it stops", async || self.child.try_wait().unwrap()).await;
        assert_eq!(ended.code(), Some(0));
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// SIGTERM.
pub(crate) fn terminate(child: &Child) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
}

impl Drop for Account {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Waits for a state, and fails with `what` if it does not come.
pub(crate) async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, look).await
}
