//! crictl against the daemon: every command that issue 2 names, on each network.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use podwright_critest::must;
use podwright_testutil::{Daemon, DaemonBuilder, Registry, TestHost, base};
use serde_json::{Value, json};

/// Debian's plugins, where the package is installed.
const DEBIAN_PLUGINS: &str = "/usr/lib/cni";

#[test]
fn root_crictl_on_the_embedded_network() {
    with_daemon(Daemon::builder(), |daemon, registry| {
        images(daemon, registry)?;
        pod_life(daemon, registry, "10.")
    });
}

#[test]
fn root_crictl_on_the_bridge_chain() {
    with_daemon(Daemon::builder().bridge_chain("1.1.0"), |daemon, registry| pod_life(daemon, registry, "10.22."));
}

#[test]
fn root_crictl_on_the_plugins_of_debian() {
    let builder = Daemon::builder().bridge_chain("0.4.0").cni_bin_dir(Path::new(DEBIAN_PLUGINS));
    with_daemon(builder, |daemon, registry| pod_life(daemon, registry, "10.22."));
}

fn with_daemon(builder: DaemonBuilder, test: impl FnOnce(&Daemon, &Registry) -> Result<()>) {
    let host = must(TestHost::new());
    let registry = must(Registry::start_in(&host));
    let daemon = must(builder.start_in(host));
    must(daemon.trust(&registry));
    // While the daemon lives, so that it shows its log.
    must(test(&daemon, &registry));
}

fn json_of(daemon: &Daemon, words: &[&str]) -> Result<Value> {
    serde_json::from_str(&daemon.crictl(words)?).with_context(|| format!("crictl {words:?} printed no JSON"))
}

fn at<'a>(value: &'a Value, pointer: &str) -> Result<&'a Value> {
    value.pointer(pointer).with_context(|| format!("no {pointer} in {value}"))
}

fn text(value: &Value, pointer: &str) -> Result<String> {
    Ok(at(value, pointer)?.as_str().with_context(|| format!("{pointer} is no text"))?.to_owned())
}

/// pull, images, inspecti, rmi, imagefsinfo, info, version.
fn images(daemon: &Daemon, registry: &Registry) -> Result<()> {
    let version = daemon.crictl(&["version"])?;
    ensure!(version.contains("podwright") && version.contains("RuntimeApiVersion:  v1"), "{version}");

    let image = base::variant("crictl", |image| image.set("User", json!("1002")).set("Labels", json!({"a": "b"})))?;
    let reference = registry.push(&image, "team/app", "v1")?;
    registry.push(&image, "team/app", "v2")?;
    let pulled = daemon.crictl(&["pull", &reference])?;
    ensure!(pulled.contains("Image is up to date for"), "{pulled}");
    daemon.crictl(&["pull", &registry.reference("team/app", "v2")])?;

    let listed = json_of(daemon, &["images", "-o", "json"])?;
    ensure!(at(&listed, "/images")?.as_array().map(Vec::len) == Some(1), "{listed}");
    ensure!(text(&listed, "/images/0/id")? == image.id(), "{listed}");
    ensure!(at(&listed, "/images/0/repoTags")?.as_array().map(Vec::len) == Some(2), "{listed}");
    ensure!(text(&listed, "/images/0/repoDigests/0")?.ends_with(&image.manifest.digest), "{listed}");

    let seen = json_of(daemon, &["inspecti", &reference])?;
    ensure!(text(&seen, "/status/id")? == image.id(), "{seen}");
    ensure!(text(&seen, "/status/uid/value")? == "1002", "{seen}");
    ensure!(text(&seen, "/info/imageSpec/config/Labels/a")? == "b", "{seen}");
    let prefix = image.id().trim_start_matches("sha256:").get(..13).context("a short id")?;
    ensure!(text(&json_of(daemon, &["inspecti", prefix])?, "/status/id")? == image.id(), "by a prefix of the id");
    let by_digest = format!("{}/team/app@{}", registry.address(), image.manifest.digest);
    daemon.crictl(&["inspecti", &by_digest])?;

    let usage = json_of(daemon, &["imagefsinfo", "-o", "json"])?;
    let used: u64 = text(&usage, "/status/imageFilesystems/0/usedBytes/value")?.parse()?;
    ensure!(used > 500_000, "busybox takes {used} bytes only");
    let mountpoint = text(&usage, "/status/imageFilesystems/0/fsId/mountpoint")?;
    ensure!(Path::new(&mountpoint).exists(), "{mountpoint} can not be statted");

    daemon.crictl(&["rmi", &reference])?;
    let listed = json_of(daemon, &["images", "-o", "json"])?;
    ensure!(at(&listed, "/images")?.as_array().is_some_and(Vec::is_empty), "RemoveImage drops every tag: {listed}");

    let info = json_of(daemon, &["info"])?;
    let conditions = at(&info, "/status/conditions")?.as_array().cloned().unwrap_or_default();
    ensure!(conditions.len() >= 2 && conditions.iter().all(|c| c.get("status") == Some(&json!(true))), "{info}");
    Ok(())
}

