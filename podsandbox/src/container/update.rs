//! Changing the limits of a container, and opening its log anew.

use std::sync::Arc;

use super::{Container, SPECIFICATION_FILE};
use crate::error::EngineError;
use crate::ladder::{Climb, Outcome};
use crate::model::{ContainerState, Resources};
use crate::record;
use crate::shared::{blocking, detached};
use crate::spec;

/// Merges what is asked for into the limits in force: zero, empty and absent mean unchanged.
pub(crate) fn merge(now: &Resources, asked: &Resources) -> Resources {
    let text = |now: &str, asked: &str| if asked.is_empty() { now.to_owned() } else { asked.to_owned() };
    let mut hugepage_limits = now.hugepage_limits.clone();
    hugepage_limits.extend(asked.hugepage_limits.clone());
    let mut unified = now.unified.clone();
    unified.extend(asked.unified.clone());
    Resources {
        cpu_period_micros: asked.cpu_period_micros.filter(|v| *v != 0).or(now.cpu_period_micros),
        cpu_quota_micros: asked.cpu_quota_micros.filter(|v| *v != 0).or(now.cpu_quota_micros),
        cpu_shares: asked.cpu_shares.filter(|v| *v != 0).or(now.cpu_shares),
        memory_limit_bytes: asked.memory_limit_bytes.filter(|v| *v != 0).or(now.memory_limit_bytes),
        memory_swap_limit_bytes: asked.memory_swap_limit_bytes.filter(|v| *v != 0).or(now.memory_swap_limit_bytes),
        // The processes that run keep theirs.
        oom_score_adj: now.oom_score_adj,
        cpuset_cpus: text(&now.cpuset_cpus, &asked.cpuset_cpus),
        cpuset_mems: text(&now.cpuset_mems, &asked.cpuset_mems),
        hugepage_limits,
        unified,
        pids_limit: asked.pids_limit.filter(|v| *v != 0).or(now.pids_limit),
    }
}

/// Writes changed limits, now where it runs, else when it starts.
pub(crate) async fn update(container: Arc<Container>, asked: Resources) -> Outcome {
    crate::validate::resources(&asked).map_err(|e| e.within(format!("update {}", container.describe())))?;
    detached(async move {
        let _operation = container.operation.lock().await;
        apply(&container, &asked).await.map_err(|e| e.within(format!("update {}", container.describe())))
    })
    .await
}

async fn apply(container: &Arc<Container>, asked: &Resources) -> Outcome {
    let state = container.live().durable.state.clone();
    match state {
        ContainerState::Created => {}
        ContainerState::Running { .. } => {
            let shim = container.sandbox.ready_shim("write its limits")?;
            shim.update_container(&container.id, &spec::resources_json(&merge(&Resources::default(), asked))?).await?;
        }
        ContainerState::Exited { .. } | ContainerState::Unknown => {
            return Err(EngineError::FailedPrecondition("it has ended already; there is nothing to limit".into()));
        }
    }
    remember(container, asked).await
}

async fn remember(container: &Arc<Container>, asked: &Resources) -> Outcome {
    let (now, spec) = {
        let live = container.live();
        (live.durable.resources.clone(), live.spec.clone())
    };
    let merged = merge(&now, asked);
    let spec = spec::with_resources(&spec, &merged)?;
    let bytes = spec.clone();
    blocking("write the specification", &container.dir().join(SPECIFICATION_FILE), move |path| {
        record::replace(path, bytes.as_bytes(), 0o600, false)
    })
    .await?;
    {
        let mut live = container.live();
        live.durable.resources = Arc::new(merged);
        live.spec = spec.into();
    }
    container.save(false).await
}

/// Opens the log file anew, after a rotation.
pub(crate) async fn reopen_log(container: &Container) -> Outcome {
    let what = || format!("open the log of {} anew", container.describe());
    if !matches!(container.live().durable.state, ContainerState::Running { .. }) {
        let text = format!("{}: the container does not run", what());
        return Err(EngineError::FailedPrecondition(text));
    }
    let shim = container.sandbox.ready_shim(&what())?;
    shim.reopen_log(&container.id).await.map_err(|e| EngineError::from(e).within(what()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_empty_change_nothing() {
        let now = Resources {
            cpu_shares: Some(512),
            memory_limit_bytes: Some(1 << 20),
            cpuset_cpus: "0".into(),
            ..Resources::default()
        };
        let zero = Resources { cpu_shares: Some(0), memory_limit_bytes: Some(0), ..Resources::default() };
        assert_eq!(merge(&now, &zero), now);
    }

    #[test]
    fn a_cpuset_alone_leaves_the_rest() {
        let now = Resources { cpu_shares: Some(512), ..Resources::default() };
        let merged = merge(&now, &Resources { cpuset_cpus: "1".into(), ..Resources::default() });
        assert_eq!((merged.cpu_shares, merged.cpuset_cpus.as_str()), (Some(512), "1"));
    }
}
