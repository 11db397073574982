//! Limits of a pod as a whole.

use std::sync::Arc;

use super::Sandbox;
use crate::error::EngineError;
use crate::ladder::{Climb, Outcome};
use crate::model::{PodLimits, Resources};
use crate::shared::detached;
use crate::{spec, validate};

/// The kernel's default period of a CPU quota.
const DEFAULT_PERIOD_MICROS: u64 = 100_000;
/// Most CPU shares.
const MAX_SHARES: u64 = 262_144;

/// Takes limits, writes them where the pod's cgroup is our own, and remembers them.
pub(crate) async fn update(sandbox: Arc<Sandbox>, limits: PodLimits) -> Outcome {
    let what = format!("update the limits of {}", sandbox.describe());
    let checked = validate::resources(&limits.overhead).and_then(|()| validate::resources(&limits.containers));
    checked.map_err(|e| e.within(&what))?;
    detached(async move {
        let _operation = sandbox.operation.lock().await;
        apply(&sandbox, limits).await.map_err(|e| e.within(what))
    })
    .await
}

async fn apply(sandbox: &Arc<Sandbox>, limits: PodLimits) -> Outcome {
    if !sandbox.live().durable.ready {
        return Err(EngineError::FailedPrecondition("it is not ready; there is nothing to limit".into()));
    }
    let extensions = &sandbox.shared.ports.extensions;
    if extensions.listens() {
        let _turn = extensions.turn().await;
        extensions.limit_sandbox(&sandbox.snapshot(), &limits).await?;
    }
    let resources = spec::resources_json(&sum(&limits))?;
    sandbox.shared.ports.cgroups.limit_pod_parent(&sandbox.cgroup_parent()?, &resources).await?;
    sandbox.live().durable.limits = Some(Arc::new(limits));
    sandbox.save().await?;
    sandbox.tell_limited().await;
    Ok(())
}

/// What the pod may use: its containers' sum and its overhead. Where the containers have no limit the pod has none.
fn sum(limits: &PodLimits) -> Resources {
    let (overhead, containers) = (&limits.overhead, &limits.containers);
    let extra_memory = overhead.memory_limit_bytes.unwrap_or_default().max(0);
    let with_memory = |bytes: i64| if bytes < 0 { bytes } else { bytes.saturating_add(extra_memory) };
    let shares = [containers.cpu_shares, overhead.cpu_shares].into_iter().flatten();
    Resources {
        cpu_shares: shares.reduce(u64::saturating_add).map(|shares| shares.min(MAX_SHARES)),
        cpu_quota_micros: containers.cpu_quota_micros.map(|quota| with_quota(quota, overhead, containers)),
        memory_limit_bytes: containers.memory_limit_bytes.map(with_memory),
        memory_swap_limit_bytes: containers.memory_swap_limit_bytes.map(with_memory),
        ..containers.clone()
    }
}

/// Both quotas in the period of the containers.
fn with_quota(quota: i64, overhead: &Resources, containers: &Resources) -> i64 {
    if quota < 0 {
        return quota;
    }
    let period = |resources: &Resources| resources.cpu_period_micros.unwrap_or(DEFAULT_PERIOD_MICROS).max(1);
    let extra = i128::from(overhead.cpu_quota_micros.unwrap_or_default().max(0));
    let extra = extra * i128::from(period(containers)) / i128::from(period(overhead));
    quota.saturating_add(i64::try_from(extra).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overhead_is_added_where_there_is_a_limit() {
        let overhead = Resources {
            cpu_shares: Some(100),
            cpu_quota_micros: Some(5_000),
            cpu_period_micros: Some(50_000),
            memory_limit_bytes: Some(10),
            ..Resources::default()
        };
        let containers = Resources {
            cpu_shares: Some(1000),
            cpu_quota_micros: Some(20_000),
            cpu_period_micros: Some(100_000),
            memory_limit_bytes: Some(100),
            memory_swap_limit_bytes: Some(-1),
            ..Resources::default()
        };
        let both = sum(&PodLimits { overhead: overhead.clone(), containers });
        assert_eq!((both.cpu_shares, both.cpu_quota_micros), (Some(1100), Some(30_000)));
        assert_eq!((both.memory_limit_bytes, both.memory_swap_limit_bytes), (Some(110), Some(-1)));
        let alone = sum(&PodLimits { overhead, containers: Resources::default() });
        assert_eq!((alone.cpu_quota_micros, alone.memory_limit_bytes, alone.cpu_shares), (None, None, Some(100)));
    }
}