/// runp, create, start, exec -s, logs, inspect, inspectp, ps, pods, stop, rm, stopp, rmp.
fn pod_life(daemon: &Daemon, registry: &Registry, subnet: &str) -> Result<()> {
    let image = registry.push(&base::busybox()?, "busybox", "1")?;
    daemon.crictl(&["pull", &image])?;
    let (pod_file, container_file) = write_configs(daemon, &image)?;

    let pod = daemon.crictl(&["runp", &pod_file])?.trim().to_owned();
    ensure!(pod.len() == 64, "an id of 64 digits, not {pod}");
    let seen = json_of(daemon, &["inspectp", &pod])?;
    ensure!(text(&seen, "/status/state")? == "SANDBOX_READY", "{seen}");
    let address = text(&seen, "/status/network/ip")?;
    ensure!(address.starts_with(subnet), "{address} is not in {subnet}");
    ensure!(at(&seen, "/info/pid")?.as_i64().is_some_and(|pid| pid > 0), "{seen}");
    ensure!(text(&seen, "/status/labels/app")? == "web", "{seen}");

    let container = daemon.crictl(&["create", &pod, &container_file, &pod_file])?.trim().to_owned();
    ensure!(daemon.crictl(&["ps", "-q"])?.trim().is_empty(), "a created container does not run");
    ensure!(daemon.crictl(&["ps", "-a", "-q"])?.trim() == container, "but it is there");
    daemon.crictl(&["start", &container])?;
    ensure!(daemon.crictl(&["ps", "-q", "--no-trunc"])?.trim() == container, "the container runs");

    ensure!(daemon.crictl(&["exec", "-s", &container, "hostname"])?.trim() == "crictl-pod", "the host name");
    let failed = daemon.crictl_output(&["exec", "-s", &container, "sh", "-c", "echo oops >&2; exit 3"])?;
    let stderr = String::from_utf8_lossy(&failed.stderr);
    ensure!(!failed.status.success() && stderr.contains("oops") && stderr.contains('3'), "{stderr}");
    let own = daemon.crictl(&["exec", "-s", &container, "ip", "-4", "address", "show", "eth0"])?;
    ensure!(own.contains(&address), "{address} is not what the pod has: {own}");

    ensure!(daemon.crictl(&["logs", &container])?.contains("hello from crictl"), "the log");
    let seen = json_of(daemon, &["inspect", &container])?;
    ensure!(text(&seen, "/status/state")? == "CONTAINER_RUNNING", "{seen}");
    ensure!(text(&seen, "/status/image/image")? == image, "{seen}");
    ensure!(text(&seen, "/info/sandboxID")? == pod, "{seen}");
    ensure!(at(&seen, "/info/pid")?.as_i64().is_some_and(|pid| pid > 0), "{seen}");
    ensure!(at(&seen, "/info/runtimeSpec/process/args")?.as_array().map(Vec::len) == Some(3), "{seen}");

    ensure!(daemon.crictl(&["pods", "--name", "crictl-pod", "-q", "--no-trunc"])?.trim() == pod, "found by name");
    ensure!(daemon.crictl(&["pods", "--label", "app=other", "-q"])?.trim().is_empty(), "not found by another label");

    daemon.crictl(&["stop", "--timeout", "5", &container])?;
    let seen = json_of(daemon, &["inspect", &container])?;
    ensure!(text(&seen, "/status/state")? == "CONTAINER_EXITED", "{seen}");
    ensure!(at(&seen, "/status/exitCode")?.as_i64() == Some(7), "the trap's exit code: {seen}");
    daemon.crictl(&["rm", &container])?;
    daemon.crictl(&["stopp", &pod])?;
    ensure!(text(&json_of(daemon, &["inspectp", &pod])?, "/status/state")? == "SANDBOX_NOTREADY", "stopped");
    daemon.crictl(&["rmp", &pod])?;
    ensure!(daemon.crictl(&["pods", "-q"])?.trim().is_empty(), "no pod is left");
    ensure!(daemon.crictl_output(&["inspectp", &pod])?.status.code() != Some(0), "a removed pod is not found");
    Ok(())
}

fn write_configs(daemon: &Daemon, image: &str) -> Result<(String, String)> {
    let pod = json!({
        "metadata": {"name": "crictl-pod", "namespace": "default", "uid": "u1", "attempt": 0},
        "hostname": "crictl-pod",
        "log_directory": daemon.path("logs/crictl-pod"),
        "labels": {"app": "web"},
        "linux": {"cgroup_parent": daemon.host().cgroup_parent()},
    });
    let script = "trap 'exit 7' TERM; echo hello from crictl; while :; do sleep 0.1; done";
    let container = json!({
        "metadata": {"name": "main", "attempt": 0},
        "image": {"image": image},
        "command": ["sh", "-c", script],
        "log_path": "main.log",
        "linux": {},
    });
    let (pod_path, container_path) = (daemon.path("pod.json"), daemon.path("container.json"));
    fs::write(&pod_path, pod.to_string())?;
    fs::write(&container_path, container.to_string())?;
    Ok((pod_path.display().to_string(), container_path.display().to_string()))
}
