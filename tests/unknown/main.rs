//! Runs of which nobody can tell how they ended: what a user sees of them, from the program to `docker wait`.
//!
//! The answer to the invocation is lost (RequestResponse) or never tells an end (Event), and the role cannot write logs.

#![cfg(feature = "sandbox")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "helpers of tests fail by panicking"
)]

mod world;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, EventMessage};
use bollard::query_parameters::{
    CreateContainerOptions, EventsOptions, InspectContainerOptions, StartContainerOptions, WaitContainerOptions,
};
use futures_util::StreamExt as _;
use metrics_exporter_prometheus::PrometheusBuilder;
use sockerless_lambda::state::model::UnknownOutcome;
use sockerless_lambda::state::model::life::MAX_RERUNS;
use sockerless_lambda::telemetry::UNKNOWN_OUTCOMES;
use world::{World, lines};

const KINDS: [&str; 2] = ["RequestResponse", "Event"];
const UNKNOWN: &str = "outcome unknown: no answer came, and the log shows no end";

/// Runs a story for each invocation kind in a world of its own; gives the unknown outcomes that the metrics count.
fn for_each_kind(unknown: UnknownOutcome, story: impl AsyncFn(&World, &'static str)) -> Vec<u64> {
    let tell = |kind| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        metrics::with_local_recorder(&recorder, || {
            runtime.block_on(async {
                let world = World::new(unknown).await;
                story(&world, kind).await;
                world.end().await;
            });
        });
        let page = recorder.handle().render();
        let count = page.lines().find_map(|line| line.strip_prefix(&format!("{UNKNOWN_OUTCOMES} ")));
        count.map_or(0, |count| count.parse().unwrap())
    };
    KINDS.map(tell).to_vec()
}

