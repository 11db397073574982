//! A node: a world (host, daemon, registry, image) and a kubelet in it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use podwright_critest::calls::Call;
use podwright_critest::{World, WorldBuilder, must};
use podwright_testutil::CgroupDriver;
use serde_json::{Value, json};

use crate::record::Recorder;
use crate::status::PodStatus;
use crate::talk;

/// Names the binary.
const KUBELET: &str = "PODWRIGHT_KUBELET";
/// Time for what a kubelet does by itself; some of it happens once a minute.
pub(crate) const WITHIN: Duration = Duration::from_secs(180);
/// How often a state is looked at that nothing announces.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Lines of its log that a failed test shows.
const SHOWN_LOG_LINES: usize = 60;
/// The node's name; static pods have it in theirs.
pub(crate) const NAME: &str = "node1";
/// Where it tells without TLS.
pub(crate) const READ_ONLY: &str = "127.0.0.1:10255";

/// A network card and a way out, without which kubelet finds no address; the cgroup in which it makes pods'.
const PREPARE: &str = r#"
set -e
ip link add nic0 type veth peer name nic1
ip link set nic1 up
ip addr add 10.9.0.1/24 dev nic0
ip link set nic0 up
ip route add default via 10.9.0.254 dev nic0
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir /sys/fs/cgroup/$0
else
    for hierarchy in /sys/fs/cgroup/*/; do
        test -e $hierarchy/cgroup.procs || continue
        mkdir -p $hierarchy/$0
    done
    for file in cpuset.cpus cpuset.mems; do
        cat /sys/fs/cgroup/cpuset/$file >/sys/fs/cgroup/cpuset/$0/$file
    done
fi
"#;

/// A running node. The kubelet ends with this value.
pub(crate) struct Node {
    process: Option<Child>,
    program: PathBuf,
    recorder: Option<Recorder>,
    /// Everything else of it.
    pub(crate) world: World,
}

/// Runs a test on a node whose kubelet has these keys in its configuration beside the usual ones.
pub(crate) fn with_node(config: Value, test: impl AsyncFnOnce(&mut Node) -> Result<()>) {
    with_any_node(config, false, test);
}

/// The same with a recorder between kubelet and daemon.
pub(crate) fn with_recorded_node(config: Value, test: impl AsyncFnOnce(&mut Node) -> Result<()>) {
    with_any_node(config, true, test);
}

fn with_any_node(config: Value, recorded: bool, test: impl AsyncFnOnce(&mut Node) -> Result<()>) {
    let Some(program) = std::env::var_os(KUBELET).map(PathBuf::from) else {
        println!("{KUBELET} is not set: nothing was tried; see docs/kubelet.md");
        return;
    };
    if CgroupDriver::from_env() == CgroupDriver::Systemd {
        println!(
            "the kubelet of these tests makes cgroups itself, and this host's are made by systemd: nothing was tried"
        );
        return;
    }
    let runtime =
        must(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("tokio"));
    runtime.block_on(async {
        let mut node = must(Node::start(program, &config, recorded).await);
        // Here and not outside: the node is dropped while this panics, and shows the logs.
        must(test(&mut node).await);
        must(node.end().await.context("after the test"));
    });
}

impl Node {
    async fn start(program: PathBuf, config: &Value, recorded: bool) -> Result<Self> {
        let world = WorldBuilder::default().start().await?;
        let host = world.daemon.host();
        host.run(&["sh", "-c", PREPARE, host.cgroup_parent().trim_start_matches('/')])?;
        for name in ["manifests", "pki", "kubelet-plugins", "logs", "volumes"] {
            fs::create_dir_all(host.dir().join(name))?;
        }
        let mut all = usual(&world);
        for (key, value) in config.as_object().context("a configuration is an object")? {
            all[key] = value.clone();
        }
        let mut recorder = None;
        if recorded {
            let socket = host.dir().join("recorder.sock");
            recorder = Some(Recorder::start(&world, &socket).await?);
            all["containerRuntimeEndpoint"] = json!(format!("unix://{}", socket.display()));
        }
        fs::write(host.dir().join("kubelet.json"), all.to_string())?;
        let mut node = Self { process: None, program, recorder, world };
        node.start_kubelet().await?;
        Ok(node)
    }

    /// Starts the kubelet and waits until it says that it is well.
    pub(crate) async fn start_kubelet(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the kubelet runs");
        let host = self.world.daemon.host();
        let log = File::options().create(true).append(true).open(host.dir().join("kubelet.log"))?;
        let child = host
            .command(&self.program)
            .arg("--config")
            .arg(host.dir().join("kubelet.json"))
            .arg("--root-dir")
            .arg(host.dir().join("kubelet"))
            .arg("--cert-dir")
            .arg(host.dir().join("pki"))
            .args(["--hostname-override", NAME, "--node-ip", "10.9.0.1", "-v=2"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.program.display()))?;
        self.process = Some(child);
        let end = Instant::now() + WITHIN;
        loop {
            if self.get("127.0.0.1:10248", "/healthz").is_ok_and(|text| text == "ok")
                && self.get(READ_ONLY, "/pods").is_ok()
            {
                return Ok(());
            }
            if let Some(status) = self.process.as_mut().context("no process")?.try_wait()? {
                bail!("the kubelet ended with {status}; its log:\n{}", self.log());
            }
            ensure!(Instant::now() < end, "the kubelet did not get well; its log:\n{}", self.log());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// What the recorder saw.
    pub(crate) fn recorded(&self) -> Result<Vec<Call>> {
        Ok(self.recorder.as_ref().context("this node has no recorder")?.calls())
    }

    /// Kills the kubelet (signal 9). Pods go on.
    pub(crate) fn kill_kubelet(&mut self) -> Result<()> {
        let mut child = self.process.take().context("the kubelet does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// The body of a plain answer of the kubelet.
    pub(crate) fn get(&self, address: &str, path: &str) -> Result<String> {
        talk::get(self.world.daemon.host(), address, path)
    }

    /// Hands a pod to the kubelet: `spec` with its name. The file appears whole.
    pub(crate) fn add(&self, name: &str, spec: &Value) -> Result<()> {
        self.add_with(name, &json!({}), spec)
    }

    /// The same, with more in its metadata.
    pub(crate) fn add_with(&self, name: &str, metadata: &Value, spec: &Value) -> Result<()> {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["namespace"] = json!("default");
        let new = self.world.daemon.path(&format!(".{name}.new"));
        fs::write(&new, pod.to_string())?;
        fs::rename(new, self.manifest(name)).context("handing a pod to the kubelet")
    }

    /// Takes a pod away.
    pub(crate) fn take(&self, name: &str) -> Result<()> {
        fs::remove_file(self.manifest(name)).context("taking a pod away")
    }

    fn manifest(&self, name: &str) -> PathBuf {
        self.world.daemon.path("manifests").join(format!("{name}.json"))
    }

    /// What the kubelet says of a pod now.
    pub(crate) fn pod(&self, name: &str) -> Result<Option<PodStatus>> {
        let pods: Value = serde_json::from_str(&self.get(READ_ONLY, "/pods")?)?;
        let named = format!("{name}-{NAME}");
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        Ok(pods.into_iter().find(|pod| pod["metadata"]["name"] == json!(named)).map(PodStatus))
    }

    /// Waits until the kubelet says of a pod what `wanted` looks for.
    pub(crate) async fn until(&self, name: &str, what: &str, wanted: impl Fn(&PodStatus) -> bool) -> Result<PodStatus> {
        let mut last = None;
        let found = self.settled(what, || {
            last = self.pod(name)?;
            Ok(last.clone().filter(|pod| wanted(pod)))
        });
        let found = found.await;
        found.with_context(|| {
            format!("pod {name} was last: {}", last.map_or_else(String::new, |pod| pod.0["status"].to_string()))
        })
    }

    /// Waits until all containers of a pod are ready.
    pub(crate) async fn ready(&self, name: &str) -> Result<PodStatus> {
        self.until(name, "ready", PodStatus::is_ready).await
    }

    /// Waits until `look` finds something.
    pub(crate) async fn settled<T>(&self, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let end = Instant::now() + WITHIN;
        loop {
            let found = look();
            match found {
                Ok(Some(found)) => return Ok(found),
                Ok(None) | Err(_) if Instant::now() < end => tokio::time::sleep(LOOK_AGAIN).await,
                Ok(None) => bail!("not within {} s: {what}", WITHIN.as_secs()),
                Err(error) => return Err(error).with_context(|| format!("waiting for: {what}")),
            }
        }
    }

    /// A container of busybox with a shell script.
    pub(crate) fn shell(&self, name: &str, script: &str) -> Value {
        json!({"name": name, "image": self.world.image, "command": ["sh", "-c", script]})
    }

    /// Runs a script in a container of a pod, by the runtime.
    pub(crate) async fn sh(&mut self, pod: &PodStatus, container: &str, script: &str) -> Result<String> {
        let id = pod.container(container).id().context("the container has no id")?;
        self.world.sh(&id, script).await
    }

    fn log(&self) -> String {
        let text = fs::read_to_string(self.world.daemon.path("kubelet.log")).unwrap_or_default();
        // The others tell what it does all the time.
        let tells = |line: &&str| line.starts_with(['E', 'W']) || line.contains("Event occurred");
        let lines: Vec<&str> = text.lines().filter(tells).filter(|line| !line.contains("NodeHas")).collect();
        lines.get(lines.len().saturating_sub(SHOWN_LOG_LINES)..).unwrap_or_default().join("\n")
    }

    /// Takes all pods away and looks that the kubelet could end them.
    async fn end(&mut self) -> Result<()> {
        if self.process.is_none() {
            return Ok(());
        }
        for entry in fs::read_dir(self.world.daemon.path("manifests"))? {
            fs::remove_file(entry?.path())?;
        }
        let end = Instant::now() + WITHIN;
        loop {
            let left = self.world.daemon.crictl(&["pods", "-q", "--state", "ready"])?;
            if left.is_empty() {
                break;
            }
            ensure!(Instant::now() < end, "pods were not ended: {left}");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        self.kill_kubelet()?;
        for pod in self.world.pods().await? {
            self.world.remove_pod(&pod.id).await?;
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the kubelet's log\n{}\n---", self.log());
        }
        if self.process.is_some() {
            let _ = self.kill_kubelet();
        }
    }
}

fn usual(world: &World) -> Value {
    let dir = world.daemon.path("");
    let at = |name: &str| dir.join(name).display().to_string();
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": world.daemon.endpoint(),
        "failCgroupV1": false,
        "cgroupRoot": world.daemon.host().cgroup_parent(),
        "enforceNodeAllocatable": [],
        "staticPodPath": at("manifests"),
        "fileCheckFrequency": "1s",
        "failSwapOn": false,
        "address": "127.0.0.1",
        "readOnlyPort": 10255,
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "podLogsDir": at("logs"),
        "volumePluginDir": at("kubelet-plugins"),
        "resolvConf": "/etc/resolv.conf",
        "evictionHard": {"memory.available": "10Mi"},
        "crashLoopBackOff": {"maxContainerRestartPeriod": "2s"},
    })
}
