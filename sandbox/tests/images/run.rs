//! Functions of images, by the real SDK: what programs see in their roots, and what they cannot do there.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use aws_sdk_lambda as lambda_sdk;
use lambda_sdk::config::retry::RetryConfig;
use lambda_sdk::config::timeout::TimeoutConfig;
use lambda_sdk::config::{BehaviorVersion, Credentials, Region, StalledStreamProtectionConfig};
use lambda_sdk::error::ProvideErrorMetadata as _;
use lambda_sdk::operation::create_function::builders::CreateFunctionFluentBuilder;
use lambda_sdk::operation::get_function_configuration::GetFunctionConfigurationOutput;
use lambda_sdk::operation::invoke::InvokeOutput;
use lambda_sdk::primitives::Blob;
use lambda_sdk::types::{Architecture, FunctionCode, ImageConfig, LogType, PackageType, State, StateReasonCode};
use serde_json::{Value, json};
use sockerless_bootstrap::protocol::{Answer, Verdict, decode_line};
use sockerless_sandbox::runner::RunnerConfig;
use sockerless_sandbox::settings::Settings;
use sockerless_sandbox::{ImageOptions, Options, Programs, Sandbox};

use crate::build::build;
use crate::support::{Files, Image, Layout, architecture, probe_image};

const ROLE: &str = "arn:aws:iam::000000000000:role/functions";
/// The tag that asks for the bootstrap in front, and the mark of a program that needs none.
const TAG: (&str, &str) = ("speaks", "bootstrap");
const MARK: &str = "this program is a front";
const PATIENCE: Duration = Duration::from_secs(60);

/// The helper that enters roots, built like this test: it is an example of this crate.
fn helper() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build(["--example", "environment"])).clone()
}

struct Aws {
    sandbox: Sandbox,
    lambda: lambda_sdk::Client,
    directory: tempfile::TempDir,
}

/// What an invocation of the bootstrap came to.
struct Ran {
    verdict: Verdict,
    lines: Vec<String>,
}

impl Aws {
    async fn start(layout: &Layout) -> Self {
        Self::with(layout, vec![helper().into()], "no program holds these bytes").await
    }

    async fn with(layout: &Layout, enter: Vec<OsString>, mark: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        layout.write(&directory.path().join("images/layout"));
        let mut settings = Settings { front_tag: Some((TAG.0.to_owned(), TAG.1.to_owned())), ..Settings::instant() };
        // On top of the function's own timeout.
        settings.timing.init_limit = 1_000;
        let runner = RunnerConfig { isolate: true, enter, ..RunnerConfig::default() };
        let mut options = Options::new(settings, Programs::Real(runner));
        options.images = Some(ImageOptions {
            directories: vec![directory.path().join("images")],
            store: directory.path().join("store"),
            front_mark: mark.as_bytes().to_vec(),
        });
        let sandbox = Sandbox::start(options).await.unwrap();
        let lambda = client(&sandbox.endpoint());
        Self { sandbox, lambda, directory }
    }

    fn create(&self, name: &str, image: &str) -> CreateFunctionFluentBuilder {
        self.lambda
            .create_function()
            .function_name(name)
            .role(ROLE)
            .package_type(PackageType::Image)
            .timeout(30)
            .memory_size(256)
            .code(FunctionCode::builder().image_uri(image).build())
    }

    /// Until the function is not Pending any more.
    async fn settled(&self, name: &str) -> GetFunctionConfigurationOutput {
        let look = async {
            loop {
                let got = self.lambda.get_function_configuration().function_name(name).send().await.unwrap();
                if got.state != Some(State::Pending) {
                    return got;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.unwrap()
    }

    /// A function with the bootstrap in front, ready.
    async fn function(&self, name: &str, image: &str) {
        self.create(name, image).tags(TAG.0, TAG.1).send().await.unwrap();
        let settled = self.settled(name).await;
        assert_eq!(settled.state, Some(State::Active), "{:?}", settled.state_reason);
    }

    async fn invoke(&self, name: &str, payload: &Value) -> InvokeOutput {
        let payload = Blob::new(payload.to_string());
        self.lambda.invoke().function_name(name).log_type(LogType::Tail).payload(payload).send().await.unwrap()
    }

    /// Runs an order; the program's lines come from the tail of the log.
    async fn run(&self, name: &str, mut order: Value) -> Ran {
        order["version"] = json!(1);
        order["token"] = json!(format!("token-{name}-{order}").replace([' ', '"'], ""));
        let output = self.invoke(name, &json!({ "sockerless": order })).await;
        let payload = output.payload.unwrap().into_inner();
        let answer: Result<Answer, _> = serde_json::from_slice(&payload);
        let verdict = answer.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&payload))).sockerless;
        Ran { verdict, lines: lines(&output.log_result.unwrap()) }
    }

