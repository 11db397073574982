//! Which sandboxes and containers a list is asked for. Empty filters match everything.

use std::collections::BTreeMap;

use podwright_types::{ContainerId, SandboxId};

use crate::model::{ContainerState, SandboxState};

/// Which sandboxes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SandboxFilter {
    /// Only this one.
    pub id: Option<SandboxId>,
    /// Only those in this state.
    pub state: Option<SandboxState>,
    /// Only those that have all of these labels.
    pub labels: BTreeMap<String, String>,
}

/// The states of containers, without their data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerStateKind {
    /// See [`ContainerState::Created`].
    Created,
    /// See [`ContainerState::Running`].
    Running,
    /// See [`ContainerState::Exited`].
    Exited,
    /// See [`ContainerState::Unknown`].
    Unknown,
}

impl From<&ContainerState> for ContainerStateKind {
    fn from(state: &ContainerState) -> Self {
        match state {
            ContainerState::Created => Self::Created,
            ContainerState::Running { .. } => Self::Running,
            ContainerState::Exited { .. } => Self::Exited,
            ContainerState::Unknown => Self::Unknown,
        }
    }
}

/// Which containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerFilter {
    /// Only this one.
    pub id: Option<ContainerId>,
    /// Only those of this sandbox.
    pub sandbox: Option<SandboxId>,
    /// Only those in this state.
    pub state: Option<ContainerStateKind>,
    /// Only those that have all of these labels.
    pub labels: BTreeMap<String, String>,
}

/// Whether `have` holds all of `want`.
pub(crate) fn has_labels(have: &BTreeMap<String, String>, want: &BTreeMap<String, String>) -> bool {
    want.iter().all(|(key, value)| have.get(key) == Some(value))
}
