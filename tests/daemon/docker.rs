//! Docker calls as the tests need them.

use std::collections::HashMap;

use bollard::Docker;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse};
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, LogsOptions, RemoveContainerOptions, StartContainerOptions,
    WaitContainerOptions,
};
use futures_util::StreamExt as _;

pub(crate) async fn create(docker: &Docker, name: &str, script: &str, labels: &[(&str, &str)]) -> String {
    let options = CreateContainerOptions { name: Some(name.to_owned()), ..CreateContainerOptions::default() };
    let body = ContainerCreateBody {
        image: Some("host".to_owned()),
        cmd: Some(["sh", "-c", script].map(str::to_owned).to_vec()),
        labels: Some(
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<HashMap<_, _>>(),
        ),
        ..ContainerCreateBody::default()
    };
    docker.create_container(Some(options), body).await.unwrap().id
}

pub(crate) async fn start(docker: &Docker, name: &str) {
    docker.start_container(name, None::<StartContainerOptions>).await.unwrap();
}

/// The exit code, as `wait` says it.
pub(crate) async fn wait(docker: &Docker, name: &str) -> i64 {
    let mut waiting = docker.wait_container(name, None::<WaitContainerOptions>);
    match waiting.next().await.unwrap() {
        Ok(ended) => ended.status_code,
        Err(bollard::errors::Error::DockerContainerWaitError { code, .. }) => code,
        Err(error) => panic!("{error}"),
    }
}

pub(crate) async fn logs(docker: &Docker, name: &str) -> String {
    let options = LogsOptions { stdout: true, stderr: true, ..LogsOptions::default() };
    let mut text = String::new();
    let mut stream = docker.logs(name, Some(options));
    while let Some(output) = stream.next().await {
        text.push_str(&output.unwrap().to_string());
    }
    text
}

pub(crate) async fn inspect(docker: &Docker, name: &str) -> ContainerInspectResponse {
    docker.inspect_container(name, None::<InspectContainerOptions>).await.unwrap()
}

pub(crate) async fn remove(docker: &Docker, name: &str) {
    docker.remove_container(name, None::<RemoveContainerOptions>).await.unwrap();
}
