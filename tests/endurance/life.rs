//! Lives a story out against a daemon that may die at any moment, and keeps count of what was really wished.
//!
//! A request without an answer may have been carried out. So each wish is repeated until somebody answers, and where
//! repeating is not harmless (a start is one more run), the container's generation tells whether the first was taken.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::Value;

use crate::client::{Client, Reply};
use crate::story::{Plan, Story};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// So long a user waits for a function before starting its container all the same.
const READY_LIMIT: Duration = Duration::from_secs(5);

/// What a client was told of a run's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// This exit code.
    Code(i64),
    /// 125: nobody can tell.
    Unknown,
    /// Nothing: the container was removed before.
    Nothing,
}

/// What is known of a container at the end of its story.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) plan: Plan,
    /// The container's id.
    pub(crate) id: String,
    /// The file to which each of its runs adds a line.
    pub(crate) ran: PathBuf,
    /// For each start that was recorded, what came of it.
    pub(crate) runs: Vec<Told>,
    /// Answers that cannot be, in words.
    pub(crate) violations: Vec<String>,
}

/// One container's user.
struct User<'a> {
    client: &'a Client,
    record: Record,
}

/// Lives it out. Returns when the removal was acknowledged.
pub(crate) async fn live(client: &Client, plan: Plan, shared: &Path) -> Record {
    let ran = shared.join(&plan.name);
    let record = Record { plan, id: String::new(), ran, runs: Vec::new(), violations: Vec::new() };
    let mut user = User { client, record };
    user.create().await;
    if user.record.plan.ready_first {
        user.until_it_is_ready().await;
    }
    match user.record.plan.story {
        Story::NeverStarted => user.remove(false).await,
        Story::Once => {
            user.run_to_the_end().await;
            user.remove(false).await;
        }
        Story::Twice => {
            user.run_to_the_end().await;
            user.run_to_the_end().await;
            user.remove(false).await;
        }
        Story::RemovedAtOnce => {
            user.start().await;
            user.record.runs.push(Told::Nothing);
            user.remove(true).await;
        }
        Story::RemovedWhileRunning => {
            user.start().await;
            let told = user.until_it_runs().await;
            user.record.runs.push(told);
            user.remove(true).await;
        }
        Story::StoppedAtOnce => {
            user.start().await;
            user.stop().await;
            user.wait().await;
            user.remove(false).await;
        }
        Story::AutoRemoved => user.run_to_the_end().await,
    }
    user.record
}

impl User<'_> {
    fn path(&self, operation: &str) -> String {
        format!("/containers/{}{operation}", self.record.id)
    }

    fn wrong(&mut self, doing: &str, reply: &Reply) {
        self.record.violations.push(format!("{}: {doing}: {reply}", self.record.plan.name));
    }

    async fn create(&mut self) {
        let path = format!("/containers/create?name={}", self.record.plan.name);
        let body = self.record.plan.body(&self.record.ran);
        let (reply, unsure) = self.client.insist(Method::POST, &path, Some(&body)).await;
        match &reply {
            Reply::Done(201, made) => self.record.id = made["Id"].as_str().unwrap().to_owned(),
            // The name is taken: by the try that was not answered.
            Reply::Refused(409, _) if unsure => {
                let found = self.look_at(&self.record.plan.name).await;
                self.record.id = found.unwrap()["Id"].as_str().unwrap().to_owned();
            }
            other => panic!("{}: {other}", self.record.plan.name),
        }
    }

    /// What inspect says; `None`: there is no such container.
    async fn look_at(&self, name: &str) -> Option<Value> {
        match self.client.insist(Method::GET, &format!("/containers/{name}/json"), None).await.0 {
            Reply::Done(_, shown) => Some(shown),
            _ => None,
        }
    }

    async fn generation(&self) -> u64 {
        let shown = self.look_at(&self.record.id).await;
        shown.and_then(|shown| shown["Sockerless"]["Generation"].as_u64()).unwrap_or(0)
    }

    /// Until the function can be invoked; not for ever, as a lost creation is made good by a start only.
    async fn until_it_is_ready(&self) {
        let begin = Instant::now();
        while begin.elapsed() < READY_LIMIT {
            let shown = self.look_at(&self.record.id).await.unwrap_or_default();
            let mut conditions = shown["Sockerless"]["Conditions"].as_array().unwrap().iter();
            if conditions.any(|condition| condition["type"] == "FunctionReady" && condition["status"] == "True") {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Wants one run, and exactly one.
    async fn start(&mut self) {
        let before = self.generation().await;
        loop {
            match self.client.ask(Method::POST, &self.path("/start"), None).await {
                Reply::Done(204, _) => return,
                Reply::Lost if self.generation().await > before => return,
                Reply::Lost => {}
                other => return self.wrong("start", &other),
            }
        }
    }

    async fn stop(&mut self) {
        let (reply, _) = self.client.insist(Method::POST, &self.path("/stop"), None).await;
        if !matches!(reply, Reply::Done(204 | 304, _)) {
            self.wrong("stop", &reply);
        }
    }

    async fn run_to_the_end(&mut self) {
        self.start().await;
        self.wait().await;
    }

    async fn wait(&mut self) {
        let (reply, _) = self.client.insist(Method::POST, &self.path("/wait"), None).await;
        let told = match &reply {
            Reply::Done(_, end) => match (end["StatusCode"].as_i64(), end["Error"]["Message"].as_str()) {
                (Some(125), Some(why)) if why.starts_with("outcome unknown") => Told::Unknown,
                (Some(code), _) => Told::Code(code),
                // Who has removed nothing is told how it ended, also of what has removed itself.
                (None, _) => {
                    self.wrong("wait", &reply);
                    Told::Nothing
                }
            },
            _ => {
                self.wrong("wait", &reply);
                Told::Nothing
            }
        };
        self.record.runs.push(told);
    }

    /// Until the program was seen to run, or it is known that it will not.
    async fn until_it_runs(&mut self) -> Told {
        while !self.record.ran.exists() {
            let shown = self.look_at(&self.record.id).await.unwrap_or_default();
            if shown["State"]["Status"] == "exited" {
                if shown["State"]["Error"].as_str().is_some_and(|why| why.starts_with("outcome unknown")) {
                    return Told::Unknown;
                }
                if !self.record.ran.exists() {
                    self.wrong("exited before it ran", &Reply::Done(200, shown["State"].clone()));
                }
                return Told::Nothing;
            }
            tokio::time::sleep(LOOK).await;
        }
        Told::Nothing
    }

    async fn remove(&mut self, force: bool) {
        let path = self.path(if force { "?force=1" } else { "" });
        let (reply, unsure) = self.client.insist(Method::DELETE, &path, None).await;
        match reply {
            Reply::Done(204, _) => {}
            // The try that was not answered has removed it.
            Reply::Refused(404, _) if unsure => {}
            other => self.wrong("remove", &other),
        }
    }
}
