//! The start of an engine over what an earlier one left: records are read, shims are found, and each object climbs or descends to
//! its goal. Nothing here knows single steps; the tables do.

mod load;

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;
use podwright_types::SandboxId;

use crate::container::Container;
use crate::engine::RecoveryReport;
use crate::error::EngineError;
use crate::ladder::{Climb, Goal};
use crate::model::{ContainerState, Exit};
use crate::sandbox::Sandbox;
use crate::shared::Shared;
use crate::util::now_nanos;

/// Sandboxes that are recovered at a time.
const PARALLEL: usize = 16;
/// Exit code of a container of which nobody knows how it ended.
const UNKNOWN_CODE: i32 = 255;

/// Brings an engine to the state of the world.
pub(crate) async fn recover(shared: Arc<Shared>) -> Result<RecoveryReport, EngineError> {
    let mut notes = load::load(&shared).await?;
    let sandboxes = shared.sandboxes.all();
    let known: Vec<SandboxId> = sandboxes.iter().map(|s| s.id.clone()).collect();
    let found: Vec<Vec<String>> =
        stream::iter(sandboxes).map(|sandbox| in_its_task(one(sandbox))).buffer_unordered(PARALLEL).collect().await;
    notes.extend(found.into_iter().flatten());
    notes.extend(end_orphans(&shared, &known).await);
    let containers = shared.containers.all();
    let running = |c: &&Arc<Container>| matches!(c.live().durable.state, ContainerState::Running { .. });
    Ok(RecoveryReport {
        sandboxes: shared.sandboxes.all().len(),
        running: containers.iter().filter(running).count(),
        containers: containers.len(),
        notes,
    })
}

async fn in_its_task(work: impl Future<Output = Vec<String>> + Send + 'static) -> Vec<String> {
    tokio::spawn(work).await.unwrap_or_else(|e| vec![format!("the recovery of a sandbox ended early: {e}")])
}

async fn one(sandbox: Arc<Sandbox>) -> Vec<String> {
    let mut notes = Vec::new();
    for container in sandbox.all_containers() {
        container.live().announced = true;
        container.hold_again();
    }
    sandbox.live().announced = true;
    if sandbox.boot_id == sandbox.shared.boot_id {
        meet_shim(&sandbox, &mut notes).await;
    } else {
        outlived_by_node(&sandbox, &mut notes);
    }
    for container in sandbox.all_containers() {
        if let Err(error) = container.recover().await {
            notes.push(error.to_string());
        }
    }
    if !sandbox.is_made() && sandbox.live().goal() == Goal::Up {
        notes.push(format!("{}: it was not wholly made; it is undone", sandbox.describe()));
        sandbox.live().durable.progress.goal = Goal::Removed;
    }
    if let Err(error) = sandbox.resume().await {
        notes.push(format!("{error}; it is tried again"));
    }
    notes
}

async fn meet_shim(sandbox: &Arc<Sandbox>, notes: &mut Vec<String>) {
    if !sandbox.progress(|p| p.begun("shim")) {
        return;
    }
    if let Some(wrong) = sandbox.meet_shim().await
        && sandbox.is_made()
    {
        notes.push(format!("{}: {wrong}", sandbox.describe()));
    }
}

/// The node was restarted: nothing of the pod lives, and what the kernel does not forget is given back.
fn outlived_by_node(sandbox: &Arc<Sandbox>, notes: &mut Vec<String>) {
    for container in sandbox.all_containers() {
        let not_started = {
            let live = container.live();
            live.durable.state == ContainerState::Created && !live.durable.progress.begun("process")
        };
        if !not_started {
            container.exit(exit_with_node());
            container.progress(crate::ladder::Progress::settle);
        }
    }
    let mut live = sandbox.live();
    live.durable.ready = false;
    if live.goal() == Goal::Up {
        live.durable.message = "the node was restarted".into();
        live.durable.progress.goal = if live.durable.made { Goal::Stopped } else { Goal::Removed };
        drop(live);
        notes.push(format!("{}: the node was restarted", sandbox.describe()));
    }
}

fn exit_with_node() -> Exit {
    Exit {
        code: UNKNOWN_CODE,
        finished_at_nanos: now_nanos(),
        oom_killed: false,
        message: "the node was restarted while it ran".into(),
        reason: "Unknown".into(),
    }
}

/// Ends shims without a record.
async fn end_orphans(shared: &Arc<Shared>, known: &[SandboxId]) -> Vec<String> {
    let ids = match shared.ports.shims.list().await {
        Ok(ids) => ids,
        Err(error) => return vec![format!("list the shims: {error}")],
    };
    let mut notes = Vec::new();
    for id in ids.into_iter().filter(|id| !known.contains(id)) {
        match end_orphan(shared, &id).await {
            Ok(()) => notes.push(format!("shim of {id}: no sandbox has this id; the shim was ended")),
            Err(error) => notes.push(format!("shim of {id}: no sandbox has this id, and it can not be ended: {error}")),
        }
    }
    notes
}

async fn end_orphan(shared: &Arc<Shared>, id: &SandboxId) -> Result<(), EngineError> {
    if let Some((shim, _)) = shared.ports.shims.connect(id).await? {
        shim.shutdown().await?;
    }
    Ok(shared.ports.shims.remove_remains(id).await?)
}
