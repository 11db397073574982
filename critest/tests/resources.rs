//! Limits, as processes inside meet them, on both versions of cgroups.

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::{
    LinuxContainerResources, UpdateContainerResourcesRequest, UpdatePodSandboxResourcesRequest,
};
use podwright_critest::{World, linux, shell, with_world};

const MIB: i64 = 1 << 20;

/// The files of a limit: of v1 below its controller's directory, of v2.
struct Files(&'static str, &'static str);

const MEMORY: Files = Files("memory/memory.limit_in_bytes", "memory.max");
const CPU_SET: Files = Files("cpuset/cpuset.cpus", "cpuset.cpus");
const BANDWIDTH: &str = "cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us 2>/dev/null || cat cpu.max | tr ' ' '\\n'";

async fn read(world: &mut World, id: &str, files: Files) -> Result<String> {
    world.sh(id, &format!("cd /sys/fs/cgroup; cat {} 2>/dev/null || cat {}", files.0, files.1)).await
}

async fn bandwidth(world: &mut World, id: &str) -> Result<String> {
    Ok(world.sh(id, &format!("cd /sys/fs/cgroup; {BANDWIDTH}")).await?.replace('\n', " "))
}

async fn update(world: &mut World, id: &str, limits: LinuxContainerResources) -> Result<(), tonic::Status> {
    let container_id = id.to_owned();
    let request = UpdateContainerResourcesRequest { container_id, linux: Some(limits), ..Default::default() };
    world.runtime.update_container_resources(request).await.map(drop)
}

async fn echoed(world: &mut World, id: &str) -> Result<LinuxContainerResources> {
    world.status(id).await?.resources.and_then(|resources| resources.linux).context("no resources in the status")
}

