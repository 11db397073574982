//! One pod of its own for each test: directories, an image of busybox, a shim, cgroups. All of it is gone after the test.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use podwright_cgroups::Hierarchy;
use podwright_shim_api::client::{Client, ClientError, StreamFds, no_placing};
use podwright_shim_api::launcher::{Launcher, RunningShim};
use podwright_shim_api::{
    CgroupPlacement, ContainerEnd, CreatePod, Event, Exec, ExecEnd, NamespaceChoice, NamespacePlan, PidChoice, PidPlan,
    ProcessEnd, Seccomp, StartContainer, Started,
};
use podwright_types::SandboxId;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Longer than anything takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

const APPLETS: [&str; 20] = [
    "sh", "cat", "sleep", "echo", "head", "dd", "yes", "seq", "stty", "true", "false", "kill", "tail", "printf", "ls",
    "ps", "id", "touch", "tr", "md5sum",
];

/// A pod and all around it.
pub(crate) struct World {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) launcher: Launcher,
    pub(crate) sandbox: SandboxId,
    pub(crate) client: Client,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) cgroup: String,
    ended: Vec<ContainerEnd>,
    execs_ended: Vec<ExecEnd>,
}

fn shim_binary() -> PathBuf {
    std::env::var_os("PODWRIGHT_TEST_SHIM").map_or_else(|| env!("CARGO_BIN_EXE_podwright-shim").into(), PathBuf::from)
}

impl World {
    /// A shim without a pod.
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sandbox = SandboxId::from_random(podwright_sys::random_bytes().unwrap());
        let cgroup = format!("/podwright-test-{}", &sandbox.as_str()[..16]);
        make_image(&directory.path().join("layer"));
        let launcher = Launcher::new(&shim_binary(), directory.path()).unwrap();
        let RunningShim { client, events } = launcher.launch(&sandbox, Some(&format!("{cgroup}/shim"))).await.unwrap();
        Self { directory, launcher, sandbox, client, events, cgroup, ended: Vec::new(), execs_ended: Vec::new() }
    }

    /// A shim with namespaces of its pod.
    pub(crate) async fn with_pod() -> Self {
        let world = Self::new().await;
        world.client.create_pod(pod(), None, no_placing).await.unwrap();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn log(&self, container: &str) -> PathBuf {
        self.path(&format!("logs/{container}.log"))
    }

    /// Log writers of the shim.
    pub(crate) async fn writers(&self) -> Vec<i32> {
        let shim = self.client.state().await.unwrap().0.pid;
        let children = fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).unwrap();
        let is_writer =
            |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "podwright-log\n");
        children.split_whitespace().map(|pid| pid.parse().unwrap()).filter(is_writer).collect()
    }

    /// A request to run something in a container of its own pid namespace.
    pub(crate) fn request(&self, container: &str) -> StartContainer {
        fs::create_dir_all(self.path(&format!("rw-{container}"))).unwrap();
        StartContainer {
            container: container.into(),
            layers: vec![bytes(&self.path("layer"))],
            writable: Some(bytes(&self.path(&format!("rw-{container}")))),
            log_path: Some(bytes(&self.log(container))),
            cgroup: Some(CgroupPlacement { path: format!("{}/{container}", self.cgroup), deferred: false }),
            namespaces: Some(NamespacePlan {
                network: NamespaceChoice::Pod.into(),
                ipc: NamespaceChoice::Pod.into(),
                uts: NamespaceChoice::Pod.into(),
                pid: Some(PidPlan { choice: PidChoice::Own.into(), target: String::new() }),
                user: NamespaceChoice::Host.into(),
                cgroup: NamespaceChoice::New.into(),
            }),
            seccomp: Some(Seccomp::Unconfined(true)),
            ..StartContainer::default()
        }
    }

    pub(crate) async fn start(&self, request: StartContainer, spec: &Value) -> Result<Started, ClientError> {
        self.client.start_container(request, &spec.to_string(), no_placing).await
    }

    /// Runs a shell script in a new container.
    pub(crate) async fn run(&self, container: &str, script: &str) -> Started {
        self.start(self.request(container), &shell(script)).await.unwrap()
    }

    /// Waits for the end of a container.
    pub(crate) async fn end_of(&mut self, container: &str) -> ProcessEnd {
        loop {
            if let Some(at) = self.ended.iter().position(|end| end.container == container) {
                return self.ended.swap_remove(at).end.unwrap();
            }
            self.take_event().await;
        }
    }

    /// Waits for the end of an exec.
    pub(crate) async fn end_of_exec(&mut self, exec: &str) -> ProcessEnd {
        loop {
            if let Some(at) = self.execs_ended.iter().position(|end| end.exec == exec) {
                return self.execs_ended.swap_remove(at).end.unwrap();
            }
            self.take_event().await;
        }
    }

    async fn take_event(&mut self) {
        match tokio::time::timeout(LONG, self.events.recv()).await.expect("an event comes in time") {
            Some(Event::ContainerExited(end)) => self.ended.push(end),
            Some(Event::ExecExited(end)) => self.execs_ended.push(end),
            Some(Event::PauseExited) => (),
            Some(Event::Gone) | None => panic!("the shim is gone"),
        }
    }

    pub(crate) async fn exec(
        &self,
        container: &str,
        exec: &str,
        process: &Value,
        streams: StreamFds,
    ) -> Result<i32, ClientError> {
        let request = Exec {
            container: container.into(),
            exec: exec.into(),
            seccomp: Some(Seccomp::Unconfined(true)),
            ..Exec::default()
        };
        self.client.exec(request, &process.to_string(), streams).await
    }

    /// The texts of a container's log.
    pub(crate) fn log_texts(&self, container: &str) -> Vec<String> {
        let log = fs::read(self.log(container)).unwrap();
        String::from_utf8_lossy(&log).lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    /// Ends the pod and looks for what it left.
    pub(crate) async fn finish(self) {
        let pid = self.client.hello().pid;
        self.client.shutdown().await.unwrap();
        assert!(!self.launcher.socket_path(&self.sandbox).exists(), "the socket is left");
        assert_eq!(fs::read_dir(self.path("shims")).unwrap().count(), 0, "something is left beside the socket");
        let hierarchy = Hierarchy::detect().unwrap();
        wait_for("the shim ends", || !Path::new(&format!("/proc/{pid}/status")).exists()).await;
        let parent = hierarchy.cgroup(&self.cgroup).unwrap();
        // A log writer that was killed is gone a moment after the shim.
        wait_for("no process is left", || parent.processes().unwrap().is_empty()).await;
        hierarchy.cgroup(&format!("{}/shim", self.cgroup)).unwrap().remove().unwrap();
        for top in ["memory", "pids", "freezer"].iter().filter_map(|controller| parent.directory(controller)) {
            let below = fs::read_dir(&top).unwrap().filter_map(Result::ok).filter(|entry| entry.path().is_dir());
            assert_eq!(below.map(|entry| entry.file_name()).collect::<Vec<_>>(), Vec::<std::ffi::OsString>::new());
        }
        parent.remove().unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.directory.path().to_str().unwrap()), "a mount is left");
    }
}

