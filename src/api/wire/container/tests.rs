use super::*;
use crate::api::tests::{container, ended, exit, issued_run};
use crate::state::model::life::MAX_RERUNS;
use crate::state::model::{Cause, Run, RunPhase, UnknownOutcome};

#[test]
fn inspect_of_an_ended_container() {
    let ours = inspect(&ended("s1", 1, exit(2, Cause::Exited)), "sha256:1");
    assert_eq!(ours["Name"], "/s1");
    assert_eq!(ours["Path"], "sh");
    assert_eq!(ours["Args"], json!(["-c", "echo hi; exit 2"]));
    assert_eq!(ours["Config"]["Hostname"], "070707070707");
    assert_eq!(ours["HostConfig"]["LogConfig"]["Type"], "json-file");
    assert_eq!(ours["HostConfig"]["NetworkMode"], "bridge");
    assert!(ours["NetworkSettings"]["Networks"]["bridge"].is_object());
}

#[test]
fn the_list_of_an_ended_container() {
    let now = Timestamp::from_secs(1_031);
    let ours = list_item(&ended("s1", 1, exit(2, Cause::Exited)), "sha256:1", now);
    assert_eq!(ours["Status"], "Exited (2) 1 second ago");
    assert_eq!(ours["Command"], "sh -c 'echo hi; exit 2'");
}

#[test]
fn states_in_dockers_words() {
    let now = Timestamp::from_secs(1_150);
    let shown = |container: &Container| {
        let text = list_item(container, "", now)["Status"].as_str().unwrap().to_owned();
        (inspect(container, "")["State"].clone(), text)
    };
    let (state, text) = shown(&container("a"));
    assert_eq!((state["Status"].as_str(), text.as_str()), (Some("created"), "Created"));
    assert_eq!((&state["StartedAt"], &state["ExitCode"]), (&json!("0001-01-01T00:00:00Z"), &json!(0)));

    let mut waiting = container("a");
    waiting.spec.starts = 1;
    waiting.spec.started_at = Some(Timestamp::from_secs(1_140));
    let (state, text) = shown(&waiting);
    assert_eq!((&state["Running"], text.as_str()), (&json!(true), "Up 10 seconds"));
    assert_eq!(state["StartedAt"], "1970-01-01T00:19:00.000000000Z");

    waiting.status.run = Some(Run { phase: RunPhase::Running { since: Timestamp::from_secs(1_147) }, ..issued_run(1) });
    let (state, text) = shown(&waiting);
    assert_eq!((&state["StartedAt"], text.as_str()), (&json!("1970-01-01T00:19:07.000000000Z"), "Up 3 seconds"));

    let (state, text) = shown(&ended("a", 1, exit(3, Cause::Exited)));
    assert_eq!(
        (&state["ExitCode"], &state["Error"], text.as_str()),
        (&json!(3), &json!(""), "Exited (3) 2 minutes ago")
    );

    let (state, _) = shown(&ended("a", 1, exit(137, Cause::OutOfMemory)));
    assert_eq!((&state["OOMKilled"], &state["Error"]), (&json!(true), &json!("OutOfMemory")));
    let (state, _) = shown(&ended("a", 1, exit(125, Cause::NeverRan)));
    assert_eq!((&state["OOMKilled"], &state["Error"]), (&json!(false), &json!("NeverRan")));

    let mut unknown = ended("a", 1, exit(125, Cause::Unknown));
    let condition = |container: &Container| {
        let shown = inspect(container, "");
        let all = shown["Sockerless"]["Conditions"].as_array().unwrap().clone();
        let found = all.into_iter().find(|condition| condition["type"] == "OutcomeUnknown").unwrap();
        (found["reason"].clone(), shown["RestartCount"].clone(), shown["State"]["Status"].clone())
    };
    assert_eq!(condition(&unknown), (json!("AtMostOnce"), json!(0), json!("exited")));
    unknown.spec.config.function.unknown_outcome = UnknownOutcome::Rerun;
    unknown.status.restarts = 1;
    unknown.status.reruns = MAX_RERUNS - 1;
    assert_eq!(condition(&unknown), (json!("RunAgain"), json!(MAX_RERUNS), json!("restarting")));
    unknown.status.reruns = MAX_RERUNS;
    assert_eq!(condition(&unknown), (json!("GivenUp"), json!(MAX_RERUNS + 1), json!("exited")));

    let mut again = ended("a", 1, exit(1, Cause::Exited));
    again.spec.config.restart = RestartPolicy::OnFailure { max: 0 };
    let (state, text) = shown(&again);
    assert_eq!((&state["Restarting"], &state["Running"]), (&json!(true), &json!(true)));
    assert_eq!((state["Status"].as_str(), text.as_str()), (Some("restarting"), "Restarting (1) 2 minutes ago"));
}

#[test]
fn the_extra_object_tells_what_docker_has_no_field_for() {
    let mut container = ended("a", 1, exit(0, Cause::Exited));
    let run = container.status.run.as_mut().unwrap();
    run.request_id = Some("request".to_owned());
    run.log_stream = Some("stream".to_owned());
    run.result = Some("é".repeat(40_000));
    container.status.logs_missing = true;
    let extra = &inspect(&container, "")["Sockerless"];
    assert_eq!(extra["FunctionName"], "fn");
    assert_eq!((&extra["RequestId"], &extra["LogStream"]), (&json!("request"), &json!("stream")));
    assert_eq!((&extra["RunNumber"], &extra["LogGroup"]), (&json!(1), &json!("/sockerless")));
    assert_eq!(extra["Result"].as_str().unwrap().len(), 64 * 1_024);
    let conditions = extra["Conditions"].as_array().unwrap();
    let status = |kind: &str| {
        conditions.iter().find(|condition| condition["type"] == kind).map(|condition| condition["status"].clone())
    };
    assert_eq!(status("LogsMissing"), Some(json!("True")));
    assert_eq!(status("RunStarted"), Some(json!("True")));
    assert_eq!(status("Invoked"), Some(json!("True")));
    assert_eq!(status("FunctionReady"), Some(json!("False")));
    assert_eq!(status("Drifted"), None);
    assert!(!extra.to_string().contains("token-1"), "the token is the bootstrap's secret");
}

#[test]
fn the_clients_own_configuration_comes_back() {
    let mut container = container("a");
    container.spec.config.docker_config = json!({"User": "1000", "ExposedPorts": {"80/tcp": {}}, "Hostname": "h"});
    container.spec.config.docker_host_config = json!({"NetworkMode": "none", "Memory": 5, "LogConfig": {"Type": ""}});
    let shown = inspect(&container, "");
    assert_eq!((&shown["Config"]["User"], &shown["Config"]["Hostname"]), (&json!("1000"), &json!("h")));
    assert_eq!(shown["Config"]["ExposedPorts"], json!({"80/tcp": {}}));
    assert_eq!(shown["Config"]["Env"], json!(["A=1"]));
    assert_eq!((&shown["HostConfig"]["Memory"], &shown["HostConfig"]["NetworkMode"]), (&json!(5), &json!("none")));
    assert_eq!(shown["HostConfig"]["LogConfig"]["Type"], "json-file");
    assert!(shown["NetworkSettings"]["Networks"]["none"].is_object());
}
