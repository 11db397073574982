//! Plugins of the Node Resource Interface on a real daemon. `plugin` is one on the library that plugins are made with (Go), which does what
//! annotations tell it; `mock` is our own, for what that library can not be made to do: bad ones.

#[path = "nri/bad.rs"]
mod bad;
#[path = "nri/changes.rs"]
mod changes;
#[path = "nri/events.rs"]
mod events;
#[path = "nri/mock.rs"]
mod mock;
#[path = "nri/plugin.rs"]
mod plugin;

use anyhow::Result;
use podwright_cri_api::v1::{ContainerConfig, LinuxContainerResources, UpdateContainerResourcesRequest};
use podwright_critest::{Pod, World, shell};
use serde_json::Value;

const SLEEP: &str = "exec sleep 1000";
const MIB: i64 = 1 << 20;

/// A container of busybox that tells plugins what to do.
fn told(world: &World, name: &str, orders: &[(&str, Value)]) -> ContainerConfig {
    let mut config = shell(name, &world.image, SLEEP);
    for (order, value) in orders {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        config.annotations.insert(format!("nri.test/{order}"), text);
    }
    config
}

async fn update_memory(world: &mut World, id: &str, bytes: i64) -> Result<(), tonic::Status> {
    let limits = LinuxContainerResources { memory_limit_in_bytes: bytes, ..Default::default() };
    let request =
        UpdateContainerResourcesRequest { container_id: id.to_owned(), linux: Some(limits), ..Default::default() };
    world.runtime.update_container_resources(request).await.map(drop)
}

/// The memory limit that is in force, from inside.
async fn memory(world: &mut World, id: &str) -> Result<i64> {
    let script = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes 2>/dev/null || cat memory.max";
    Ok(world.sh(id, script).await?.trim().parse()?)
}

/// What a refused making says.
async fn refusal(world: &mut World, pod: &Pod, config: &ContainerConfig) -> String {
    match world.create(pod, config).await {
        Ok(id) => format!("container {id} was made"),
        Err(error) => format!("{error:#}"),
    }
}

/// Runs one that [`told`] describes.
async fn run(world: &mut World, pod: &Pod, name: &str, orders: &[(&str, Value)]) -> Result<String> {
    let config = told(world, name, orders);
    world.run(pod, &config).await
}

/// What the refused making of one says that [`told`] describes.
async fn refused(world: &mut World, pod: &Pod, name: &str, orders: &[(&str, Value)]) -> String {
    let config = told(world, name, orders);
    refusal(world, pod, &config).await
}
