//! What the security context of a container says, proven from inside; what `containers.rs` proves is not repeated.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::{
    Capability, ContainerConfig, Int64Value, Mount, MountPropagation, SecurityProfile, SupplementalGroupsPolicy,
    security_profile::ProfileType,
};
use podwright_critest::{Pod, World, linux, mount, shell, with_world};

const SLEEP: &str = "sleep 1000";

fn profile(kind: ProfileType, path: &Path) -> Option<SecurityProfile> {
    Some(SecurityProfile { profile_type: kind.into(), localhost_ref: path.display().to_string() })
}

/// A line of /proc/self/status of a process that `sh` starts, without blanks.
async fn status(world: &mut World, id: &str, key: &str) -> Result<String> {
    world.sh(id, &format!("grep ^{key}: /proc/self/status | cut -f2 | tr -d ' \\t'")).await
}

async fn privileged_pod(world: &mut World, name: &str) -> Result<Pod> {
    let mut config = world.pod(name);
    config.linux.get_or_insert_default().security_context.get_or_insert_default().privileged = true;
    world.run_pod(config).await
}

#[test]
fn root_seccomp_of_each_kind() {
    with_world(async |world| {
        // chmod fails with EPERM, everything else works.
        let file = world.daemon.path("no-chmod.json");
        let rule = r#"{"names":["chmod","fchmod","fchmodat","fchmodat2"],"action":"SCMP_ACT_ERRNO"}"#;
        fs::write(&file, format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#))?;
        world.count().await?;
        let pod = privileged_pod(world, "seccomp").await?;
        let none = Path::new("");
        for (name, kind, path, privileged, filter, may_chmod) in [
            ("default", ProfileType::RuntimeDefault, none, false, "2", true),
            ("unconfined", ProfileType::Unconfined, none, false, "0", true),
            ("localhost", ProfileType::Localhost, file.as_path(), false, "2", false),
            ("privileged", ProfileType::Localhost, file.as_path(), true, "0", true),
        ] {
            let mut config = shell(name, &world.image, SLEEP);
            linux(&mut config).1.seccomp = profile(kind, path);
            linux(&mut config).1.privileged = privileged;
            let id = world.run(&pod, &config).await?;
            ensure!(status(world, &id, "Seccomp").await? == filter, "{name}: the filter");
            let tried = world.exec(&id, &["sh", "-c", "touch /tmp-x && chmod 600 /tmp-x"]).await?;
            ensure!((tried.exit_code == 0) == may_chmod, "{name}: {tried:?}");
        }
        let mut missing = shell("missing", &world.image, SLEEP);
        linux(&mut missing).1.seccomp = profile(ProfileType::Localhost, &world.daemon.path("none.json"));
        let outcome = world.run(&pod, &missing).await;
        ensure!(outcome.is_err_and(|error| format!("{error:#}").contains("none.json")), "a missing profile");
        Ok(())
    });
}

#[test]
fn root_ambient_capabilities_reach_other_users() {
    with_world(async |world| {
        let pod = world.run_pod_named("ambient").await?;
        for (name, ambient, effective) in [
            ("plain", vec![], "0000000000000000"),
            ("ambient", vec!["NET_BIND_SERVICE".to_owned()], "0000000000000400"),
        ] {
            let mut config = shell(name, &world.image, SLEEP);
            let security = linux(&mut config).1;
            security.run_as_user = Some(Int64Value { value: 1000 });
            security.capabilities = Some(Capability { add_ambient_capabilities: ambient, ..Default::default() });
            let id = world.run(&pod, &config).await?;
            ensure!(status(world, &id, "CapEff").await? == effective, "{name}: effective");
            ensure!(status(world, &id, "CapAmb").await? == effective, "{name}: ambient");
        }
        Ok(())
    });
}

#[test]
fn root_groups_are_merged_or_strict() {
    with_world(async |world| {
        let pod = world.run_pod_named("groups").await?;
        for (name, policy, wanted) in [
            ("merge", SupplementalGroupsPolicy::Merge, "33 50 7000"),
            ("strict", SupplementalGroupsPolicy::Strict, "33 7000"),
        ] {
            let mut config = shell(name, &world.image, SLEEP);
            let security = linux(&mut config).1;
            security.run_as_user = Some(Int64Value { value: 33 });
            security.supplemental_groups = vec![7000];
            security.set_supplemental_groups_policy(policy);
            let id = world.run(&pod, &config).await?;
            let seen = world.sh(&id, "id -G | tr ' ' '\\n' | sort -n | tr '\\n' ' '").await?;
            ensure!(seen.trim() == wanted, "{name}: {seen}");
            let told = world.status(&id).await?.user.and_then(|user| user.linux).context("no user")?;
            ensure!(
                told.uid == 33 && told.gid == 33 && told.supplemental_groups.len() == wanted.split(' ').count(),
                "{name}: {told:?}"
            );
        }
        Ok(())
    });
}

#[test]
fn root_recursive_readonly_is_that_or_an_error() {
    with_world(async |world| {
        let volume = world.daemon.path("volume");
        fs::create_dir_all(volume.join("inner"))?;
        let shown = volume.join("inner").display().to_string();
        world.daemon.host().run(&["mount", "-t", "tmpfs", "none", &shown])?;
        world.count().await?;
        let pod = world.run_pod_named("rro").await?;
        let readonly =
            |recursive: bool, at: &str| Mount { readonly: true, recursive_read_only: recursive, ..mount(&volume, at) };
        let mut config = shell("main", &world.image, SLEEP);
        config.mounts = vec![readonly(false, "/top"), readonly(true, "/all")];
        let id = world.run(&pod, &config).await?;
        for (path, writable) in [("/top/x", false), ("/top/inner/x", true), ("/all/x", false), ("/all/inner/x", false)]
        {
            let tried = world.exec(&id, &["touch", path]).await?;
            ensure!((tried.exit_code == 0) == writable, "{path}: {tried:?}");
        }
        let mut propagating = readonly(true, "/bad");
        propagating.set_propagation(MountPropagation::PropagationHostToContainer);
        for (name, bad) in
            [("propagating", propagating), ("writable", Mount { readonly: false, ..readonly(true, "/bad") })]
        {
            let config = ContainerConfig { mounts: vec![bad], ..shell(name, &world.image, SLEEP) };
            let outcome = world.create(&pod, &config).await;
            ensure!(
                outcome.is_err_and(|error| format!("{error:#}").contains("recursive_read_only")),
                "{name} was taken"
            );
        }
        Ok(())
    });
}

#[test]
fn root_proc_is_masked_unless_it_is_not() {
    with_world(async |world| {
        let pod = world.run_pod_named("proc").await?;
        let mut config = shell("default", &world.image, SLEEP);
        linux(&mut config).1.masked_paths = vec!["/proc/timer_list".into(), "/proc/scsi".into(), "/proc/keys".into()];
        linux(&mut config).1.readonly_paths = vec!["/proc/sys".into(), "/proc/irq".into()];
        let masked = world.run(&pod, &config).await?;
        let plain = shell("unmasked", &world.image, SLEEP);
        let unmasked = world.run(&pod, &plain).await?;
        let mounts = "cut -d' ' -f5 /proc/self/mountinfo | grep -c '^/proc/' || true";
        ensure!(world.sh(&masked, mounts).await? != "0", "nothing is masked");
        ensure!(world.sh(&unmasked, mounts).await? == "0", "proc mount type Unmasked leaves /proc as it is");
        ensure!(world.sh(&masked, "cat /proc/keys | wc -c").await? == "0", "masked");
        let write = ["sh", "-c", "echo 0 1000 > /proc/sys/net/ipv4/ping_group_range"];
        ensure!(world.exec(&masked, &write).await?.exit_code != 0, "a read-only path");
        ensure!(world.exec(&unmasked, &write).await?.exit_code == 0, "a path that is not read-only");
        Ok(())
    });
}

#[test]
fn root_sysctls_of_the_node_are_refused() {
    with_world(async |world| {
        for (name, value, host_network) in [
            ("kernel.panic", "1", false),
            ("vm.swappiness", "1", false),
            ("net.ipv4.ip_forward", "1", true),
            ("net.ipv4.ip_forward\n", "1", false),
            ("net/../kernel/panic", "1", false),
            ("net.ipv4.ping_group_range", "0 0\nkernel.panic=1", false),
        ] {
            let mut config = world.pod("sysctl");
            let linux = config.linux.get_or_insert_default();
            linux.sysctls.insert(name.into(), value.into());
            if host_network {
                let security = linux.security_context.get_or_insert_default();
                security.namespace_options.get_or_insert_default().network = 2;
            }
            let outcome = world.run_pod(config).await;
            let refused = outcome.as_ref().is_err_and(|error| {
                error
                    .downcast_ref::<tonic::Status>()
                    .is_some_and(|status| status.code() == tonic::Code::InvalidArgument)
            });
            ensure!(refused, "{name:?}: {outcome:?}");
        }
        Ok(())
    });
}

#[test]
fn root_privileged_has_the_nodes_devices_and_capabilities() {
    with_world(async |world| {
        let pod = privileged_pod(world, "privileged").await?;
        let mut config = shell("main", &world.image, SLEEP);
        linux(&mut config).1.privileged = true;
        linux(&mut config).1.masked_paths = vec!["/proc/keys".into()];
        let id = world.run(&pod, &config).await?;
        let own = fs::read_to_string("/proc/self/status")?;
        let held = own.lines().find_map(|line| line.strip_prefix("CapPrm:")).context("no CapPrm")?.trim();
        ensure!(status(world, &id, "CapEff").await? == held, "all that the daemon holds: {held}");
        world.sh(&id, "test -c /dev/kmsg && head -c 1 /dev/kmsg > /dev/null; test -w /proc/sys/kernel/panic").await?;
        ensure!(world.sh(&id, "grep -c ' /proc/' /proc/self/mountinfo || true").await? == "0", "nothing is masked");
        ensure!(
            world.exec(&id, &["mount", "-t", "tmpfs", "none", "/mnt"]).await?.exit_code == 0
                || world.exec(&id, &["sh", "-c", "mkdir /mnt && mount -t tmpfs none /mnt"]).await?.exit_code == 0,
            "it may mount"
        );
        Ok(())
    });
}

/// runc's CVE-2025-31133 and -52881: while a container is set up, something else changes what its paths lead to. A volume that two
/// containers share is the one place where that is possible: names there become links to the node's own proc and back.
#[test]
fn root_swapped_paths_mask_nothing_else() {
    with_world(async |world| {
        let volume = world.daemon.path("swapped");
        let (real, link) = (volume.join("real"), volume.join("link"));
        fs::create_dir_all(real.join("secret"))?;
        std::os::unix::fs::symlink("/proc/sys/net", &link)?;
        world.count().await?;
        let pod = world.run_pod_named("swapper").await?;
        let kept = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
        let mounts_before = world.daemon.host().run(&["cat", "/proc/self/mountinfo"])?.lines().count();
        let stop = AtomicBool::new(false);
        let swapping = volume.join("name");
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| {
                // The name is a directory, nothing, or a link, and changes as fast as it can.
                while !stop.load(Ordering::Relaxed) {
                    let _ = fs::create_dir(&swapping);
                    let _ = fs::remove_dir(&swapping);
                    let _ = std::os::unix::fs::symlink("/proc/self/../sys", &swapping);
                    let _ = fs::remove_file(&swapping);
                }
            });
            let outcome = tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(start_many(world, &pod, &volume))
            });
            stop.store(true, Ordering::Relaxed);
            outcome
        });
        outcome?;
        ensure!(fs::read_to_string("/proc/sys/kernel/core_pattern")? == kept, "the node's settings");
        let mounts_after = world.daemon.host().run(&["cat", "/proc/self/mountinfo"])?.lines().count();
        ensure!(mounts_after == mounts_before, "mounts of the node: {mounts_before} before, {mounts_after} after");
        ensure!(real.join("secret").is_dir() && fs::read_dir(real.join("secret"))?.count() == 0, "what lies beside");
        let _ = fs::remove_dir(&swapping);
        let _ = fs::remove_file(&swapping);
        Ok(())
    });
}

/// Containers whose masked and read-only paths lie in the swapped volume. Each is masked truly, or fails with an error.
async fn start_many(world: &mut World, pod: &Pod, volume: &Path) -> Result<()> {
    const TRIES: usize = 20;
    for at in 0..TRIES {
        let mut config = shell(&format!("try-{at}"), &world.image, SLEEP);
        config.mounts = vec![mount(volume, "/shared")];
        let security = linux(&mut config).1;
        security.masked_paths =
            vec!["/shared/name".into(), "/shared/name/kernel/core_pattern".into(), "/proc/keys".into()];
        security.readonly_paths = vec!["/shared/name".into(), "/proc/sys".into()];
        let id = world.create(pod, &config).await?;
        if world.start(&id).await.is_ok() {
            // What had to be fenced off is, whatever the other names led to.
            let fenced = "test $(cat /proc/keys | wc -c) = 0 && ! touch /proc/sys/kernel/panic 2>/dev/null && ! echo 1 2>/dev/null > /proc/sys/net/ipv4/ip_forward";
            world.sh(&id, fenced).await.with_context(|| format!("try {at}"))?;
        }
        world.stop(&id, 0).await?;
        world.remove(&id).await?;
    }
    Ok(())
}