    /// The probe's lines, one for each word that it is given.
    async fn probe(&self, name: &str, words: &[&str]) -> Vec<String> {
        let command: Vec<&str> = std::iter::once("/bin/probe").chain(words.iter().copied()).collect();
        let ran = self.run(name, json!({ "command": command })).await;
        assert_eq!((ran.verdict.exit_code, ran.lines.len()), (0, words.len()), "{:?}", ran.lines);
        ran.lines
    }
}

fn client(endpoint: &str) -> lambda_sdk::Client {
    let config = lambda_sdk::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .endpoint_url(endpoint)
        .build();
    lambda_sdk::Client::from_conf(config)
}

/// The program's lines in the tail of a log.
fn lines(tail: &str) -> Vec<String> {
    use base64::Engine as _;
    let text = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(tail).unwrap()).unwrap();
    let platform = ["START ", "END ", "REPORT "];
    let own = text.lines().filter(|line| !platform.iter().any(|word| line.starts_with(word)));
    own.filter_map(decode_line).map(|(_, text, _)| String::from_utf8(text.into_owned()).unwrap()).collect()
}

/// An image that has the probe as its program.
fn probe(config: Value) -> Option<Image> {
    let base = json!({ "Cmd": ["/bin/probe", "args"], "Env": ["PATH=/bin", "FROM=image", "BOTH=image"] });
    let merged = base.as_object().unwrap().clone().into_iter().chain(config.as_object().unwrap().clone());
    probe_image(Value::Object(merged.collect()))
}

#[tokio::test]
async fn a_program_sees_its_image_and_nothing_else() {
    let Some(image) = probe(json!({ "WorkingDir": "/srv/app" })) else { return };
    let image = image.plain(Files::new().directory("srv/app", 0o755).file("srv/app/data", 0o644, "mine"));
    let aws = Aws::start(&Layout::default().with("docker.io/library/app:1", &image)).await;
    aws.create("f", "app:1").tags(TAG.0, TAG.1).ephemeral_storage(storage(700)).send().await.unwrap();
    aws.settled("f").await;
    let words = [
        "list=/",
        "cwd",
        "read=data",
        "env=FROM",
        "env=AWS_LAMBDA_FUNCTION_NAME",
        "env=AWS_LAMBDA_RUNTIME_API",
        "list=/dev",
        "numbers=/proc",
        "read=/proc/sys/kernel/hostname",
        "status=Uid",
        "status=Gid",
        "status=CapEff",
        "status=NoNewPrivs",
        "list=/tmp",
        "args",
    ];
    let lines = aws.probe("f", &words).await;
    let hostname = lines[8].strip_prefix("/proc/sys/kernel/hostname: Ok(\"").unwrap();
    assert_eq!(
        lines[..8],
        [
            "/: bin dev etc proc srv sys tmp",
            "cwd /srv/app",
            "data: Ok(\"mine\")",
            "FROM=Some(\"image\")",
            "AWS_LAMBDA_FUNCTION_NAME=Some(\"f\")",
            "AWS_LAMBDA_RUNTIME_API=None",
            "/dev: fd full null random stderr stdin stdout urandom zero",
            "/proc: 2",
        ]
    );
    assert!(hostname.len() == 12 + 4 && hostname[..12].bytes().all(|digit| digit.is_ascii_hexdigit()), "{hostname}");
    let rights = ["Uid: 993 993 993 993", "Gid: 990 990 990 990", "CapEff: 0000000000000000", "NoNewPrivs: 1"];
    assert_eq!(lines[9..13], rights);
    assert_eq!(lines[13], "/tmp: .sockerless-seen");
    assert!(lines[14].starts_with("args [\"/bin/probe\", \"list=/\", "), "{}", lines[14]);
    aws.sandbox.stop().await;
}

fn storage(megabytes: i32) -> lambda_sdk::types::EphemeralStorage {
    lambda_sdk::types::EphemeralStorage::builder().size(megabytes).build().unwrap()
}