/// A container whose program notes that it ran, and exits with 7; gives the file with the notes.
async fn create(world: &World, docker: &Docker, labels: &[(&str, &str)]) -> PathBuf {
    let ran = world.file("ran");
    let script = format!("echo ran >> {}; exit 7", ran.display());
    let labels: HashMap<_, _> = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let body = ContainerCreateBody {
        image: Some("host".to_owned()),
        cmd: Some(["sh", "-c", &script].map(str::to_owned).to_vec()),
        labels: Some(labels),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptions { name: Some("job".to_owned()), ..CreateContainerOptions::default() };
    docker.create_container(Some(options), body).await.unwrap();
    ran
}

/// Starts the container and waits for its end; the exit code, and the error that `wait` tells.
async fn run(world: &World, docker: &Docker) -> (i64, String) {
    docker.start_container("job", None::<StartContainerOptions>).await.unwrap();
    let mut waiting = docker.wait_container("job", None::<WaitContainerOptions>);
    match world.while_time_passes(waiting.next()).await.unwrap() {
        Ok(ended) => (ended.status_code, String::new()),
        Err(Error::DockerContainerWaitError { code, error }) => (code, error),
        Err(error) => panic!("{error}"),
    }
}

/// The `die` events so far, as exit code and error.
async fn deaths(world: &World, docker: &Docker) -> Vec<(String, String)> {
    let options = EventsOptions {
        since: Some("1".to_owned()),
        until: Some((world.clock.now().as_secs() + 1).to_string()),
        filters: Some(HashMap::from([("event".to_owned(), vec!["die".to_owned()])])),
    };
    let events: Vec<Result<EventMessage, Error>> = docker.events(Some(options)).collect().await;
    let attribute = |event: &EventMessage, name: &str| {
        event.actor.as_ref().unwrap().attributes.as_ref().unwrap().get(name).cloned().unwrap_or_default()
    };
    events.into_iter().map(Result::unwrap).map(|e| (attribute(&e, "exitCode"), attribute(&e, "error"))).collect()
}

/// Inspect: state, restart count, and why the condition `OutcomeUnknown` holds.
async fn inspected(world: &World, docker: &Docker) -> (String, i64, String, i64, Option<String>) {
    let shown = docker.inspect_container("job", None::<InspectContainerOptions>).await.unwrap();
    let state = shown.state.unwrap();
    let extra = world.extra().await;
    let conditions = extra["Conditions"].as_array().unwrap().clone();
    let unknown = conditions.iter().find(|condition| condition["type"] == "OutcomeUnknown");
    (
        state.status.unwrap().to_string(),
        state.exit_code.unwrap(),
        state.error.unwrap(),
        shown.restart_count.unwrap(),
        unknown.map(|condition| condition["reason"].as_str().unwrap().to_owned()),
    )
}

#[test]
fn an_unknown_outcome_is_named_and_nothing_runs_again() {
    let counted = for_each_kind(UnknownOutcome::Fail, async |world, kind| {
        let docker = world.docker();
        world.hide_the_ends();
        let ran = create(world, &docker, &[("sockerless.lambda.invocation-type", kind)]).await;
        if kind == "Event" {
            world.hide_the_log();
        }
        assert_eq!(run(world, &docker).await, (125, UNKNOWN.to_owned()), "{kind}");
        assert_eq!(lines(&ran), 1, "the program ran, and nobody can know it");
        let state = ("exited".to_owned(), 125, UNKNOWN.to_owned(), 0, Some("AtMostOnce".to_owned()));
        assert_eq!(inspected(world, &docker).await, state, "{kind}");
        assert_eq!(deaths(world, &docker).await, [("125".to_owned(), UNKNOWN.to_owned())], "{kind}");

        world.show_the_ends();
        assert_eq!(run(world, &docker).await, (7, String::new()), "{kind}: a new start is a new wish");
        assert_eq!(inspected(world, &docker).await.4, None);
        world.pass(Duration::from_secs(300)).await;
        assert_eq!((lines(&ran), world.invocations()), (2, 2), "{kind}: once for each start");
    });
    assert_eq!(counted, [1, 1]);
}

#[test]
fn with_rerun_the_program_runs_again_and_its_end_counts() {
    let counted = for_each_kind(UnknownOutcome::Fail, async |world, kind| {
        let docker = world.docker();
        world.hide_the_ends();
        let labels = [("sockerless.lambda.invocation-type", kind), ("sockerless.lambda.unknown-outcome", "rerun")];
        let ran = create(world, &docker, &labels).await;
        let shown_after_the_first = async {
            docker.start_container("job", None::<StartContainerOptions>).await.unwrap();
            world.pass_until_state("restarting").await;
            assert_eq!(inspected(world, &docker).await.4.as_deref(), Some("RunAgain"));
            world.show_the_ends();
        };
        shown_after_the_first.await;
        let mut waiting = docker.wait_container("job", None::<WaitContainerOptions>);
        let ended = world.while_time_passes(waiting.next()).await.unwrap();
        let Err(Error::DockerContainerWaitError { code: 7, .. }) = ended else { panic!("{kind}: {ended:?}") };
        assert_eq!((lines(&ran), world.invocations()), (2, 2), "{kind}: at least once");
        assert_eq!(inspected(world, &docker).await, ("exited".to_owned(), 7, String::new(), 1, None), "{kind}");
        let died = [("125".to_owned(), UNKNOWN.to_owned()), ("7".to_owned(), String::new())];
        assert_eq!(deaths(world, &docker).await, died, "{kind}");
    });
    assert_eq!(counted, [1, 1]);
}

#[test]
fn a_rerun_does_not_go_on_for_ever() {
    let counted = for_each_kind(UnknownOutcome::Rerun, async |world, kind| {
        let docker = world.docker();
        world.hide_the_ends();
        let ran = create(world, &docker, &[("sockerless.lambda.invocation-type", kind)]).await;
        let (code, error) = run(world, &docker).await;
        assert_eq!((code, error.as_str()), (125, format!("{UNKNOWN}; it was run 4 times").as_str()), "{kind}");
        let runs = usize::try_from(MAX_RERUNS).unwrap() + 1;
        assert_eq!((lines(&ran), world.invocations()), (runs, runs), "{kind}");
        world.pass(Duration::from_secs(300)).await;
        assert_eq!((lines(&ran), world.invocations()), (runs, runs), "{kind}: that was all");
        let state = ("exited".to_owned(), 125, error, i64::from(MAX_RERUNS), Some("GivenUp".to_owned()));
        assert_eq!(inspected(world, &docker).await, state, "{kind}");
        assert_eq!(deaths(world, &docker).await.len(), runs, "{kind}");
    });
    assert_eq!(counted, [4, 4]);
}
