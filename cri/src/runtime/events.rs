//! GetContainerEvents.

use std::sync::Arc;

use futures_util::stream;
use podwright_cri_api::v1;
use podwright_imageservice::ImageStore;
use podwright_podsandbox::{Change, Event, Subject};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::watch;
use tonic::Status;

use crate::chunks::Messages;
use crate::service::Cri;
use crate::{answer, status};

/// One client that listens.
struct Listener {
    events: Receiver<Event>,
    images: ImageStore,
    ending: watch::Receiver<bool>,
    over: bool,
}

/// All changes from now on. A client that can not keep up gets an error and lists anew: a gap that nobody tells of would leave
/// it wrong for ever.
pub(super) fn follow(cri: &Cri) -> Messages<v1::ContainerEventResponse> {
    let listener = Listener {
        events: cri.engine.events(),
        images: cri.images.clone(),
        ending: cri.ending.subscribe(),
        over: false,
    };
    Box::pin(stream::unfold(listener, |mut listener| async move {
        if listener.over {
            return None;
        }
        let next = listener.next().await;
        listener.over = next.is_err();
        Some((next, listener))
    }))
}

impl Listener {
    async fn next(&mut self) -> Result<v1::ContainerEventResponse, Status> {
        tokio::select! {
            event = self.events.recv() => match event {
                Ok(event) => Ok(response(&event, &self.images)),
                Err(RecvError::Lagged(missed)) => Err(status::events_missed(missed)),
                Err(RecvError::Closed) => Err(status::stopping()),
            },
            _ = self.ending.wait_for(|ending| *ending) => Err(status::stopping()),
        }
    }
}

fn response(event: &Event, images: &ImageStore) -> v1::ContainerEventResponse {
    let kind = match event.change {
        Change::Created => v1::ContainerEventType::ContainerCreatedEvent,
        Change::Started => v1::ContainerEventType::ContainerStartedEvent,
        Change::Stopped => v1::ContainerEventType::ContainerStoppedEvent,
        Change::Deleted => v1::ContainerEventType::ContainerDeletedEvent,
    };
    let pod = Arc::clone(&event.pod);
    v1::ContainerEventResponse {
        container_id: match &event.subject {
            Subject::Sandbox(id) => id.to_string(),
            Subject::Container(id) => id.to_string(),
        },
        container_event_type: kind.into(),
        created_at: pod.at_nanos,
        pod_sandbox_status: Some(answer::sandbox_status(&pod.sandbox)),
        containers_statuses: pod
            .containers
            .iter()
            .map(|container| answer::container_status(container, |image| images.status(image)))
            .collect(),
    }
}
