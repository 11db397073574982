//! Filters of lists. Ids are looked up before, since clients give the starts of them too.

use podwright_cri_api::v1;
use podwright_podsandbox::model::SandboxState;
use podwright_podsandbox::{ContainerFilter, ContainerStateKind, SandboxFilter};

use crate::field::{self, BadField};

/// The filter of sandboxes, without its id.
pub(crate) fn sandbox_filter(filter: v1::PodSandboxFilter) -> Result<SandboxFilter, BadField> {
    let state = match filter.state {
        None => None,
        Some(value) => Some(match field::known("filter.state", value.state)? {
            v1::PodSandboxState::SandboxReady => SandboxState::Ready,
            v1::PodSandboxState::SandboxNotready => SandboxState::NotReady,
        }),
    };
    Ok(SandboxFilter { id: None, state, labels: field::map("filter.label_selector", filter.label_selector)? })
}

/// The filter of containers, without its ids.
pub(crate) fn container_filter(filter: v1::ContainerFilter) -> Result<ContainerFilter, BadField> {
    let state = match filter.state {
        None => None,
        Some(value) => Some(match field::known("filter.state", value.state)? {
            v1::ContainerState::ContainerCreated => ContainerStateKind::Created,
            v1::ContainerState::ContainerRunning => ContainerStateKind::Running,
            v1::ContainerState::ContainerExited => ContainerStateKind::Exited,
            v1::ContainerState::ContainerUnknown => ContainerStateKind::Unknown,
        }),
    };
    let labels = field::map("filter.label_selector", filter.label_selector)?;
    Ok(ContainerFilter { id: None, sandbox: None, state, labels })
}
