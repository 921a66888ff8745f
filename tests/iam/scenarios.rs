//! Every feature is used, and its calls are put to its documents.

use std::collections::BTreeSet;

use bollard::Docker;
use serde_json::Value;

use crate::docker::{create, logs, remove, start, wait};
use crate::needs::Call;
use crate::policy::{Need, Policy, allow, directory, names};
use crate::support::{Account, Aws, Home, REGISTRY, authorization, exchange, http, until};

const GROUPS: [&str; 2] = ["/sockerless/lambda", "/sockerless/lambda-claims"];
/// What every daemon has.
const ALWAYS: [&str; 2] = ["daemon-base", "daemon-images"];

/// The calls, one by one.
fn call_records(aws: &Aws) -> Vec<Value> {
    let (status, body) = http(&aws.endpoint, "GET", "/_sandbox/calls", "").unwrap();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn create_log_group(aws: &Aws, name: &str) {
    let headers = format!("{}X-Amz-Target: Logs_20140328.CreateLogGroup\r\n", authorization(&aws.endpoint));
    let body = format!("{{\"logGroupName\":\"{name}\"}}");
    let (status, answer) = exchange(&aws.endpoint, "POST", "/", &headers, &body).unwrap();
    assert_eq!(status, 200, "{answer}");
}

/// An account, and the calls that were made in it but for those by hand.
struct Scenario {
    home: Home,
    aws: Aws,
    calls: Vec<Call>,
    seen: usize,
}

impl Scenario {
    /// An account with our log groups.
    fn new() -> Self {
        let mut scenario = Self::without_log_groups();
        for group in GROUPS {
            create_log_group(&scenario.aws, group);
        }
        scenario.seen = call_records(&scenario.aws).len();
        scenario
    }

    fn without_log_groups() -> Self {
        let home = Home::new();
        let aws = Aws::start(&home);
        Self { home, aws, calls: Vec::new(), seen: 0 }
    }

    /// A daemon does something.
    async fn daemon(&self, args: &[&str], act: impl AsyncFnOnce(&Docker)) {
        let account = Account::start(&self.home, &self.aws.endpoint, "sandbox", args);
        account.until_ready().await;
        act(&account.docker()).await;
        account.stop();
    }

    /// One pass.
    fn pass(&self) {
        let mut command = self.home.account_command(&self.aws.endpoint, "sandbox");
        let output = command.args(["--reconcile-once", "--gc-grace", "0s"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }

    /// Something that is done by hand, while no daemon runs: those calls need no rights of ours.
    async fn by_hand(&mut self, act: impl AsyncFnOnce(&Aws)) {
        self.take_in();
        act(&self.aws).await;
        self.seen = call_records(&self.aws).len();
    }

    fn take_in(&mut self) {
        let records = call_records(&self.aws);
        self.calls.extend(records[self.seen..].iter().map(|call| serde_json::from_value(call.clone()).unwrap()));
        self.seen = records.len();
    }

    fn until_gone(&self) -> impl Future<Output = ()> {
        until("nothing is left", async || self.aws.functions().is_empty().then_some(()))
    }

    /// Puts the calls to the documents of the feature. Returns the grants that were used, by document.
    fn judge(mut self, feature: &[&str], role: &[&str]) -> BTreeSet<Grant> {
        self.take_in();
        let (by_role, by_daemon): (Vec<&Call>, Vec<&Call>) = self.calls.iter().partition(|call| call.by_role.is_some());
        let daemon: Vec<Need> = by_daemon.iter().flat_map(|call| call.needs()).collect();
        let mut of_role: Vec<Need> = by_role.iter().flat_map(|call| call.needs()).collect();
        of_role.extend(by_daemon.iter().flat_map(|call| call.needs_of_the_role()));
        let mut used = suffice_exactly(&daemon, &[&ALWAYS, feature].concat());
        used.extend(suffice_exactly(&of_role, role));
        used
    }
}

/// A document, a statement in it, and an action that it allows.
type Grant = (String, String, String);

/// Every need is allowed by these documents together, and not without any one of them.
fn suffice_exactly(needs: &[Need], documents: &[&str]) -> BTreeSet<Grant> {
    let policies: Vec<Policy> = documents.iter().map(|name| Policy::read(name)).collect();
    for need in needs {
        assert!(allow(&policies, need), "missing in {documents:?}: {need:?}");
    }
    for (index, superfluous) in policies.iter().enumerate() {
        let mut others = policies.clone();
        others.remove(index);
        let denied = needs.iter().any(|need| !allow(&others, need));
        assert!(denied, "{} is not needed for {needs:?}", superfluous.name);
    }
    let grants = |policy: &Policy, need: &Need| {
        let name = policy.name.clone();
        policy.used_by(need).into_iter().map(move |(sid, action)| (name.clone(), sid, action)).collect::<Vec<_>>()
    };
    policies.iter().flat_map(|policy| needs.iter().flat_map(move |need| grants(policy, need))).collect()
}

/// Two starts of a daemon, a container from creation to removal, and an orphan.
async fn base() -> BTreeSet<Grant> {
    let mut scenario = Scenario::new();
    scenario
        .daemon(&[], async |docker| {
            create(docker, "job", "echo out; exit 3", &[]).await;
            start(docker, "job").await;
            assert_eq!(wait(docker, "job").await, 3);
            assert_eq!(logs(docker, "job").await, "out\n");
        })
        .await;
    let name = scenario.aws.functions().remove(0);
    let instance = name.split('-').nth(1).unwrap().to_owned();
    let digits = "ab".repeat(32);
    let tags = format!(
        r#""sockerless.instance":"{instance}","sockerless.container":"{digits}","sockerless.created":"1",
           "sockerless.managed-by":"sockerless-backend-lambda""#
    );
    let orphan = format!("skls-{instance}-{}", &digits[..24]);
    scenario.by_hand(async |aws| aws.create_function(&orphan, &tags).await).await;
    scenario.pass();
    scenario.pass();
    assert_eq!(scenario.aws.functions(), [name], "the orphan is gone");
    scenario.daemon(&[], async |docker| remove(docker, "job").await).await;
    scenario.pass();
    scenario.until_gone().await;
    scenario.judge(&[], &["execution-role"])
}

async fn event_invocation() -> BTreeSet<Grant> {
    let scenario = Scenario::new();
    scenario
        .daemon(&[], async |docker| {
            create(docker, "job", "exit 3", &[("sockerless.lambda.invocation-type", "Event")]).await;
            start(docker, "job").await;
            assert_eq!(wait(docker, "job").await, 3);
        })
        .await;
    scenario.judge(&["daemon-event-invocation"], &["execution-role"])
}

async fn log_group() -> BTreeSet<Grant> {
    let scenario = Scenario::without_log_groups();
    scenario
        .daemon(&["--log-retention-days", "7"], async |docker| {
            create(docker, "job", "exit 3", &[]).await;
            start(docker, "job").await;
            assert_eq!(wait(docker, "job").await, 3);
        })
        .await;
    scenario.judge(&["daemon-log-group"], &["execution-role"])
}

/// A container that is made and not started.
async fn idle(scenario: &Scenario, labels: &[(&str, &str)]) {
    let args = ["--gc-interval", "1h"];
    scenario
        .daemon(&args, async |docker| {
            create(docker, "job", "true", labels).await;
            until("it is made", async || (!scenario.aws.functions().is_empty()).then_some(())).await;
        })
        .await;
    scenario.pass();
}

async fn retain() -> BTreeSet<Grant> {
    let scenario = Scenario::new();
    idle(&scenario, &[("sockerless.lambda.deletion-policy", "retain")]).await;
    scenario.daemon(&[], async |docker| remove(docker, "job").await).await;
    scenario.pass();
    assert_eq!(scenario.aws.functions().len(), 1, "it is left to its user");
    scenario.judge(&["daemon-retain"], &[])
}

async fn configuration_update() -> BTreeSet<Grant> {
    let mut scenario = Scenario::new();
    idle(&scenario, &[]).await;
    let name = scenario.aws.functions().remove(0);
    scenario.by_hand(async |aws| aws.change_function(&name, "{\"MemorySize\":128}").await).await;
    scenario.pass();
    scenario.judge(&["daemon-configuration-update"], &[])
}

async fn image_update() -> BTreeSet<Grant> {
    let mut scenario = Scenario::new();
    idle(&scenario, &[]).await;
    let name = scenario.aws.functions().remove(0);
    let code = format!("{{\"ImageUri\":\"{REGISTRY}/host:latest\",\"Architectures\":[\"arm64\"]}}");
    scenario.by_hand(async |aws| aws.change(&name, "code", &code).await).await;
    scenario.pass();
    scenario.judge(&["daemon-image-update"], &[])
}

async fn vpc() -> BTreeSet<Grant> {
    let scenario = Scenario::new();
    let labels = [("sockerless.lambda.subnet-ids", "subnet-1"), ("sockerless.lambda.security-group-ids", "sg-1")];
    idle(&scenario, &labels).await;
    scenario.judge(&["daemon-vpc"], &["execution-role-vpc"])
}

/// What no call shows: the image's repository, which lets Lambda in, or is opened by Lambda with the caller's rights.
async fn repository() -> BTreeSet<Grant> {
    let mut scenario = Scenario::new();
    idle(&scenario, &[]).await;
    scenario.take_in();
    let needs = |of: fn(&Call) -> Vec<Need>| scenario.calls.iter().flat_map(of).collect::<Vec<_>>();
    let mut used = suffice_exactly(&needs(Call::needs_of_lambda), &["repository-policy"]);
    used.extend(suffice_exactly(&needs(Call::needs_of_a_closed_repository), &["daemon-repository-policy"]));
    used
}

/// Nothing is missing in any feature, and every action of every document is needed by some feature.
#[tokio::test]
async fn nothing_is_missing_and_nothing_superfluous() {
    let features = futures_util::future::join_all([
        Box::pin(base()) as std::pin::Pin<Box<dyn Future<Output = BTreeSet<Grant>>>>,
        Box::pin(event_invocation()),
        Box::pin(log_group()),
        Box::pin(retain()),
        Box::pin(configuration_update()),
        Box::pin(image_update()),
        Box::pin(vpc()),
        Box::pin(repository()),
    ]);
    let used: BTreeSet<Grant> = features.await.into_iter().flatten().collect();
    // Nobody calls to assume the role: that is what the role is for.
    let documents = names().into_iter().filter(|name| name != "execution-role-trust");
    let granted: BTreeSet<Grant> = documents
        .flat_map(|name| {
            let policy = Policy::read(&name);
            policy.grants().into_iter().map(move |(sid, action)| (name.clone(), sid, action))
        })
        .collect();
    assert_eq!(granted.difference(&used).collect::<Vec<_>>(), Vec::<&Grant>::new(), "superfluous");
}

/// The guide to the documents names all of them.
#[test]
fn every_document_is_explained() {
    let guide = std::fs::read_to_string(directory().join("README.md")).unwrap();
    for name in names() {
        assert!(guide.contains(&format!("`{name}.json`")), "{name}");
    }
}
