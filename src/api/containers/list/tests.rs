use super::*;
use crate::api::query::Query;
use crate::api::tests::{container, ended, exit};
use crate::clock::Timestamp;
use crate::state::model::{Cause, ContainerId};

fn fleet() -> Vec<Container> {
    let mut running = container("web-1");
    running.spec.starts = 1;
    let mut fleet = vec![container("created"), running, ended("job", 1, exit(3, Cause::Exited))];
    fleet[2].spec.config.image = "debian:12".to_owned();
    for (seq, container) in (1_u8..).zip(&mut fleet) {
        container.seq = i64::from(seq);
        container.id = ContainerId::from_bytes([seq; 32]);
    }
    fleet.reverse();
    fleet
}

fn names(all: bool, filters: &str) -> Result<Vec<String>, String> {
    names_between(Ends::default(), all, filters)
}

fn names_between(ends: Ends, all: bool, filters: &str) -> Result<Vec<String>, String> {
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("filters", filters).finish();
    let fleet = fleet();
    let image = |reference: &str, id: &str| Image {
        reference: reference.to_owned(),
        id: format!("sha256:{id}"),
        created_at: Timestamp::default(),
        digest: None,
    };
    let images = [image("docker.io/library/alpine:latest", "aa"), image("docker.io/library/debian:12", "bb")];
    let filters = Query::parse(&query).filters(FILTERS).map_err(|error| error.to_string())?;
    let wanted = Wanted::new(filters, &images, all, ends).map_err(|error| error.to_string())?;
    Ok(fleet.iter().filter(|container| wanted.has(container)).map(|container| container.name.clone()).collect())
}

#[test]
fn filters_choose_as_in_docker() {
    for (all, filters, expected) in [
        (false, "{}", &["web-1"] as &[&str]),
        (true, "{}", &["job", "web-1", "created"]),
        (false, r#"{"status":["exited"]}"#, &["job"]),
        (false, r#"{"status":["exited","created"]}"#, &["job", "created"]),
        (true, r#"{"exited":["3"]}"#, &["job"]),
        (true, r#"{"exited":["0"]}"#, &[]),
        (true, r#"{"name":["^web"]}"#, &["web-1"]),
        (true, r#"{"name":["^/web"]}"#, &["web-1"]),
        (true, r#"{"id":["^0303"]}"#, &["job"]),
        (true, r#"{"label":["k=v"]}"#, &["job", "web-1", "created"]),
        (true, r#"{"label!":["k"]}"#, &[]),
        (true, r#"{"ancestor":["alpine"]}"#, &["web-1", "created"]),
        (true, r#"{"ancestor":["debian:12"]}"#, &["job"]),
        (true, r#"{"ancestor":["sha256:bb"]}"#, &["job"]),
        (true, r#"{"network":["bridge"]}"#, &["job", "web-1", "created"]),
        (true, r#"{"volume":["v"]}"#, &[]),
    ] {
        assert_eq!(names(all, filters).unwrap(), expected, "{filters}");
    }
    let between = |before, since| names_between(Ends { before, since }, true, "{}").unwrap();
    assert_eq!(between(Some(3), None), ["web-1", "created"]);
    assert_eq!(between(None, Some(1)), ["job", "web-1"]);
    assert_eq!(between(Some(3), Some(1)), ["web-1"]);
}

#[test]
fn filters_that_make_no_sense() {
    for (filters, message) in [
        (r#"{"foo":["x"]}"#, "invalid filter 'foo'"),
        (r#"{"status":["tired"]}"#, "invalid filter 'status=tired'"),
        (r#"{"exited":["x"]}"#, "invalid filter 'exited=x'"),
        ("[]", "invalid filter"),
    ] {
        assert_eq!(names(true, filters).unwrap_err(), message);
    }
}
