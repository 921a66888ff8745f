//! Health, as an orchestrator and as systemd see it.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use sqlx::{ConnectOptions as _, Connection as _};

use crate::support::{Account, Aws, Home, PATIENCE, free_address, terminate, until};

/// The socket on which systemd would listen.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(home: &Home) -> Self {
        std::fs::create_dir_all(home.directory()).unwrap();
        let path = home.directory().join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self { socket, path }
    }

    /// The next message, line by line.
    fn next(&self) -> Vec<String> {
        let mut message = [0; 4096];
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = self.socket.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap().lines().map(str::to_owned).collect()
    }

    /// Waits for a line that begins like this, and gives all that came before it, and the line.
    fn until(&self, beginning: &str) -> Vec<String> {
        let begun = Instant::now();
        let mut heard = Vec::new();
        while begun.elapsed() < PATIENCE {
            for line in self.next() {
                let found = line.starts_with(beginning);
                heard.push(line);
                if found {
                    return heard;
                }
            }
        }
        panic!("{beginning} was not said: {heard:?}");
    }

    /// What has come and was not heard yet.
    fn rest(&self) -> Vec<String> {
        let mut message = [0; 4096];
        self.socket.set_nonblocking(true).unwrap();
        let mut heard = Vec::new();
        while let Ok(length) = self.socket.recv(&mut message) {
            heard.extend(String::from_utf8_lossy(&message[..length]).lines().map(str::to_owned));
        }
        heard
    }
}

/// A daemon on its sandbox that systemd has started; `pid`: whom the watchdog is meant for.
fn service(home: &Home, manager: &Manager, limit: Duration, pid: Option<u32>) -> Child {
    let mut command = home.command(&["--sandbox"]);
    command.env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", limit.as_micros().to_string());
    if let Some(pid) = pid {
        command.env("WATCHDOG_PID", pid.to_string());
    }
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn count(heard: &[String], line: &str) -> usize {
    heard.iter().filter(|heard| *heard == line).count()
}

#[tokio::test]
async fn systemd_hears_that_it_is_ready_alive_and_stopping() {
    let home = Home::new();
    let manager = Manager::new(&home);
    let limit = Duration::from_secs(4);
    let mut daemon = service(&home, &manager, limit, None);
    let heard = manager.until("READY=1");
    assert_eq!(heard, ["READY=1"], "nothing is said before requests are served");
    assert!(home.socket().exists());
    manager.until("STATUS=ready");
    manager.until("WATCHDOG=1");
    let begun = Instant::now();
    for _ in 0..2 {
        let before = Instant::now();
        manager.until("WATCHDOG=1");
        assert!(before.elapsed() < limit, "a sign of life comes after {:?}", before.elapsed());
    }
    assert!(begun.elapsed() > limit / 2, "signs of life come too often: {:?}", begun.elapsed());
    terminate(&daemon);
    let heard = manager.until("STATUS=stopping");
    assert_eq!(count(&heard, "STOPPING=1"), 1, "{heard:?}");
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
    assert_eq!(count(&manager.rest(), "READY=1"), 0, "it is said once");
}

#[tokio::test]
async fn a_watchdog_for_another_process_is_none_of_ours() {
    let home = Home::new();
    let manager = Manager::new(&home);
    let mut daemon = service(&home, &manager, Duration::from_millis(10), Some(1));
    let mut heard = manager.until("STATUS=ready");
    terminate(&daemon);
    heard.extend(manager.until("STATUS=stopping"));
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
    heard.extend(manager.rest());
    assert_eq!((count(&heard, "READY=1"), count(&heard, "WATCHDOG=1")), (1, 0), "{heard:?}");
}

#[tokio::test]
async fn a_daemon_inside_a_command_is_no_service() {
    let home = Home::new();
    let manager = Manager::new(&home);
    for args in [&["run", "--sandbox", "host", "true"][..], &["--sandbox", "--reconcile-once"]] {
        let mut command = home.command(args);
        command.env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", "10000");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    assert_eq!(manager.rest(), [""; 0]);
}

#[tokio::test]
async fn systemd_and_readyz_tell_what_is_wrong() {
    let home = Home::new();
    let manager = Manager::new(&home);
    let nowhere = format!("http://{}", free_address());
    let mut command = home.account_command(&nowhere, "sandbox");
    command.args(["--listen", &format!("unix://{}", home.socket().display())]).env("NOTIFY_SOCKET", &manager.path);
    let mut daemon = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let heard = manager.until("STATUS=not ready: aws: ");
    assert!(heard.last().unwrap().starts_with("STATUS=not ready: aws: logs: describe log streams: "), "{heard:?}");
    terminate(&daemon);
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
}

/// Another process holds the database's write lock: the daemon is alive, is not ready, and says why; then it is ready.
#[tokio::test]
async fn a_store_that_cannot_be_written_is_found_without_a_client() {
    let home = Home::new();
    let aws = Aws::start(&home);
    let account = Account::serving(&home, &aws, &[]).await;
    assert!(account.metrics().contains("sockerless_stalled{part=\"writer\"} 0"));
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(home.database());
    let mut thief = options.connect().await.unwrap();
    let theft = thief.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let reason = account.until_problem("store").await;
    assert!(reason.contains("database is locked"), "{reason}");
    assert_eq!(account.alive(), 200);
    theft.rollback().await.unwrap();
    account.until_ready().await;
    until("no stall is shown", async || {
        let metrics = account.metrics();
        let well = ["reconciler", "writer"]
            .iter()
            .all(|part| metrics.contains(&format!("sockerless_stalled{{part=\"{part}\"}} 0")));
        well.then_some(())
    })
    .await;
    account.stop();
}
