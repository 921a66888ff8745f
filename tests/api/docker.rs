//! A real client, from the first request to the last.

use std::collections::HashMap;

use bollard::Docker;
use bollard::models::{ContainerCreateBody, EventMessage};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, EventsOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder,
};
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::support::Api;

async fn a_life(api: &Api, docker: &Docker, name: &str) {
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    let body = ContainerCreateBody {
        image: Some("alpine".to_owned()),
        cmd: Some(vec!["true".to_owned()]),
        ..Default::default()
    };
    let id = docker.create_container(Some(options), body).await.unwrap().id;
    let filters = HashMap::from([("name", vec![name])]);
    let list = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    assert_eq!(docker.list_containers(Some(list)).await.unwrap().len(), 1);
    let shown = docker.inspect_container(&id, None).await.unwrap();
    assert_eq!(shown.name.unwrap(), format!("/{name}"));
    docker.start_container(&id, None).await.unwrap();
    api.issue(&id).await;
    let mut wait = docker.wait_container(&id, None);
    api.logs.put(sockerless_lambda::clock::Clock::real().now().as_millis(), "hello");
    api.exit(&id, 0).await;
    assert_eq!(wait.next().await.unwrap().unwrap().status_code, 0);
    let options = LogsOptionsBuilder::default().stdout(true).stderr(true).build();
    let logs: Vec<String> =
        docker.logs(&id, Some(options)).map_ok(|line| line.to_string()).try_collect().await.unwrap();
    assert!(logs.concat().contains("hello\n"), "{logs:?}");
    docker.remove_container(&id, None).await.unwrap();
    assert!(docker.inspect_container(&id, None).await.is_err());
    let filters = HashMap::from([("container", vec![id.as_str()])]);
    let options = EventsOptionsBuilder::default().since("1").filters(&filters).build();
    let events: Vec<EventMessage> = docker.events(Some(options)).take(4).try_collect().await.unwrap();
    let actions: Vec<String> = events.into_iter().filter_map(|event| event.action).collect();
    assert_eq!(actions.get(..3).unwrap(), ["create", "start", "die"]);
}

#[tokio::test]
async fn a_container_from_create_to_remove() {
    let api = Api::new().await;
    let path = api.socket();
    let local = Docker::connect_with_unix(path.to_str().unwrap(), 30, bollard::API_DEFAULT_VERSION).unwrap();
    let remote =
        Docker::connect_with_http(&format!("http://{}", api.address), 30, bollard::API_DEFAULT_VERSION).unwrap();
    a_life(&api, &local, "local").await;
    a_life(&api, &remote, "remote").await;
}
