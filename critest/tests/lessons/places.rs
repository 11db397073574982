//! Where things are: processes in their cgroup, descriptors, directories of the daemon, files of an image that must not be read on.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use podwright_critest::{Pod, World, linux, shell, with_world};
use podwright_testutil::image::LayerBuilder;

use crate::{SLEEP, pull_with};

/// CRI-O's CVE-2023-6476, containerd's CVE-2025-47291: a pod that ran outside of the cgroup that limits it.
#[test]
fn root_every_process_of_a_pod_is_in_its_cgroup() {
    with_world(async |world| {
        let mut config = world.pod("limited");
        let linux_config = config.linux.get_or_insert_default();
        linux_config.security_context.get_or_insert_default().privileged = true;
        // What another runtime takes for the place of the cgroup.
        config.annotations.insert("io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw".into(), "true".into());
        config.annotations.insert("io.kubernetes.cri-o.LinkLogs".into(), "/".into());
        let parent = linux_config.cgroup_parent.clone();
        let pod = world.run_pod(config).await?;
        type Change = fn(&mut podwright_cri_api::v1::ContainerConfig);
        let kinds: [(&str, Change); 5] = [
            ("plain", |_| ()),
            ("privileged", |config| linux(config).1.privileged = true),
            ("host-pids", |config| linux(config).1.namespace_options.get_or_insert_default().pid = 2),
            ("terminal", |config| config.tty = true),
            ("user", |config| linux(config).1.run_as_username = "www-data".into()),
        ];
        for (at, (name, change)) in kinds.into_iter().enumerate() {
            // One that leaves its session and its parent, and one that an exec brings.
            let number = u64::from(std::process::id()) * 10 + at as u64 + 100_000_000;
            let mut config = shell(name, &world.image, &format!("(setsid sleep {number} &) & {SLEEP}"));
            change(&mut config);
            let id = world.run(&pod, &config).await?;
            let executed = number + 50_000_000_000;
            let (mut cri, own) = (world.calls(), id.clone());
            let exec = tokio::spawn(async move { cri.exec(&own, &["sleep", &executed.to_string()]).await });
            for marker in [number, executed] {
                let pid = found(world, marker).await.with_context(|| format!("{name}: {marker}"))?;
                in_cgroup(pid, &parent, &id).with_context(|| format!("{name}: {marker}"))?;
            }
            in_cgroup(world.pid(&id).await?, &parent, &id).with_context(|| name.to_owned())?;
            world.stop(&id, 0).await?;
            let _ = exec.await;
        }
        Ok(())
    });
}

/// The process that sleeps for so long, once it is there.
async fn found(_: &World, marker: u64) -> Result<u32> {
    let wanted = format!("sleep\0{marker}\0");
    for _ in 0..3000 {
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == wanted.as_bytes()) {
                return Ok(pid);
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    anyhow::bail!("no process sleeps for {marker} s")
}

fn in_cgroup(pid: u32, parent: &str, id: &str) -> Result<()> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let name = parent.rsplit('/').next().unwrap_or(parent);
    // A hybrid host has a hierarchy without controllers, which limits nothing.
    let limiting = text
        .lines()
        .filter(|line| line.starts_with("0::/") == std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists());
    let mut lines = limiting.filter(|line| !line.contains("name=")).peekable();
    ensure!(lines.peek().is_some(), "no cgroup: {text}");
    for line in lines {
        ensure!(line.contains(name) && line.contains(id), "process {pid}: {line}");
    }
    Ok(())
}

/// runc's CVE-2024-21626: a descriptor of the node's was left open, and was the working directory.
#[test]
fn root_an_exec_has_its_streams_and_no_way_out() {
    with_world(async |world| {
        let pod = world.run_pod_named("descriptors").await?;
        let id = world.run_shell(&pod, "main", SLEEP).await?;
        // ls has one more, for the directory that it lists.
        ensure!(world.sh(&id, "ls /proc/self/fd | tr '\\n' ' '").await? == "0 1 2 3 ");
        ensure!(world.exec(&id, &["ls", "/proc/1/fd"]).await?.stdout == b"0\n1\n2\n");
        for number in 0..20 {
            for name in ["/proc/self/fd/", "/proc/1/fd/", "/proc/thread-self/fd/", "/dev/fd/"] {
                let mut config = shell(&format!("cwd-{number}"), &world.image, SLEEP);
                config.working_dir = format!("{name}{number}/../../../../..");
                if let Ok(id) = world.run(&pod, &config).await {
                    let inside =
                        "test \"$(stat -c %i .)\" = \"$(stat -c %i /)\" || pwd -P | grep '^/' | grep -v unreachable";
                    world.sh(&id, inside).await.with_context(|| config.working_dir.clone())?;
                    ensure!(
                        world
                            .exec(&id, &["sh", "-c", "cd /proc/1/cwd && ls ../../../..//bin/busybox"])
                            .await?
                            .exit_code
                            == 0
                    );
                    world.remove(&id).await?;
                }
            }
            // The container's own names for it, taken for the node's by a joining process.
            if number > 2 {
                let tried =
                    world.exec(&id, &["sh", "-c", &format!("cd /proc/self/fd/{number} 2>/dev/null && ls ..")]).await?;
                ensure!(tried.exit_code != 0, "descriptor {number} is a directory: {tried:?}");
            }
        }
        Ok(())
    });
}

