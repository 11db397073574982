//! SELinux, seen from inside containers and on the host: labels of processes, of the root and of volumes, and who is denied what.
//!
//! Needs a kernel with SELinux and a policy that knows containers, so it does nothing elsewhere and says so;
//! `cargo xtask vm selinux --lsm selinux` runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::{ContainerConfig, SeLinuxOption};
use podwright_critest::{Pod, World, WorldBuilder, image_mount, linux, mount, shell, with_world, with_world_of};
use podwright_testutil::Daemon;

const SLEEP: &str = "sleep 1000";
/// What a container prints of itself when it starts, and what is asked of it later. The kernel ends a label with a NUL and no newline.
const OWN: &str = "echo $(tr -d '\\0' </proc/self/attr/current)";

#[allow(clippy::print_stdout)] // A test that tries nothing says so.
fn has_selinux() -> bool {
    let known = || fs::write("/sys/fs/selinux/context", "system_u:system_r:container_t:s0").is_ok();
    let has = Path::new("/sys/fs/selinux/enforce").exists() && known();
    if !has {
        println!(
            "no SELinux with a policy for containers: nothing was tried; see `cargo xtask vm selinux --lsm selinux`"
        );
    }
    has
}

fn options(user: &str, role: &str, kind: &str, level: &str) -> Option<SeLinuxOption> {
    Some(SeLinuxOption { user: user.into(), role: role.into(), r#type: kind.into(), level: level.into() })
}

/// A container that sleeps, with these options.
fn sleeper(world: &World, name: &str, asked: Option<SeLinuxOption>) -> ContainerConfig {
    let mut config = shell(name, &world.image, &format!("{OWN}; {SLEEP}"));
    linux(&mut config).1.selinux_options = asked;
    config
}

/// The label of a container's first process as it printed it, which is that of its commands too.
async fn label(world: &mut World, pod: &Pod, config: &ContainerConfig) -> Result<(String, String)> {
    let name = config.metadata.clone().unwrap_or_default().name;
    let id = world.run(pod, config).await.with_context(|| name.clone())?;
    let printed = world.wait_for_log(pod, &name, "_u:").await.with_context(|| name.clone())?;
    let first = String::from_utf8_lossy(&printed.text).into_owned();
    let executed = world.sh(&id, OWN).await.with_context(|| name.clone())?;
    ensure!(executed == first, "{name} runs as {first} and a command in it as {executed}");
    Ok((id, first))
}

fn label_on_host(path: &Path) -> Result<String> {
    let output = Command::new("stat").args(["-c", "%C"]).arg(path).output().context("starting stat")?;
    ensure!(output.status.success(), "stat {}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The label that a mount gives to all its files.
async fn mount_label(world: &mut World, id: &str, at: &str) -> Result<String> {
    let lines = world.sh(id, "cat /proc/self/mountinfo").await?;
    let line =
        lines.lines().find(|line| line.split(' ').nth(4) == Some(at)).with_context(|| format!("no mount {at}"))?;
    let (_, label) = line.split_once("context=").with_context(|| format!("the mount {at} has no label: {line}"))?;
    // Quoted where it has commas itself.
    let label = match label.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => label.split([',', ' ']).next(),
    };
    Ok(label.unwrap_or_default().to_owned())
}

fn level(label: &str) -> &str {
    label.splitn(4, ':').nth(3).unwrap_or_default()
}

#[test]
fn root_processes_and_files_of_a_pod_share_a_level_of_their_own() {
    if !has_selinux() {
        return;
    }
    with_world(async |world| {
        let pod = world.run_pod_named("one").await?;
        let config = sleeper(world, "main", None);
        let (id, main) = label(world, &pod, &config).await?;
        ensure!(main.starts_with("system_u:system_r:container_t:s0:c"), "it runs as {main}");
        let files = format!("system_u:object_r:container_file_t:{}", level(&main));
        for at in ["/", "/dev", "/dev/shm", "/dev/pts"] {
            let found = mount_label(world, &id, at).await?;
            ensure!(found == files, "{at} is {found}, not {files}");
        }
        world.sh(&id, "echo x >/file && cat /file /etc/hosts /etc/resolv.conf && touch /dev/shm/x").await?;

        let config = sleeper(world, "second", None);
        let (_, second) = label(world, &pod, &config).await?;
        ensure!(second == main, "two containers of a pod run as {main} and {second}");
        let other = world.run_pod_named("two").await?;
        let config = sleeper(world, "main", None);
        let (_, elsewhere) = label(world, &other, &config).await?;
        ensure!(elsewhere != main, "two pods run as {main}");
        Ok(())
    });
}

#[test]
fn root_options_are_taken_from_container_and_pod_and_bad_ones_are_refused() {
    if !has_selinux() {
        return;
    }
    with_world(async |world| {
        let mut config = world.pod("options");
        config.linux.get_or_insert_default().security_context.get_or_insert_default().selinux_options =
            options("", "", "", "s0:c7,c8");
        let pod = world.run_pod(config).await?;
        for (name, asked, expected) in [
            ("pods", None, "system_u:system_r:container_t:s0:c7,c8"),
            ("level", options("", "", "", "s0:c4,c5"), "system_u:system_r:container_t:s0:c4,c5"),
            ("kind", options("system_u", "system_r", "spc_t", "s0"), "system_u:system_r:spc_t:s0"),
        ] {
            let config = sleeper(world, name, asked);
            let (id, found) = label(world, &pod, &config).await?;
            ensure!(found == expected, "{name}: it runs as {found}, not {expected}");
            let root = mount_label(world, &id, "/").await?;
            ensure!(level(&root) == level(expected), "{name}: the root is {root}");
        }
        for (name, asked, word) in [
            ("malformed", options("", "", "", "s0,c4"), "malformed"),
            ("unknown", options("", "", "no_such_type_t", ""), "does not know"),
        ] {
            let config = sleeper(world, name, asked);
            let outcome = world.run(&pod, &config).await;
            ensure!(outcome.is_err_and(|error| format!("{error:#}").contains(word)), "{name} is not refused");
        }
        Ok(())
    });
}

#[test]
fn root_a_privileged_container_is_not_confined() {
    if !has_selinux() {
        return;
    }
    with_world(async |world| {
        let mut config = world.pod("privileged");
        config.linux.get_or_insert_default().security_context.get_or_insert_default().privileged = true;
        let pod = world.run_pod(config).await?;
        let secret = secret(world, "privileged")?;
        let mut config = sleeper(world, "main", None);
        linux(&mut config).1.privileged = true;
        config.mounts.push(mount(&secret, "/volume"));
        let (id, found) = label(world, &pod, &config).await?;
        ensure!(found == "system_u:system_r:spc_t:s0", "it runs as {found}");
        ensure!(world.sh(&id, "cat /volume/file").await? == "secret", "it can not read the node's file");
        Ok(())
    });
}

/// A directory of the node with a file that no container may read.
fn secret(world: &mut World, name: &str) -> Result<PathBuf> {
    let dir = world.daemon.path("volumes").join(name);
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("file"), "secret")?;
    let done = Command::new("chcon").args(["-R", "system_u:object_r:var_lib_t:s0"]).arg(&dir).status();
    ensure!(done.context("starting chcon")?.success(), "chcon {}", dir.display());
    Ok(dir)
}

#[test]
fn root_a_volume_is_relabelled_where_that_was_asked_for_alone() {
    if !has_selinux() {
        return;
    }
    with_world(async |world| {
        let enforcing = fs::read_to_string("/sys/fs/selinux/enforce")?.trim() == "1";
        ensure!(enforcing, "this guest does not enforce, so a denial can not be seen");
        let (kept, given) = (secret(world, "kept")?, secret(world, "given")?);
        let image = world.image.clone();
        world.count().await?;
        let pod = world.run_pod_named("volumes").await?;
        let mut config = sleeper(world, "main", None);
        config.mounts = vec![mount(&kept, "/kept"), mount(&given, "/given"), image_mount(&image, "/image", "")];
        if let Some(mount) = config.mounts.get_mut(1) {
            mount.selinux_relabel = true;
        }
        let (id, own) = label(world, &pod, &config).await?;

        let denied = world.exec(&id, &["cat", "/kept/file"]).await?;
        let words = String::from_utf8_lossy(&denied.stderr).into_owned();
        ensure!(denied.exit_code != 0 && words.contains("Permission denied"), "a file of the node: {words}");
        ensure!(label_on_host(&kept.join("file"))? == "system_u:object_r:var_lib_t:s0", "it was relabelled");

        ensure!(world.sh(&id, "cat /given/file").await? == "secret", "its volume can not be read");
        world.sh(&id, "echo new >/given/file && echo more >/given/other").await?;
        let expected = format!("system_u:object_r:container_file_t:{}", level(&own));
        for path in [given.clone(), given.join("file"), given.join("other")] {
            let found = label_on_host(&path)?;
            ensure!(found == expected, "{} is {found}, not {expected}", path.display());
        }
        world.sh(&id, "ls /image/bin >/dev/null").await.context("reading an image volume")?;

        // The volume is that pod's own now.
        let other = world.run_pod_named("stranger").await?;
        let mut config = sleeper(world, "main", None);
        config.mounts = vec![mount(&given, "/given")];
        let (id, _) = label(world, &other, &config).await?;
        let denied = world.exec(&id, &["cat", "/given/file"]).await?;
        ensure!(denied.exit_code != 0, "another pod reads the volume");
        Ok(())
    });
}

#[test]
fn root_nothing_is_labelled_where_it_is_switched_off() {
    if !has_selinux() {
        return;
    }
    let daemon = Daemon::builder().config("[security]\nselinux = false\n");
    with_world_of(WorldBuilder::daemon(daemon), async |world| {
        let pod = world.run_pod_named("off").await?;
        let config = shell("main", &world.image, SLEEP);
        let id = world.run(&pod, &config).await?;
        let pid = world.pid(&id).await?;
        let daemon = world.daemon.pid().context("the daemon does not run")?;
        let of = |pid: u32| fs::read_to_string(format!("/proc/{pid}/attr/current"));
        let (container, daemon) = (of(pid)?, of(daemon)?);
        ensure!(!container.contains("container_t"), "it runs as {container} under a daemon that is {daemon}");
        Ok(())
    });
}
