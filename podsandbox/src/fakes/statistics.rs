//! Usage in the fake world: whatever runs has used a second of CPU for each time that anything was read.

use std::time::Duration;

use async_trait::async_trait;

use super::World;
use crate::model::{CgroupUsage, LayerUsage, LinkUsage, MemoryUsage, NetworkUsage};
use crate::ports::{
    ContainerReading, ContainerSubject, ReadReply, ReadRequest, SandboxReading, SandboxSubject, Statistics,
};
use crate::util::{lock, now_nanos};

#[async_trait]
impl Statistics for World {
    async fn read(&self, request: ReadRequest) -> ReadReply {
        let reads = {
            let mut state = lock(&self.state);
            state.reads += 1;
            state.reads
        };
        ReadReply {
            containers: request.containers.iter().map(|subject| container(subject, reads)).collect(),
            sandboxes: request.sandboxes.iter().map(|subject| sandbox(subject, reads)).collect(),
        }
    }
}

fn container(subject: &ContainerSubject, reads: u64) -> ContainerReading {
    if subject.layer.begin() {
        let layer = LayerUsage { at_nanos: now_nanos(), bytes: 4096, inodes: 1 };
        subject.layer.finish(Some(layer), Duration::ZERO);
    }
    ContainerReading { usage: subject.cgroup.as_ref().map(|_| usage(reads)), details: None }
}

fn sandbox(subject: &SandboxSubject, reads: u64) -> SandboxReading {
    let link = LinkUsage { name: "eth0".into(), ..LinkUsage::default() };
    SandboxReading {
        // The shim uses some too.
        usage: subject.cgroup.as_ref().map(|_| CgroupUsage { processes: Some(7), ..usage(reads + 1) }),
        network: subject.network.as_ref().map(|_| NetworkUsage { at_nanos: now_nanos(), links: vec![link] }),
    }
}

fn usage(reads: u64) -> CgroupUsage {
    CgroupUsage {
        at_nanos: now_nanos(),
        cpu_nanoseconds: Some(reads * 1_000_000_000),
        memory: Some(MemoryUsage { usage_bytes: 100, working_set_bytes: 60, ..MemoryUsage::default() }),
        processes: Some(1),
        ..CgroupUsage::default()
    }
}
