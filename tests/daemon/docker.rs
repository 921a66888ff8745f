//! Docker calls as the tests need them.

use std::collections::HashMap;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, ContainerWaitResponse, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, LogsOptions, RemoveContainerOptions, StartContainerOptions,
    WaitContainerOptions,
};
use futures_util::{Stream, StreamExt as _};

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

/// A container that removes itself, of an image that Lambda refuses.
pub(crate) async fn create_that_fails(docker: &Docker) -> String {
    let body = ContainerCreateBody {
        image: Some("missing:1".to_owned()),
        host_config: Some(HostConfig { auto_remove: Some(true), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    docker.create_container(None::<CreateContainerOptions>, body).await.unwrap().id
}

/// What `docker run --rm` waits for.
pub(crate) fn wait_for_removal(docker: &Docker, name: &str) -> impl Stream<Item = Waited> + use<> {
    let options = WaitContainerOptions { condition: "removed".to_owned() };
    docker.wait_container(name, Some(options)).boxed()
}

type Waited = Result<ContainerWaitResponse, Error>;

/// The exit code, as `wait` says it.
pub(crate) async fn wait(docker: &Docker, name: &str) -> i64 {
    code(docker.wait_container(name, None::<WaitContainerOptions>).next().await.unwrap())
}

pub(crate) fn code(waited: Waited) -> i64 {
    match waited {
        Ok(ended) => ended.status_code,
        Err(Error::DockerContainerWaitError { code, .. }) => code,
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
