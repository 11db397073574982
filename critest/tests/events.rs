//! GetContainerEvents of the real daemon.

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::ContainerEventType as Kind;
use podwright_cri_api::v1::{ContainerEventResponse, ContainerState, GetEventsRequest, PodSandboxState};
use podwright_critest::{World, shell, with_world};
use tonic::Streaming;

type Events = Streaming<ContainerEventResponse>;

/// Longer than anything takes on a busy machine.
const LONG: std::time::Duration = std::time::Duration::from_secs(60);

async fn follow(world: &mut World) -> Result<Events> {
    Ok(world.runtime.get_container_events(GetEventsRequest {}).await?.into_inner())
}

async fn next(events: &mut Events) -> Result<ContainerEventResponse> {
    tokio::time::timeout(LONG, events.message()).await??.context("the events ended")
}

#[test]
fn root_two_listeners_hear_a_pods_life_in_order() {
    with_world(async |world| {
        let mut quick = follow(world).await?;
        // Not read before all is over.
        let mut slow = follow(world).await?;
        let pod = world.run_pod_named("told").await?;
        let config = shell("main", &world.image, "exit 7");
        let id = world.create(&pod, &config).await?;
        world.start(&id).await?;
        world.wait(&id, 60).await?;
        world.remove(&id).await?;
        world.remove_pod(&pod.id).await?;
        let expected = [
            (&pod.id, Kind::ContainerCreatedEvent),
            (&pod.id, Kind::ContainerStartedEvent),
            (&id, Kind::ContainerCreatedEvent),
            (&id, Kind::ContainerStartedEvent),
            (&id, Kind::ContainerStoppedEvent),
            (&id, Kind::ContainerDeletedEvent),
            (&pod.id, Kind::ContainerStoppedEvent),
            (&pod.id, Kind::ContainerDeletedEvent),
        ];
        for events in [&mut quick, &mut slow] {
            for (who, kind) in expected {
                let event = next(events).await?;
                ensure!((&event.container_id, event.container_event_type()) == (who, kind), "{event:?}");
                let status = event.pod_sandbox_status.as_ref().context("no status of the sandbox")?;
                ensure!(status.metadata.as_ref().is_some_and(|metadata| metadata.name == "told"), "{status:?}");
                if who == &id && kind == Kind::ContainerStoppedEvent {
                    let container = event.containers_statuses.first().context("no status of the container")?;
                    ensure!(
                        container.state() == ContainerState::ContainerExited && container.exit_code == 7,
                        "{event:?}"
                    );
                }
                if who == &pod.id && kind == Kind::ContainerStoppedEvent {
                    ensure!(status.state() == PodSandboxState::SandboxNotready, "{event:?}");
                }
            }
        }
        Ok(())
    });
}
