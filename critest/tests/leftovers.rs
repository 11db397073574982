//! `podwright check --repair`: one leak of each kind, made by hand, and two daemons on one host.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use podwright_critest::{Cri, World, host_port, shell, with_world};
use podwright_testutil::{Census, TestHost, program};
use rustix::fs::{XattrFlags, setxattr};
use tonic::transport::Endpoint;

/// For a second daemon to answer, and for processes to end.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const ATTRIBUTE: &str = "trusted.podwright.owner";

/// An id of the engine's form that it never gave: other tests make leaks in the same places at the same time.
fn nobody(number: u32) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock")?.as_nanos();
    Ok(format!("{now:032x}{:024x}{number:08x}", std::process::id()))
}

fn said(world: &World, words: &[&str]) -> Result<String> {
    let output = world.daemon.podwright(words)?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "podwright {words:?}: {}: {out}{err}", output.status);
    Ok(out.into_owned())
}

/// The mark of the daemon with this root directory.
fn mark(root: &Path) -> Result<String> {
    let meta = fs::metadata(root).with_context(|| root.display().to_string())?;
    Ok(format!("podwright {}:{}", meta.dev(), meta.ino()))
}

/// The cgroups of pods that bring none, in the first hierarchy.
fn cgroups() -> Result<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    if top.join("cgroup.controllers").exists() {
        return Ok(top.join("podwright"));
    }
    let found = ["pids", "memory", "cpu"].map(|name| top.join(name)).into_iter().find(|path| path.is_dir());
    Ok(found.context("no hierarchy")?.join("podwright"))
}

/// A shim that no daemon started.
fn shim(host: &TestHost, state: &Path, id: &str) -> Result<Child> {
    let socket = state.join(format!("shims/{id}.sock"));
    let listener = UnixListener::bind(&socket).with_context(|| socket.display().to_string())?;
    let script = r#"exec "$0" --sandbox "$1" 3<&0 4<"$2" </dev/null"#;
    let mut command = host.command("sh");
    command.args(["-c", script]).arg(program("podwright-shim")?).arg(id).arg(state.join("shims"));
    let child = command.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener))).spawn().context("starting a shim")?;
    // The command becomes sh, and that the shim: first its name, and a moment later its arguments.
    let read = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", child.id()));
    wait(|| Ok(read("comm")?.trim() == "podwright-shim" && read("cmdline")?.contains(id)))?;
    Ok(child)
}

/// Init of the test's process tree reaps it only when it is waited for.
fn reap(mut child: Child) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            bail!("process {} was not killed", child.id());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

