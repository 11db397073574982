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
    let memory_limit_bytes = asked.memory_limit_bytes.filter(|v| *v != 0);
    let memory_swap_limit_bytes = asked.memory_swap_limit_bytes.filter(|v| *v != 0);
    Resources {
        cpu_period_micros: asked.cpu_period_micros.filter(|v| *v != 0).or(now.cpu_period_micros),
        cpu_quota_micros: asked.cpu_quota_micros.filter(|v| *v != 0).or(now.cpu_quota_micros),
        cpu_shares: asked.cpu_shares.filter(|v| *v != 0).or(now.cpu_shares),
        memory_limit_bytes: memory_limit_bytes.or(now.memory_limit_bytes),
        memory_swap_limit_bytes: memory_swap_limit_bytes.or_else(|| same_swap(now, memory_limit_bytes)),
        // The processes that run keep theirs.
        oom_score_adj: now.oom_score_adj,
        cpuset_cpus: text(&now.cpuset_cpus, &asked.cpuset_cpus),
        cpuset_mems: text(&now.cpuset_mems, &asked.cpuset_mems),
        hugepage_limits,
        unified,
        pids_limit: asked.pids_limit.filter(|v| *v != 0).or(now.pids_limit),
    }
}

/// The total of memory and swap when only the memory changes: the part for swap stays as large as it is.
fn same_swap(now: &Resources, memory: Option<i64>) -> Option<i64> {
    match (memory, now.memory_limit_bytes, now.memory_swap_limit_bytes) {
        (Some(memory), Some(before), Some(total)) if before > 0 && total > 0 && memory > 0 => {
            Some(memory.saturating_add(total.saturating_sub(before).max(0)))
        }
        // Without a limit for memory there can be none for both together.
        (Some(..=-1), _, Some(_)) => Some(-1),
        (_, _, total) => total,
    }
}

/// What is to be written: what was asked for, with the values that the kernel or systemd needs beside them to understand it.
fn changes(merged: &Resources, asked: &Resources) -> Resources {
    let mut changes = merge(&Resources::default(), asked);
    if changes.memory_limit_bytes.is_some() || changes.memory_swap_limit_bytes.is_some() {
        changes.memory_limit_bytes = merged.memory_limit_bytes;
        changes.memory_swap_limit_bytes = merged.memory_swap_limit_bytes;
    }
    if changes.cpu_quota_micros.is_some() || changes.cpu_period_micros.is_some() {
        changes.cpu_quota_micros = merged.cpu_quota_micros;
        changes.cpu_period_micros = merged.cpu_period_micros;
    }
    changes
}

fn swap_holds_memory(merged: &Resources) -> Outcome {
    match (merged.memory_limit_bytes, merged.memory_swap_limit_bytes) {
        (Some(memory @ 1..), Some(total @ 1..)) if total < memory => Err(EngineError::Invalid(format!(
            "memory and swap together of {total} bytes is less than the {memory} bytes of memory alone; raise it"
        ))),
        _ => Ok(()),
    }
}

/// Writes changed limits, now where it runs, else when it starts.
pub(crate) async fn update(container: Arc<Container>, asked: Resources) -> Outcome {
    crate::validate::resources(&asked).map_err(|e| e.within(format!("update {}", container.describe())))?;
    detached(async move {
        let _operation = container.operation.lock().await;
        let extensions = &container.shared().ports.extensions;
        let mut asked = asked;
        if extensions.listens() {
            let _turn = extensions.turn().await;
            asked = extensions.limit(&container.sandbox.snapshot(), &container.snapshot(), asked).await?;
        }
        apply(&container, &asked).await.map_err(|e| e.within(format!("update {}", container.describe())))?;
        container.tell_limited().await;
        Ok(())
    })
    .await
}

/// The same, asked for by one of the operator's own parts: nobody is asked again.
pub(crate) async fn update_quietly(container: Arc<Container>, asked: Resources) -> Outcome {
    crate::validate::resources(&asked).map_err(|e| e.within(format!("update {}", container.describe())))?;
    detached(async move {
        // Whoever holds the operation may be waiting for the part that asks.
        apply(&container, &asked).await.map_err(|e| e.within(format!("update {}", container.describe())))
    })
    .await
}