/// containerd's CVE-2026-47262, CRI-O's CVE-2025-4437, c/storage's CVE-2024-9676: passwd and group of an image that are endless, a pipe, or
/// a link to something of the node.
#[test]
fn root_hostile_passwd_and_group_cost_no_memory_and_no_time() {
    with_world(async |world| {
        let huge = vec![b'x'; 48 << 20];
        for file in ["etc/passwd", "etc/group"] {
            let layers = [
                ("huge", LayerBuilder::new().file(file, 0o644, &huge)),
                ("pipe", LayerBuilder::new().fifo(file)),
                ("link", LayerBuilder::new().symlink(file, "/proc/1/environ")),
                ("device", LayerBuilder::new().symlink(file, "/dev/zero")),
                ("node", LayerBuilder::new().symlink(file, "../../../../../../../../../etc/shadow")),
            ];
            for (what, layer) in layers {
                let image = pull_with(world, &format!("{what}-{}", &file[4..]), layer, |image| image).await?;
                let pod = world.run_pod_named("hostile-users").await?;
                let memory = peak(world, &pod)?;
                for user in ["www-data", "nobody-knows-me"] {
                    let mut config = shell(user, &image, SLEEP);
                    linux(&mut config).1.run_as_username = user.into();
                    let outcome = world.run(&pod, &config).await;
                    // Without a word on groups the user is all there is to know.
                    ensure!(
                        outcome.is_err() || (file == "etc/group" && user == "www-data"),
                        "{file} as {what}: {user} is known"
                    );
                }
                let grown = peak(world, &pod)?.saturating_sub(memory);
                ensure!(grown < 16 << 10, "{file} as {what}: memory grew by {grown} KiB");
                world.remove_pod(&pod.id).await?;
            }
        }
        Ok(())
    });
}

/// Largest resident sizes of the daemon and of the pod's shim so far, in KiB.
fn peak(world: &World, pod: &Pod) -> Result<u64> {
    let shim = fs::read_dir("/proc")?.flatten().map(|entry| entry.path()).find(|process| {
        fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim() == "podwright-shim")
            && fs::read_to_string(process.join("cmdline")).is_ok_and(|line| line.contains(&pod.id))
    });
    let daemon = format!("/proc/{}", world.daemon.pid().context("the daemon does not run")?);
    let mut sum = 0;
    for process in [daemon.into(), shim.context("the pod has no shim")?] {
        let status = fs::read_to_string(process.join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        sum += line.trim().trim_end_matches(" kB").parse::<u64>()?;
    }
    Ok(sum)
}

/// containerd's CVE-2024-25621: directories of the runtime that anybody could walk through.
#[test]
fn root_nobody_reaches_anything_in_the_daemons_directories() {
    with_world(async |world| {
        let pod = world.run_pod_named("private").await?;
        world.run_shell(&pod, "main", "echo secret > /secret; sleep 1000").await?;
        let tops = [world.daemon.path("root"), world.daemon.path("state"), world.daemon.path("podwright.sock")];
        let list = world.daemon.host().run(&[
            "find",
            &tops[0].display().to_string(),
            &tops[1].display().to_string(),
            "-mindepth",
            "1",
        ])?;
        ensure!(list.lines().count() > 50 && list.contains("config.json") && list.contains("admin.sock"), "{list}");
        // The test's directory may be passed through by anybody, as /var/lib and /run.
        let script = r#"while read -r path; do if [ -e "$path" ] || [ -L "$path" ]; then echo "$path"; fi; done"#;
        let as_nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "sh", "-c"];
        let mut command = world.daemon.host().command("setpriv");
        command.args(as_nobody).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("starting setpriv")?;
        child.stdin.take().context("no stdin")?.write_all(list.as_bytes())?;
        let output = child.wait_with_output()?;
        let reached = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success() && reached.is_empty(), "{}: nobody reaches\n{reached}", output.status);
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        for (path, mode) in tops.iter().zip([0o700, 0o700, 0o660]) {
            let meta = fs::metadata(path)?;
            let found = (meta.permissions().mode() & 0o7777, meta.uid(), meta.gid());
            ensure!(found == (mode, 0, 0), "{}: {found:?}", path.display());
        }
        let mut connect = world.daemon.host().command("setpriv");
        connect.args(as_nobody).arg("test -w \"$0\"").arg(&tops[2]);
        ensure!(!connect.status()?.success(), "nobody may write to the socket");
        Ok(())
    });
}