impl Drop for World {
    /// For tests that failed; after `finish` there is nothing to do.
    fn drop(&mut self) {
        let cgroup = Hierarchy::detect().and_then(|hierarchy| hierarchy.cgroup(&self.cgroup)).unwrap();
        if cgroup.exists() {
            let _ = cgroup.kill_all();
            std::thread::sleep(Duration::from_millis(200));
            let _ = cgroup.remove();
        }
    }
}

/// Waits for something that gives no event.
pub(crate) async fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + LONG;
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "{what}: not within {LONG:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Its own network, IPC and UTS namespace.
pub(crate) fn pod() -> CreatePod {
    CreatePod { hostname: Some("pod".into()), network: true, ipc: true, ..CreatePod::default() }
}

/// A pipe, read end first.
pub(crate) fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
}

/// Reads to the end, off the runtime's thread.
pub(crate) async fn read_all(fd: OwnedFd) -> Vec<u8> {
    tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        std::io::Read::read_to_end(&mut fs::File::from(fd), &mut all).unwrap();
        all
    })
    .await
    .unwrap()
}

/// Reads until a text has come.
pub(crate) async fn read_until(fd: &OwnedFd, text: &'static str) -> String {
    let mut file = fs::File::from(fd.try_clone().unwrap());
    tokio::task::spawn_blocking(move || {
        let (mut all, mut buffer) = (String::new(), [0; 1024]);
        while !all.contains(text) {
            let length = std::io::Read::read(&mut file, &mut buffer).unwrap();
            assert_ne!(length, 0, "ended after {all:?}");
            all.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        all
    })
    .await
    .unwrap()
}

pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_encoded_bytes().to_vec()
}

fn make_image(layer: &Path) {
    for directory in ["bin", "proc", "dev", "sys", "tmp", "etc"] {
        fs::create_dir_all(layer.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
    APPLETS.iter().for_each(|applet| symlink("busybox", layer.join("bin").join(applet)).unwrap());
}

/// An OCI process that runs a shell script.
pub(crate) fn process(script: &str) -> Value {
    json!({
        "terminal": false,
        "user": { "uid": 0, "gid": 0 },
        "args": ["/bin/sh", "-c", script],
        "env": ["PATH=/bin"],
        "cwd": "/",
    })
}

/// An OCI specification that runs a shell script.
pub(crate) fn shell(script: &str) -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": process(script),
        "root": { "path": "rootfs" },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
        ],
        "linux": { "resources": {} },
    })
}