async fn apply(container: &Arc<Container>, asked: &Resources) -> Outcome {
    // One after the other, or the later one writes without what the other wrote; and none between a start and its answer.
    let _limits = container.limits.lock().await;
    let (state, now) = {
        let live = container.live();
        (live.durable.state.clone(), live.durable.resources.clone())
    };
    let merged = merge(&now, asked);
    swap_holds_memory(&merged)?;
    match state {
        ContainerState::Created => {}
        ContainerState::Running { .. } => {
            let shim = container.sandbox.ready_shim("write its limits")?;
            shim.update_container(&container.id, &spec::resources_json(&changes(&merged, asked))?).await?;
        }
        ContainerState::Exited { .. } | ContainerState::Unknown => {
            return Err(EngineError::FailedPrecondition("it has ended already; there is nothing to limit".into()));
        }
    }
    remember(container, merged).await
}

async fn remember(container: &Arc<Container>, merged: Resources) -> Outcome {
    let spec = container.live().spec.clone();
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
    container.save().await
}

/// Opens the log file anew, after a rotation.
pub(crate) async fn reopen_log(container: &Container) -> Outcome {
    let what = || format!("open the log of {} anew", container.describe());
    if !matches!(container.live().durable.state, ContainerState::Running { .. }) {
        let text = format!("{}: the container does not run", what());
        return Err(EngineError::FailedPrecondition(text));
    }
    let shim = container.sandbox.ready_shim(&what())?;
    shim.reopen_log(&container.id).await.map_err(|e| match EngineError::from(e) {
        // Its program ended, and the news of that is on its way.
        EngineError::NotFound(text) => EngineError::FailedPrecondition(format!("{}: {text}", what())),
        other => other.within(what()),
    })
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
    fn swap_stays_as_large_when_memory_alone_changes() {
        let limits = |memory, swap| Resources {
            memory_limit_bytes: memory,
            memory_swap_limit_bytes: swap,
            ..Resources::default()
        };
        let swap_after = |now: Resources, memory| {
            let merged = merge(&now, &limits(Some(memory), None));
            swap_holds_memory(&merged).unwrap();
            merged.memory_swap_limit_bytes
        };
        assert_eq!(swap_after(limits(Some(64), Some(96)), 128), Some(160));
        assert_eq!(swap_after(limits(Some(64), Some(96)), 32), Some(64));
        assert_eq!(swap_after(limits(Some(64), None), 128), None);
        assert_eq!(swap_after(limits(Some(64), Some(-1)), 128), Some(-1));
        assert_eq!(swap_after(limits(Some(64), Some(96)), -1), Some(-1));
        let low = merge(&limits(Some(64), Some(96)), &limits(None, Some(32)));
        assert!(matches!(swap_holds_memory(&low), Err(EngineError::Invalid(_))));
    }

    #[test]
    fn what_is_written_has_what_belongs_together() {
        let now = Resources {
            cpu_period_micros: Some(50_000),
            memory_limit_bytes: Some(64),
            memory_swap_limit_bytes: Some(96),
            cpu_shares: Some(5),
            ..Resources::default()
        };
        let written = |asked: Resources| changes(&merge(&now, &asked), &asked);
        let quota = written(Resources { cpu_quota_micros: Some(25_000), ..Resources::default() });
        assert_eq!((quota.cpu_quota_micros, quota.cpu_period_micros), (Some(25_000), Some(50_000)));
        assert_eq!((quota.memory_limit_bytes, quota.cpu_shares), (None, None));
        let memory = written(Resources { memory_limit_bytes: Some(128), ..Resources::default() });
        assert_eq!((memory.memory_limit_bytes, memory.memory_swap_limit_bytes), (Some(128), Some(160)));
        assert_eq!(memory.cpu_period_micros, None);
    }

    #[test]
    fn a_cpuset_alone_leaves_the_rest() {
        let now = Resources { cpu_shares: Some(512), ..Resources::default() };
        let merged = merge(&now, &Resources { cpuset_cpus: "1".into(), ..Resources::default() });
        assert_eq!((merged.cpu_shares, merged.cpuset_cpus.as_str()), (Some(512), "1"));
    }
}
