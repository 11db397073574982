//! Answers in many messages: events and the streaming lists.

use podwright_cri_api::v1;
use podwright_cri_api::v1::ContainerEventType as Kind;
use tonic::{Code, Streaming};

use crate::support::{Front, container_config, sandbox_config};

type Events = Streaming<v1::ContainerEventResponse>;

async fn follow(front: &Front) -> Events {
    front.runtime().get_container_events(v1::GetEventsRequest {}).await.unwrap().into_inner()
}

async fn next(events: &mut Events) -> v1::ContainerEventResponse {
    let next = tokio::time::timeout(std::time::Duration::from_secs(60), events.message());
    next.await.unwrap().unwrap().unwrap()
}

async fn remove_pod(front: &Front, pod: &str) {
    let request = v1::RemovePodSandboxRequest { pod_sandbox_id: pod.into() };
    front.runtime().remove_pod_sandbox(request).await.unwrap();
}

#[tokio::test]
async fn every_listener_hears_every_change_in_order() {
    let front = Front::start().await;
    let (mut one, mut other) = (follow(&front).await, follow(&front).await);
    let pod = front.run_pod("web").await;
    let container = front.create(&pod, "app").await;
    let request = v1::StartContainerRequest { container_id: container.clone() };
    front.runtime().start_container(request).await.unwrap();
    let request = v1::StopContainerRequest { container_id: container.clone(), timeout: 1 };
    front.runtime().stop_container(request).await.unwrap();
    let request = v1::RemoveContainerRequest { container_id: container.clone() };
    front.runtime().remove_container(request).await.unwrap();
    remove_pod(&front, &pod).await;
    let expected = [
        (&pod, Kind::ContainerCreatedEvent, 0),
        (&pod, Kind::ContainerStartedEvent, 0),
        (&container, Kind::ContainerCreatedEvent, 1),
        (&container, Kind::ContainerStartedEvent, 1),
        (&container, Kind::ContainerStoppedEvent, 1),
        (&container, Kind::ContainerDeletedEvent, 0),
        (&pod, Kind::ContainerStoppedEvent, 0),
        (&pod, Kind::ContainerDeletedEvent, 0),
    ];
    for events in [&mut one, &mut other] {
        let mut last = 0;
        for (id, kind, containers) in expected {
            let event = next(events).await;
            assert_eq!((&event.container_id, event.container_event_type()), (id, kind));
            assert_eq!(event.containers_statuses.len(), containers, "{kind:?}");
            let status = event.pod_sandbox_status.unwrap();
            assert_eq!((&status.id, status.metadata.unwrap().uid.as_str()), (&pod, "uid-web"));
            assert!(event.created_at >= last);
            last = event.created_at;
        }
    }
}

#[tokio::test]
async fn a_slow_listener_is_told_of_its_gap_and_a_quick_one_has_none() {
    const PODS: usize = 350;
    let front = Front::start().await;
    let mut quick = follow(&front).await;
    // What it leaves unread would hold up everything else on its connection.
    let mut slow_client = front.other_client().await;
    let mut slow = slow_client.get_container_events(v1::GetEventsRequest {}).await.unwrap().into_inner();
    let read = tokio::spawn(async move {
        let mut kinds = Vec::new();
        for _ in 0..PODS * 4 {
            kinds.push(next(&mut quick).await.container_event_type());
        }
        kinds
    });
    for number in 0..PODS {
        let mut config = sandbox_config(&format!("p{number}"));
        config.annotations.insert("long".into(), "x".repeat(20_000));
        let request = v1::RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        let pod = front.runtime().run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;
        remove_pod(&front, &pod).await;
    }
    let life = [
        Kind::ContainerCreatedEvent,
        Kind::ContainerStartedEvent,
        Kind::ContainerStoppedEvent,
        Kind::ContainerDeletedEvent,
    ];
    assert!(read.await.unwrap().chunks(4).all(|kinds| kinds == life));

    let mut heard = 0;
    let status = loop {
        let message = tokio::time::timeout(std::time::Duration::from_secs(60), slow.message());
        match message.await.expect("events or an error come") {
            Ok(Some(event)) => assert_eq!(event.container_event_type(), life[heard % 4]),
            Ok(None) => panic!("a gap without a word"),
            Err(status) => break status,
        }
        heard += 1;
    };
    assert!(heard < PODS * 4);
    assert_eq!(status.code(), Code::Aborted);
    assert!(status.message().contains("list anew"), "{}", status.message());
}

#[tokio::test]
async fn long_lists_come_in_messages_and_are_filtered_alike() {
    const MANY: usize = 300;
    let front = Front::start().await;
    let mut runtime = front.runtime();
    let pod = front.run_pod("web").await;
    for number in 0..MANY {
        let mut config = container_config(&format!("c{number}"));
        config.labels.insert("odd".into(), (number % 2).to_string());
        config.annotations.insert("long".into(), "x".repeat(70_000));
        let request =
            v1::CreateContainerRequest { pod_sandbox_id: pod.clone(), config: Some(config), sandbox_config: None };
        runtime.create_container(request).await.unwrap();
    }
    let refused = runtime.list_containers(v1::ListContainersRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("StreamContainers"), "{}", refused.message());

    let mut stream = runtime.stream_containers(v1::StreamContainersRequest::default()).await.unwrap().into_inner();
    let (mut ids, mut messages) = (std::collections::BTreeSet::new(), 0);
    while let Some(message) = stream.message().await.unwrap() {
        messages += 1;
        ids.extend(message.containers.into_iter().map(|container| container.id));
    }
    assert_eq!(ids.len(), MANY);
    assert!(messages > 10, "{messages} messages");

    let filter = v1::ContainerFilter { label_selector: [("odd".into(), "1".into())].into(), ..Default::default() };
    let request = v1::StreamContainersRequest { filter: Some(filter.clone()) };
    let mut stream = runtime.stream_containers(request).await.unwrap().into_inner();
    let mut streamed = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        streamed.extend(message.containers);
    }
    let request = v1::ListContainersRequest { filter: Some(filter) };
    assert_eq!(streamed, runtime.list_containers(request).await.unwrap().into_inner().containers);
    assert_eq!(streamed.len(), MANY / 2);

    let pods = v1::StreamPodSandboxesRequest::default();
    let mut stream = runtime.stream_pod_sandboxes(pods).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().pod_sandboxes[0].id, pod);
    assert!(stream.message().await.unwrap().is_none());
    let none = v1::StreamImagesRequest::default();
    assert!(front.images().stream_images(none).await.unwrap().into_inner().message().await.unwrap().is_none());
}