fn unified_host() -> bool {
    std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

#[test]
fn root_updates_reach_the_cgroup_and_leave_the_rest() {
    with_world(async |world| {
        let pod = world.run_pod_named("updates").await?;
        let mut config = shell("main", &world.image, "sleep 1000");
        let limits = linux(&mut config).0;
        limits.memory_limit_in_bytes = 64 * MIB;
        (limits.cpu_quota, limits.cpu_period) = (10_000, 50_000);
        let id = world.run(&pod, &config).await?;
        ensure!(bandwidth(world, &id).await? == "10000 50000", "the first quota");

        update(world, &id, LinuxContainerResources { cpu_quota: 20_000, ..Default::default() }).await?;
        ensure!(bandwidth(world, &id).await? == "20000 50000", "a quota alone keeps its period");
        update(world, &id, LinuxContainerResources { cpuset_cpus: "0".into(), ..Default::default() }).await?;
        ensure!(read(world, &id, CPU_SET).await? == "0", "the static CPU manager sends only cpusets");
        let raised = LinuxContainerResources { memory_limit_in_bytes: 96 * MIB, ..Default::default() };
        update(world, &id, raised).await?;
        ensure!(read(world, &id, MEMORY).await? == (96 * MIB).to_string(), "the raised memory");
        ensure!(bandwidth(world, &id).await? == "20000 50000", "zero is unchanged");
        let now = echoed(world, &id).await?;
        let told = (now.cpu_quota, now.cpu_period, now.memory_limit_in_bytes, now.cpuset_cpus.as_str());
        ensure!(told == (20_000, 50_000, 96 * MIB, "0"), "{now:?}");

        let wrong = LinuxContainerResources { memory_swap_limit_in_bytes: MIB, ..Default::default() };
        let refused = update(world, &id, wrong).await.err().context("swap below memory was taken")?;
        ensure!(refused.code() == tonic::Code::InvalidArgument, "{refused:?}");
        ensure!(read(world, &id, MEMORY).await? == (96 * MIB).to_string(), "after a refusal all is as it was");
        Ok(())
    });
}

#[test]
fn root_a_container_that_is_not_started_takes_more_memory_than_its_swap_was() {
    with_world(async |world| {
        let pod = world.run_pod_named("early").await?;
        let mut config = shell("main", &world.image, "sleep 1000");
        let limits = linux(&mut config).0;
        (limits.memory_limit_in_bytes, limits.memory_swap_limit_in_bytes) = (64 * MIB, 80 * MIB);
        let id = world.create(&pod, &config).await?;
        let more = LinuxContainerResources { memory_limit_in_bytes: 128 * MIB, ..Default::default() };
        update(world, &id, more).await?;
        world.start(&id).await?;
        ensure!(read(world, &id, MEMORY).await? == (128 * MIB).to_string(), "the memory");
        let swap = Files("memory/memory.memsw.limit_in_bytes", "memory.swap.max");
        let expected = if unified_host() { 16 * MIB } else { 144 * MIB };
        // Kernels without accounting for swap have no such file.
        let has_swap =
            world.sh(&id, "cd /sys/fs/cgroup; ls memory/memory.memsw.limit_in_bytes memory.swap.max || true");
        if !has_swap.await?.is_empty() {
            ensure!(read(world, &id, swap).await? == expected.to_string(), "swap stays as large");
        }
        Ok(())
    });
}

#[test]
fn root_unified_files_are_written_on_v2_and_refused_on_v1() {
    with_world(async |world| {
        let pod = world.run_pod_named("unified").await?;
        let mut config = shell("main", &world.image, "sleep 1000");
        linux(&mut config).0.unified = [("memory.high".into(), (50 * MIB).to_string())].into();
        if !unified_host() {
            let refused = world.run(&pod, &config).await.err().context("a file of v2 was taken")?;
            ensure!(format!("{refused:#}").contains("memory.high"), "{refused:#}");
            return Ok(());
        }
        let id = world.run(&pod, &config).await?;
        let high = Files("none", "memory.high");
        ensure!(read(world, &id, high).await? == (50 * MIB).to_string(), "on create");
        let unified = [("memory.high".to_owned(), (60 * MIB).to_string())].into();
        update(world, &id, LinuxContainerResources { unified, ..Default::default() }).await?;
        let high = Files("none", "memory.high");
        ensure!(read(world, &id, high).await? == (60 * MIB).to_string(), "on update");
        ensure!(echoed(world, &id).await?.unified.len() == 1, "echoed");
        Ok(())
    });
}

#[test]
fn root_limits_of_a_pod_are_taken_before_its_cgroup_is_written() {
    with_world(async |world| {
        let pod = world.run_pod_named("pod-limits").await?;
        let id = world.run_shell(&pod, "main", "sleep 1000").await?;
        let request = UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: pod.id.clone(),
            overhead: Some(LinuxContainerResources { memory_limit_in_bytes: 10 * MIB, ..Default::default() }),
            resources: Some(LinuxContainerResources { memory_limit_in_bytes: 200 * MIB, ..Default::default() }),
        };
        world.runtime.update_pod_sandbox_resources(request.clone()).await?;
        ensure!(world.sh(&id, "echo alive").await? == "alive", "nothing ended");

        let mut config = world.pod("own");
        config.linux.get_or_insert_default().cgroup_parent = String::new();
        let own = world.run_pod(config).await?;
        world.run_shell(&own, "main", "sleep 1000").await?;
        let request = UpdatePodSandboxResourcesRequest { pod_sandbox_id: own.id.clone(), ..request };
        world.runtime.update_pod_sandbox_resources(request).await?;
        let slice = format!("/sys/fs/cgroup/podwright.slice/podwright-{}.slice/memory.max", own.id);
        let files = [
            format!("/sys/fs/cgroup/memory/podwright/{}/memory.limit_in_bytes", own.id),
            format!("/sys/fs/cgroup/podwright/{}/memory.max", own.id),
            slice,
        ];
        let written = files.iter().find_map(|file| std::fs::read_to_string(file).ok());
        ensure!(written.as_deref().map(str::trim) == Some(&(210 * MIB).to_string()), "our own cgroup: {written:?}");
        Ok(())
    });
}