fn wait(holds: impl Fn() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !holds()? {
        ensure!(Instant::now() < end, "it never comes to this");
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

/// A pinned network namespace of this id, with a mark beneath.
fn pin(host: &TestHost, id: &str, mark: &str) -> Result<PathBuf> {
    let path = PathBuf::from(format!("/run/netns/podwright-{id}"));
    let shown = path.display().to_string();
    host.run(&["sh", "-c", r#"printf %s "$1" >"$0" && unshare --net="$0" true"#, &shown, mark])?;
    Ok(path)
}

fn marked_cgroup(id: &str, mark: &str) -> Result<PathBuf> {
    let path = cgroups()?.join(id);
    fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    setxattr(&path, ATTRIBUTE, mark.as_bytes(), XattrFlags::empty()).context("marking a cgroup")?;
    Ok(path)
}

/// The daemon's part of the names of links, and its table, as its first pod with a host port shows them.
fn network_names(host: &TestHost) -> Result<(String, String)> {
    let links = host.run(&["ip", "-o", "link"])?;
    let link = links.split_whitespace().find(|word| word.starts_with("pw")).context("no link")?;
    let tables = host.run(&["nft", "list", "tables"])?;
    let table = tables.split_whitespace().find(|word| word.starts_with("podwright-")).context("no table")?;
    Ok((link.chars().take(7).collect(), table.to_owned()))
}

#[test]
fn root_each_kind_of_leak_is_named_and_removed_and_live_pods_keep_theirs() {
    with_world(async |world| {
        let mut config = world.pod("kept");
        config.port_mappings.push(host_port(38_111, 80));
        config.linux.get_or_insert_default().cgroup_parent = String::new();
        let (nobody, foreign) = (nobody(1)?, nobody(2)?);
        let pod = world.run_pod(config).await?;
        let id = world.run_shell(&pod, "main", "sleep 1000").await?;
        world.sh_until(&id, "grep -qx sleep /proc/[0-9]*/comm").await?;
        let before = world.daemon.census()?;
        let host = world.daemon.host();
        let (root, state) = (world.daemon.path("root"), world.daemon.path("state"));
        let own = mark(&root)?;
        let (prefix, table) = network_names(host)?;

        // Names, as check tells them, by kind.
        let mut leaks: Vec<(&str, String)> = Vec::new();
        let lease = root.join(format!("networks/embedded/{nobody}.json"));
        fs::write(&lease, "{}")?;
        leaks.push(("lease", nobody.clone()));
        let link = format!("{prefix}leaked");
        host.run(&["ip", "link", "add", &link, "type", "veth", "peer", "name", "leakpeer"])?;
        leaks.push(("link", link.clone()));
        let element = "{ tcp . 38112 : 10.255.255.1 . 80 }";
        host.run(&["nft", "add", "element", "inet", &table, "ports4", element])?;
        leaks.push(("nftables", table.clone()));
        let leaked_shim = shim(host, &state, &nobody)?;
        leaks.push(("process", leaked_shim.id().to_string()));
        leaks.push(("socket", state.join(format!("shims/{nobody}.sock")).display().to_string()));
        let cgroup = marked_cgroup(&nobody, &own)?;
        leaks.push(("cgroup", cgroup.display().to_string()));
        let netns = pin(host, &nobody, &own)?;
        leaks.push(("netns", netns.display().to_string()));
        for directory in ["sandboxes", "containers"].map(|name| root.join(name).join(&nobody)) {
            fs::create_dir_all(&directory)?;
            leaks.push(("directory", directory.display().to_string()));
        }
        let shm = state.join("shm").join(&nobody);
        fs::create_dir_all(&shm)?;
        host.run(&["mount", "-t", "tmpfs", "leak", &shm.display().to_string()])?;
        leaks.push(("mount", shm.display().to_string()));
        // Of another daemon, which runs or not.
        let others = [marked_cgroup(&foreign, "podwright 1:1")?, pin(host, &foreign, "podwright 1:1")?];

        let told = said(world, &["check"])?;
        for (kind, name) in &leaks {
            let is_it = |line: &&str| line.contains(&format!("leftover: {kind} ")) && line.contains(name.as_str());
            ensure!(
                told.lines().find(is_it).is_some_and(|line| line.contains("belongs to no record")),
                "{kind} {name}: {told}"
            );
        }
        let repaired = said(world, &["check", "--repair"])?;
        reap(leaked_shim)?;
        for (kind, name) in &leaks {
            let is_it = |line: &&str| line.contains(&format!("leftover: {kind} ")) && line.contains(name.as_str());
            ensure!(
                repaired.lines().find(is_it).is_some_and(|line| line.contains("was removed")),
                "{kind} {name}: {repaired}"
            );
        }
        for text in [&told, &repaired] {
            ensure!(!text.contains(&pod.id) && !text.contains(&id) && !text.contains(&foreign), "{text}");
        }
        let after = said(world, &["check"])?;
        ensure!(after.contains("nothing that belongs to no record"), "{after}");
        let host = world.daemon.host();
        ensure!(!cgroup.exists() && others[0].exists(), "cgroups");
        ensure!(host.run(&["ls", "/run/netns"])?.contains(&foreign), "another's namespace");
        host.run(&["sh", "-c", "umount \"$0\" && rm \"$0\"", &others[1].display().to_string()])?;
        fs::remove_dir(&others[0])?;

        ensure!(world.sh(&id, "echo well").await? == "well", "the pod that is known");
        let ports = world.daemon.host().run(&["nft", "list", "map", "inet", &table, "ports4"])?;
        ensure!(ports.contains("38111") && !ports.contains("38112"), "{ports}");
        world.comes_back_to(&before).await
    });
}

/// Records that are lost while the daemon is down. What the pods run is nobody's then, and ends: by the daemon's start where their shim
/// can be asked, and by a repair where its socket is lost, too.
#[test]
fn root_pods_without_records_end_with_all_that_they_run() {
    with_world(async |world| {
        let mut pods = Vec::new();
        for name in ["heard", "silent"] {
            // With a cgroup of kubelet's, which no repair looks into.
            let pod = world.run_pod_named(name).await?;
            let id = world.run_shell(&pod, "main", "sleep 1000 & sleep 1000").await?;
            let pid = world.pid(&id).await?;
            pods.push((pod, id, pid));
        }
        world.daemon.kill()?;
        let (root, state) = (world.daemon.path("root"), world.daemon.path("state"));
        for (pod, id, _) in &pods {
            fs::remove_dir_all(root.join("sandboxes").join(&pod.id))?;
            fs::remove_dir_all(root.join("containers").join(id))?;
        }
        let [(_, _, heard), (silent, _, lost)] = pods.as_slice() else { bail!("two pods") };
        fs::remove_file(state.join(format!("shims/{}.sock", silent.id)))?;
        // One that ended has no command line any more.
        let runs =
            |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("sleep"));
        ensure!(runs(heard) && runs(lost), "they run without a daemon");

        world.daemon.start_again()?;
        world.reconnect().await?;
        ensure!(world.pods().await?.is_empty(), "no pod is known");
        wait(|| Ok(!runs(heard)))?;
        ensure!(runs(lost), "nobody knows of it");
        let repaired = said(world, &["check", "--repair"])?;
        let is_it = |line: &str| line.contains("leftover: process ") && line.contains("was removed");
        ensure!(repaired.lines().any(is_it), "{repaired}");
        ensure!(!runs(lost), "its container runs on: {repaired}");
        let after = said(world, &["check"])?;
        ensure!(after.contains("nothing that belongs to no record"), "{after}");
        // As kubelet does it: nothing is in them any more.
        let rmdir = r#"find /sys/fs/cgroup -depth -type d -path "*/$0/*" -exec rmdir {} \; 2>&1"#;
        let host = world.daemon.host();
        host.run(&["sh", "-c", &format!("{rmdir} || true"), host.cgroup_parent().trim_start_matches('/')])?;
        Ok(())
    });
}

/// Another daemon in the same host, with directories of its own.
struct Second {
    process: Child,
    dir: PathBuf,
}

impl Second {
    async fn start(host: &TestHost, image_hosts: &Path) -> Result<(Self, Cri)> {
        let dir = host.dir().join("second");
        let own = [dir.join("root"), dir.join("state")];
        Self::launch(host, image_hosts, host.command(program("podwrightd")?), &own).await
    }

    /// In a mount namespace of its own, as in a container, where it has a directory for sockets at the path that the first has here.
    /// (The root is elsewhere: by its path daemons tell their links from each other's, and these two share a network.)
    async fn start_in_mount_namespace(world: &World) -> Result<(Self, Cri)> {
        let own = [world.daemon.host().dir().join("second/root"), world.daemon.path("state")];
        let script = r#"set -e; mkdir -p "$0"; mount -t tmpfs none "$1"; shift; exec "$@""#;
        let mut command = world.daemon.host().command("unshare");
        command.args(["-m", "sh", "-c", script]).args(&own).arg(program("podwrightd")?);
        Self::launch(world.daemon.host(), &world.daemon.path("certs.d"), command, &own).await
    }

    async fn launch(
        host: &TestHost,
        image_hosts: &Path,
        mut command: Command,
        [root, state]: &[PathBuf; 2],
    ) -> Result<(Self, Cri)> {
        let dir = host.dir().join("second");
        fs::create_dir_all(&dir)?;
        let config = dir.join("config.toml");
        let text = "[network]\nmode = \"embedded\"\n[cgroup]\ndriver = \"cgroupfs\"\n[nri]\nsocket = ";
        let nri = dir.join("nri.sock");
        let hosts = image_hosts.display();
        fs::write(&config, format!("{text}\"{}\"\n[images]\nhosts_dir = \"{hosts}\"\n", nri.display()))?;
        let log = fs::File::create(dir.join("log"))?;
        let listen = format!("unix://{}", dir.join("podwright.sock").display());
        command.arg("--config").arg(&config).arg("--root").arg(root).arg("--state").arg(state);
        command.arg("--listen").arg(&listen).arg("--shim").arg(program("podwright-shim")?);
        let process = command.stdout(log.try_clone()?).stderr(log).spawn().context("starting a second daemon")?;
        let second = Self { process, dir };
        let end = Instant::now() + PATIENCE;
        loop {
            match Endpoint::from_shared(listen.clone())?.connect().await {
                Ok(channel) => {
                    // Its pods bring no cgroup, so that theirs lie beside those of the first.
                    let cri = Cri::over(channel, second.dir.join("logs"), String::new());
                    return Ok((second, cri));
                }
                Err(_) if Instant::now() < end => tokio::time::sleep(LOOK_AGAIN).await,
                Err(error) => return Err(error).context(fs::read_to_string(second.dir.join("log"))?),
            }
        }
    }
}

impl Second {
    /// Ends it when its pods have left nothing: links go some time after their namespaces, and then its reaper has work.
    async fn end(self, world: &World, before: &Census) -> Result<()> {
        world.comes_back_to(before).await.context("what the second's pods had is there still")
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A path says nothing of what it is elsewhere.
#[test]
fn root_check_repairs_nothing_of_a_daemon_with_the_same_directories_elsewhere() {
    with_world(async |world| {
        let (second, mut calls) = Second::start_in_mount_namespace(world).await?;
        let image = world.image.clone();
        calls.pull(&image).await?;
        let before = world.daemon.census()?;
        let pod = calls.run_pod_named("second").await?;
        let id = calls.run(&pod, &shell("main", &image, "sleep 1000")).await?;

        let repaired = said(world, &["check", "--repair"])?;
        ensure!(!repaired.contains(&pod.id) && !repaired.contains(&id), "{repaired}");
        ensure!(calls.sh(&id, "echo well").await? == "well", "the second's pod");
        calls.remove_pod(&pod.id).await?;
        second.end(world, &before).await
    });
}

#[test]
fn root_check_repairs_nothing_of_another_daemon() {
    with_world(async |world| {
        let host = world.daemon.host();
        let (second, mut calls) = Second::start(host, &world.daemon.path("certs.d")).await?;
        let image = world.image.clone();
        calls.pull(&image).await?;
        let before = world.daemon.census()?;
        let mut config = calls.pod("second");
        config.port_mappings.push(host_port(38_113, 80));
        let pod = calls.run_pod(config).await?;
        let id = calls.run(&pod, &shell("main", &image, "sleep 1000")).await?;
        let address = calls.pod_ip(&pod.id).await?;
        let nobody = nobody(3)?;
        // Beside that, the first has leaks of its own, in the same places.
        let own = mark(&world.daemon.path("root"))?;
        let cgroup = marked_cgroup(&nobody, &own)?;
        pin(host, &nobody, &own)?;
        let leaked_shim = shim(host, &world.daemon.path("state"), &nobody)?;

        let repaired = said(world, &["check", "--repair"])?;
        reap(leaked_shim)?;
        for kind in ["process", "netns", "cgroup"] {
            let is_it = |line: &&str| line.contains(&format!("leftover: {kind} ")) && line.contains("was removed");
            ensure!(repaired.lines().any(|line| is_it(&line)), "{kind}: {repaired}");
        }
        ensure!(!repaired.contains(&pod.id) && !repaired.contains(&id), "{repaired}");
        ensure!(!cgroup.exists(), "the leak is there");
        ensure!(cgroups()?.join(&pod.id).exists(), "the cgroup of the second's pod is gone");
        ensure!(calls.sh(&id, "echo well").await? == "well", "the second's pod");
        let host = world.daemon.host();
        ensure!(host.run(&["ip", "route", "get", &address])?.contains("dev pw"), "the second's link");
        ensure!(host.run(&["nft", "list", "ruleset"])?.contains("38113"), "the second's rules");
        let mut own = host.command(program("podwright")?);
        own.arg("--state").arg(second.dir.join("state")).arg("--root").arg(second.dir.join("root")).arg("check");
        let told = String::from_utf8_lossy(&own.output()?.stdout).into_owned();
        ensure!(told.contains("nothing that belongs to no record"), "{told}");
        calls.remove_pod(&pod.id).await?;
        second.end(world, &before).await
    });
}