#[tokio::test]
async fn only_tmp_can_be_written_to_and_it_has_its_size() {
    let Some(image) = probe(json!({})) else { return };
    let image = image.plain(Files::new().file("open", 0o666, "as it was").directory("open-dir", 0o777));
    let aws = Aws::start(&Layout::default().with("app:1", &image)).await;
    aws.create("f", "app:1").tags(TAG.0, TAG.1).memory_size(2_048).send().await.unwrap();
    aws.settled("f").await;
    aws.function("g", "app:1").await;
    let words = [
        "write=/new",
        "write=/open",
        "write=/open-dir/x",
        "remove=/open",
        "write=/dev/x",
        "write=/dev/null",
        "write=/etc/hosts",
        "write=/tmp/mine",
        "fill=500",
        "fill=600",
    ];
    let lines = aws.probe("f", &words).await;
    let read_only = |what: &str| format!("{what}: Err(ReadOnlyFilesystem)");
    let refused = ["write /new", "write /open", "write /open-dir/x", "remove /open", "write /dev/x"].map(read_only);
    assert_eq!(lines[..5], refused);
    assert_eq!(lines[5], "write /dev/null: Ok(())");
    assert!(lines[6].starts_with("write /etc/hosts: Err("), "{}", lines[6]);
    assert_eq!(lines[7..], ["write /tmp/mine: Ok(())", "fill: Ok(())", "fill: Err(StorageFull)"]);
    // It stays for the next invocation of the environment, and is nobody else's.
    assert_eq!(aws.probe("f", &["list=/tmp", "read=/open"]).await[0], "/tmp: .sockerless-seen mine");
    assert_eq!(
        aws.probe("g", &["list=/tmp", "read=/open"]).await,
        ["/tmp: .sockerless-seen", "/open: Ok(\"as it was\")"]
    );
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn entrypoint_and_command_are_obeyed_as_in_docker() {
    let entrypoint = ["/bin/probe", "args", "env=BOTH"];
    let Some(image) = probe(json!({ "Entrypoint": entrypoint, "Cmd": ["cwd"] })) else { return };
    let aws = Aws::start(&Layout::default().with("app:1", &image)).await;
    aws.function("f", "app:1").await;
    let own = r#"args ["/bin/probe", "args", "env=BOTH", "#;
    for (order, lines) in [
        (
            json!({ "after_entrypoint": true }),
            vec![format!("{own}\"cwd\"]"), "BOTH=Some(\"image\")".into(), "cwd /".into()],
        ),
        (
            json!({ "after_entrypoint": true, "command": ["status=Uid"], "env": ["BOTH=container"] }),
            vec![format!("{own}\"status=Uid\"]"), "BOTH=Some(\"container\")".into(), "Uid: 993 993 993 993".into()],
        ),
        (json!({ "command": ["probe", "cwd"], "working_dir": "/bin" }), vec!["cwd /bin".to_owned()]),
    ] {
        assert_eq!(aws.run("f", order.clone()).await.lines, lines, "{order}");
    }
    let ran = aws.run("f", json!({ "command": ["nope"] })).await;
    assert_eq!(ran.verdict.exit_code, 127);
    assert_eq!(ran.lines, ["sockerless: exec: \"nope\": executable file not found in $PATH"]);
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn an_image_with_a_runtime_of_its_own_is_started_as_it_is() {
    let Some(image) = probe(json!({ "Entrypoint": ["/bin/probe"], "Cmd": ["runtime=own"] })) else { return };
    let aws = Aws::with(&Layout::default().with("native:1", &image), vec![helper().into()], MARK).await;
    let payload = json!({ "sockerless": "means nothing here" });
    let command = ImageConfig::builder().command("runtime=ordered").build();
    let both = ImageConfig::builder().entry_point("/bin/probe").command("runtime=all").build();
    for (name, create, text) in [
        ("own", aws.create("own", "native:1"), "own"),
        ("command", aws.create("command", "native:1").image_config(command), "ordered"),
        ("both", aws.create("both", "native:1").image_config(both), "all"),
        // Its program bears the mark of a front, so it is not given another one.
        ("tagged", aws.create("tagged", "native:1").tags(TAG.0, TAG.1), "own"),
    ] {
        create.send().await.unwrap();
        aws.settled(name).await;
        let output = aws.invoke(name, &payload).await;
        let answer: Value = serde_json::from_slice(output.payload.unwrap().as_ref()).unwrap();
        assert_eq!(answer, json!({ "given": payload, "text": text }), "{name}");
        assert!(lines(&output.log_result.unwrap()).contains(&"serving".to_owned()));
    }
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn what_cannot_start_is_told_in_lambdas_words() {
    let Some(image) = probe(json!({})) else { return };
    let image = image.plain(Files::new().file("text", 0o644, "x"));
    let aws = Aws::start(&Layout::default().with("app:1", &image)).await;
    let with = |entrypoint: &str, directory: &str| {
        ImageConfig::builder().entry_point(entrypoint).command("x").working_directory(directory).build()
    };
    for (name, config, error_type, message) in [
        ("a", with("/bin/probe", "/nowhere"), "Runtime.InvalidWorkingDir", "chdir /nowhere: no such file or directory"),
        ("b", with("/nope", "/"), "Runtime.InvalidEntrypoint", "fork/exec /nope: no such file or directory"),
        ("c", with("/text", "/"), "Runtime.InvalidEntrypoint", "fork/exec /text: permission denied"),
    ] {
        aws.create(name, "app:1").image_config(config).send().await.unwrap();
        aws.settled(name).await;
        let output = aws.invoke(name, &json!({})).await;
        assert_eq!(output.function_error.as_deref(), Some("Unhandled"));
        let error: Value = serde_json::from_slice(output.payload.unwrap().as_ref()).unwrap();
        assert_eq!(error["errorType"], error_type);
        assert!(error["errorMessage"].as_str().unwrap().ends_with(&format!("Error: {message}")), "{error}");
    }
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn an_image_for_another_machine_fails_its_function() {
    let other = if architecture() == "arm64" { "amd64" } else { "arm64" };
    let (image, files) = (Image::new(json!({ "Cmd": ["/x"] })), || Files::new().file("x", 0o755, "x"));
    let foreign = Image { architecture: other.to_owned(), ..image.clone() }.gzip(files());
    let torn = image.raw(&files().tar(), "0".repeat(64));
    let zstd = Image::new(json!({})).raw(&[0x28, 0xb5, 0x2f, 0xfd, 0], "0".repeat(64));
    let layout = Layout::default().with("foreign:1", &foreign).with("torn:1", &torn).with("zstd:1", &zstd);
    let aws = Aws::start(&layout).await;
    let theirs = if other == "amd64" { Architecture::X8664 } else { Architecture::Arm64 };
    let words = "this sandbox runs on";
    for (name, create, sentence) in [
        ("a", aws.create("a", "foreign:1"), "and the function for"),
        ("b", aws.create("b", "foreign:1").architectures(theirs), words),
        ("c", aws.create("c", "torn:1"), "layer 1 does not have the digest sha256:"),
    ] {
        create.send().await.unwrap();
        let failed = aws.settled(name).await;
        assert_eq!(
            (failed.state, failed.state_reason_code),
            (Some(State::Failed), Some(StateReasonCode::InvalidImage))
        );
        assert!(failed.state_reason.as_ref().unwrap().contains(sentence), "{:?}", failed.state_reason);
    }
    let refused = aws.create("d", "zstd:1").send().await.unwrap_err().into_service_error();
    assert!(refused.message().unwrap().ends_with("is not supported: layer 1 is compressed with zstd."), "{refused:?}");
    let unknown = aws.create("e", "nope").send().await.unwrap_err().into_service_error();
    let known = "The sandbox has: foreign:1, host:latest, torn:1, zstd:1.";
    assert!(unknown.message().unwrap().ends_with(known), "{unknown:?}");
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn images_that_come_later_are_found() {
    let Some(image) = probe(json!({})) else { return };
    let aws = Aws::start(&Layout::default()).await;
    assert!(aws.create("f", "app").send().await.is_err());
    Layout::default().with("app", &image).archive(&aws.directory.path().join("images/app.tar"));
    aws.function("f", "docker.io/library/app:latest").await;
    assert_eq!(aws.probe("f", &["cwd"]).await, ["cwd /"]);
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn a_time_out_ends_everything_in_the_root() {
    let Some(image) = probe(json!({})) else { return };
    let aws = Aws::start(&Layout::default().with("app:1", &image)).await;
    let runtime = ImageConfig::builder().command("/bin/probe").command("sleep=1000").build();
    aws.create("f", "app:1").timeout(1).image_config(runtime).send().await.unwrap();
    aws.settled("f").await;
    let invoking = tokio::spawn({
        let invoke = aws.lambda.invoke().function_name("f");
        async move { invoke.send().await }
    });
    let root = aws.directory.path().join("store").canonicalize().unwrap();
    while !has_process_in(&root) && !invoking.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    invoking.await.unwrap().unwrap();
    aws.sandbox.stop().await;
    assert!(!has_process_in(&root));
}

/// Whether a process has mounted something of this directory.
fn has_process_in(directory: &Path) -> bool {
    let needle = directory.file_name().unwrap().to_str().unwrap();
    let parent = directory.parent().unwrap().file_name().unwrap().to_str().unwrap();
    let path = format!("/{parent}/{needle}/");
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .any(|entry| std::fs::read_to_string(entry.path().join("mountinfo")).is_ok_and(|text| text.contains(&path)))
}

/// As another user than root, a user namespace has to do.
#[tokio::test]
async fn without_root_it_is_the_same_but_for_the_owner() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can become somebody else; the other tests ran without root");
        return;
    }
    let Some(image) = probe(json!({})) else { return };
    // Nobody can neither see root's temporary directories nor this repository.
    let place = tempfile::tempdir().unwrap();
    let copy = place.path().join("environment");
    std::fs::copy(helper(), &copy).unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(OsString::from);
    let enter = as_nobody.into_iter().chain([copy.into_os_string()]).collect();
    let aws = Aws::with(&Layout::default().with("app:1", &image), enter, "no such bytes").await;
    aws.function("f", "app:1").await;
    for directory in ["", "store"] {
        let path = aws.directory.path().join(directory);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    for unpacked in std::fs::read_dir(aws.directory.path().join("store")).unwrap() {
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(unpacked.unwrap().path(), open).unwrap();
    }
    let words = [
        "list=/",
        "status=Uid",
        "status=CapEff",
        "numbers=/proc",
        "write=/bin/probe",
        "write=/tmp/x",
        "write=/dev/null",
    ];
    let lines = aws.probe("f", &words).await;
    assert_eq!(
        lines,
        [
            "/: bin dev etc proc sys tmp",
            "Uid: 993 993 993 993",
            "CapEff: 0000000000000000",
            "/proc: 2",
            "write /bin/probe: Err(ReadOnlyFilesystem)",
            "write /tmp/x: Ok(())",
            "write /dev/null: Ok(())",
        ]
    );
    let told = aws.sandbox_images().await;
    assert_eq!(told["isolation"], json!({ "user_namespace": true, "missing": [] }), "{told}");
    aws.sandbox.stop().await;
}

/// As without root: what the bootstrap hides, such a sandbox cannot see.
#[tokio::test]
async fn bootstrap_in_an_image_is_served_where_what_it_hides_cannot_be_seen() {
    let Some(image) = probe(json!({})) else { return };
    // Of this thread, and of those that it starts.
    caps::drop(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_PTRACE).unwrap();
    let aws = Aws::start(&Layout::default().with("app:1", &image)).await;
    aws.function("f", "app:1").await;
    for (word, line) in [("cwd", "cwd /"), ("env=AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_RUNTIME_API=None")] {
        assert_eq!(aws.probe("f", &[word]).await, [line]);
    }
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn it_says_what_it_has_and_how_it_isolates() {
    let Some(image) = probe(json!({})) else { return };
    let aws = Aws::start(&Layout::default().with("app:1", &image)).await;
    std::fs::write(aws.directory.path().join("images/x.tar.gz"), "x").unwrap();
    let told = aws.sandbox_images().await;
    assert_eq!(told["isolation"], Value::Null);
    let app = &told["images"]["app:1"][0];
    assert!(app["digest"].as_str().unwrap().starts_with("sha256:") && app["architecture"].is_string(), "{told}");
    assert!(told["problems"][0].as_str().unwrap().contains("x.tar.gz"), "{told}");
    aws.function("f", "app:1").await;
    aws.probe("f", &["cwd"]).await;
    let isolation = aws.sandbox_images().await["isolation"].clone();
    let expected = json!({ "user_namespace": !nix::unistd::geteuid().is_root(), "missing": [] });
    assert_eq!(isolation, expected);
    aws.sandbox.stop().await;
}

impl Aws {
    /// What the admin surface tells of images.
    async fn sandbox_images(&self) -> Value {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let address = self.sandbox.endpoint().trim_start_matches("http://").to_owned();
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let request = format!("GET /_sandbox/images HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}
