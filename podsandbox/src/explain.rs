//! Why a pod is as it is: the steps that were taken for it, those that are under way, and pods that could not be made.
//!
//! A pod that could not be made, or was removed, leaves nothing on disk; the newest of them are remembered here for as long as the daemon
//! runs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use podwright_types::SandboxId;

use crate::ladder::Climb as _;
use crate::model::{SandboxConfig, SandboxState};
use crate::sandbox::Sandbox;
use crate::timeline::{StepUnderWay, TimelineEntry};
use crate::util::lock;

/// Pods that could not be made, or were removed, and are remembered.
const PODS_KEPT: usize = 64;
/// Containers of a pod that are gone and are remembered with it.
const CONTAINERS_KEPT: usize = 4;

/// What became of a pod sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outlook {
    /// It is being made.
    BeingMade,
    /// It is ready.
    Ready,
    /// It was stopped, or lost something.
    NotReady {
        /// Why, where that is not its being stopped as asked; empty otherwise.
        message: String,
    },
    /// It was removed; what was done for it is remembered for a while.
    Removed,
    /// It could not be made.
    Failed {
        /// Why.
        error: String,
    },
}

/// A step, and the container it was taken for; `None` is the sandbox itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Of<T> {
    /// Name of the container.
    pub container: Option<String>,
    /// The step.
    pub step: T,
}

/// Everything about one sandbox.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Id.
    pub id: SandboxId,
    /// Configuration as asked for.
    pub config: Arc<SandboxConfig>,
    /// Nanoseconds since the epoch.
    pub created_at_nanos: i64,
    /// What became of it.
    pub outlook: Outlook,
    /// Steps that have ended, in order of their beginning.
    pub taken: Vec<Of<TimelineEntry>>,
    /// Steps that are under way.
    pub under_way: Vec<Of<StepUnderWay>>,
}

impl Explanation {
    pub(crate) fn of(sandbox: &Sandbox) -> Self {
        let snapshot = sandbox.snapshot();
        let outlook = match snapshot.state {
            _ if sandbox.live().hidden => Outlook::Removed,
            _ if !sandbox.visible() => Outlook::BeingMade,
            SandboxState::Ready => Outlook::Ready,
            SandboxState::NotReady => Outlook::NotReady { message: snapshot.message },
        };
        let mut explanation = Self {
            id: snapshot.id,
            config: snapshot.config,
            created_at_nanos: snapshot.created_at_nanos,
            outlook,
            taken: Vec::new(),
            under_way: Vec::new(),
        };
        explanation.add(None, sandbox.progress(|p| (p.timeline.entries(), p.under_way.clone())));
        for step in &mut explanation.under_way {
            step.step.waits_for = sandbox.shared.ports.network.waits_for(&sandbox.id);
        }
        for (name, entries) in sandbox.past_containers() {
            explanation.add(Some(&name), (entries, None));
        }
        for container in sandbox.all_containers() {
            let progress = container.progress(|p| (p.timeline.entries(), p.under_way.clone()));
            explanation.add(Some(&container.config.name), progress);
        }
        explanation.taken.sort_by_key(|of| of.step.started_at_nanos);
        explanation
    }

    fn add(&mut self, container: Option<&str>, (taken, under_way): (Vec<TimelineEntry>, Option<StepUnderWay>)) {
        let container = container.map(str::to_owned);
        self.taken.extend(taken.into_iter().map(|step| Of { container: container.clone(), step }));
        self.under_way.extend(under_way.map(|step| Of { container, step }));
    }
}

/// The newest containers of a pod that are gone: those that could not be made, and those that were removed.
#[derive(Debug, Default)]
pub(crate) struct PastContainers(Mutex<VecDeque<(String, Vec<TimelineEntry>)>>);

impl PastContainers {
    pub(crate) fn add(&self, name: &str, entries: Vec<TimelineEntry>) {
        let mut kept = lock(&self.0);
        if kept.len() >= CONTAINERS_KEPT {
            kept.pop_front();
        }
        kept.push_back((name.to_owned(), entries));
    }

    pub(crate) fn all(&self) -> Vec<(String, Vec<TimelineEntry>)> {
        lock(&self.0).iter().cloned().collect()
    }
}

/// The newest pods that could not be made, or were removed.
#[derive(Debug, Default)]
pub(crate) struct Past(Mutex<VecDeque<Explanation>>);

impl Past {
    pub(crate) fn failed(&self, sandbox: &Sandbox, error: &impl ToString) {
        self.add(Explanation { outlook: Outlook::Failed { error: error.to_string() }, ..Explanation::of(sandbox) });
    }

    /// A pod that failed is remembered as that.
    pub(crate) fn removed(&self, sandbox: &Sandbox) {
        self.add(Explanation { outlook: Outlook::Removed, ..Explanation::of(sandbox) });
    }

    fn add(&self, explanation: Explanation) {
        let mut kept = lock(&self.0);
        if kept.len() >= PODS_KEPT {
            kept.pop_front();
        }
        kept.push_back(explanation);
    }

    pub(crate) fn all(&self) -> Vec<Explanation> {
        lock(&self.0).iter().cloned().collect()
    }
}
