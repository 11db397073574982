//! A busybox image, a specification as a Kubernetes container has it, and running it to its end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};
use podwright_cgroups::{Cgroup, Hierarchy};
use podwright_runtime::{
    CgroupEntry, ExecLaunch, Failure, HookContext, Launch, MappedRoot, Namespace, Namespaces, Progress, RootfsMethod,
    RootfsPlan, SeccompChoice, Starting, Stdio, User, UserLookup, exec, spawn,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use serde_json::{Value, json};
use tempfile::TempDir;

/// An image on disk and a directory for what a container writes.
pub(crate) struct Fixture {
    pub(crate) top: TempDir,
    pub(crate) plan: RootfsPlan,
    pub(crate) spec: Value,
    pub(crate) seccomp: SeccompChoice,
    pub(crate) method: RootfsMethod,
    pub(crate) merge_groups: bool,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) pid: Pid,
    pub(crate) user: Option<MappedRoot>,
    /// The host's network stays.
    pub(crate) keep_network: bool,
}

/// Which pid namespace.
pub(crate) enum Pid {
    New,
    Host,
    Join(OwnedFd),
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) output: String,
    pub(crate) user: Option<User>,
    pub(crate) warnings: Vec<String>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        let layer = top.path().join("layer");
        std::fs::create_dir_all(layer.join("bin")).unwrap();
        std::fs::create_dir_all(layer.join("etc")).unwrap();
        std::fs::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", layer.join("bin").join(applet)).unwrap();
        }
        std::fs::write(layer.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:1000:1001::/srv:/bin/sh\n").unwrap();
        std::fs::write(layer.join("etc/group"), "root:x:0:\nweb:x:1001:\nextra:x:2000:web\n").unwrap();
        let writable = top.path().join("rw");
        std::fs::create_dir(&writable).unwrap();
        let empty = top.path().join("empty");
        std::fs::create_dir(&empty).unwrap();
        let plan = RootfsPlan::Layers { layers: vec![empty, layer], writable: Some(writable) };
        let seccomp = SeccompChoice::FromSpec;
        let spec = specification();
        Self {
            top,
            plan,
            spec,
            seccomp,
            method: RootfsMethod::Auto,
            merge_groups: true,
            cgroup: None,
            pid: Pid::New,
            user: None,
            keep_network: false,
        }
    }

    pub(crate) fn layer(&self) -> PathBuf {
        self.top.path().join("layer")
    }

    /// What the container wrote to its root.
    pub(crate) fn upper(&self, path: &str) -> PathBuf {
        self.top.path().join("rw/upper").join(path)
    }

    pub(crate) fn mount(&mut self, mount: Value) {
        self.spec["mounts"].as_array_mut().unwrap().push(mount);
    }

    pub(crate) fn bind(&mut self, source: &Path, destination: &str, options: &[&str]) {
        let options: Vec<&str> = std::iter::once("rbind").chain(options.iter().copied()).collect();
        self.mount(json!({"type": "bind", "source": source, "destination": destination, "options": options}));
    }

    /// A cgroup of its own, removed at the end.
    pub(crate) fn with_cgroup(&mut self, name: &str) -> Cgroup {
        let path = format!("/podwright-rt-{name}-{}", std::process::id());
        let cgroup = Hierarchy::detect().unwrap().cgroup(&path).unwrap();
        cgroup.create().unwrap();
        self.cgroup = Some(cgroup.clone());
        cgroup
    }

    /// Runs a shell script to its end.
    pub(crate) fn sh(&mut self, script: &str) -> Outcome {
        self.spec["process"]["args"] = json!(["/bin/sh", "-c", script]);
        self.run().unwrap()
    }

    /// The output of a script that must succeed.
    pub(crate) fn out(&mut self, script: &str) -> String {
        let outcome = self.sh(script);
        assert_eq!(outcome.code, 0, "{script}: {outcome:?}");
        outcome.output.trim().to_owned()
    }

    pub(crate) fn run(&self) -> Result<Outcome, Failure> {
        let output = tempfile::tempfile().unwrap();
        let mut starting = self.start(streams(&output), &Namespaces::default());
        let follow = follow(&mut starting)?;
        Ok(finish(&starting, output, follow))
    }

    /// Starts a container; namespaces that are `Host` in `given` become new ones, as a pod without others has them.
    pub(crate) fn start(&self, stdio: Stdio, given: &Namespaces<'_>) -> Starting {
        let fresh = |namespace| if matches!(namespace, Namespace::Host) { Namespace::New } else { namespace };
        let namespaces = Namespaces {
            network: if self.keep_network { Namespace::Host } else { fresh(given.network) },
            ipc: fresh(given.ipc),
            uts: fresh(given.uts),
            pid: match &self.pid {
                Pid::New => Namespace::New,
                Pid::Host => Namespace::Host,
                Pid::Join(fd) => Namespace::Join(fd.as_fd()),
            },
            user: given.user,
            cgroup: Namespace::New,
        };
        let spec: Spec = serde_json::from_value(self.spec.clone()).unwrap();
        spawn(Launch {
            spec: &spec,
            rootfs: &self.plan,
            rootfs_method: self.method,
            namespaces,
            stdio,
            cgroup: self.cgroup.as_ref().map_or(CgroupEntry::Inherit, CgroupEntry::Join),
            given_mounts: BTreeMap::new(),
            seccomp: self.seccomp.clone(),
            user_lookup: UserLookup { merge_groups: self.merge_groups },
            hooks: Some(HookContext { container: "box", bundle: self.top.path() }),
            gate: None,
            inherited: Vec::new(),
        })
        .unwrap()
    }

    /// Executes in a container.
    pub(crate) fn exec(&self, init: BorrowedFd<'_>, args: &[&str], stdio: Stdio) -> Starting {
        let spec: Spec = serde_json::from_value(self.spec.clone()).unwrap();
        let mut process = self.spec["process"].clone();
        process["args"] = json!(args);
        let process: Process = serde_json::from_value(process).unwrap();
        exec(ExecLaunch {
            init,
            user: self.user,
            spec: Some(&spec),
            process: &process,
            stdio,
            cgroup: self.cgroup.as_ref().map_or(CgroupEntry::Inherit, CgroupEntry::Join),
            seccomp: self.seccomp.clone(),
            user_lookup: UserLookup::default(),
            inherited: Vec::new(),
        })
        .unwrap()
    }

    /// Starts a container that sleeps until it is killed.
    pub(crate) fn sleeper(&mut self) -> Sleeper {
        self.spec["process"]["args"] = json!(["/bin/sleep", "1000"]);
        let output = tempfile::tempfile().unwrap();
        let mut starting = self.start(streams(&output), &Namespaces::default());
        follow(&mut starting).unwrap();
        Sleeper(starting)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(cgroup) = &self.cgroup {
            let _ = cgroup.kill_all();
            let _ = cgroup.remove();
        }
    }
}

/// Killed and reaped at the end.
pub(crate) struct Sleeper(pub(crate) Starting);

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(self.0.pidfd(), Signal::KILL);
        let _ = waitid(WaitId::PidFd(self.0.pidfd()), WaitIdOptions::EXITED);
    }
}

/// stdout and stderr into one file.
pub(crate) fn streams(output: &File) -> Stdio {
    let copy = || Some(OwnedFd::from(output.try_clone().unwrap()));
    Stdio::Fds([None, copy(), copy()])
}

/// What was told on the way to the program.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    pub(crate) user: Option<User>,
    pub(crate) warnings: Vec<String>,
    pub(crate) terminal: Option<OwnedFd>,
}

/// Waits until the program runs; a failed child is reaped.
pub(crate) fn follow(starting: &mut Starting) -> Result<Followed, Failure> {
    let mut followed = Followed::default();
    loop {
        poll(&mut [PollFd::new(&*starting, PollFlags::IN)], None).unwrap();
        match starting.on_readable().unwrap() {
            Progress::Pending | Progress::Moved | Progress::Ready => {}
            Progress::Waiting => starting.release().unwrap(),
            Progress::Terminal(master) => followed.terminal = Some(master),
            Progress::Resolved(user) => followed.user = Some(user),
            Progress::Warning(text) => followed.warnings.push(text),
            Progress::Started => return Ok(followed),
            Progress::Failed(failure) => {
                waitid(WaitId::PidFd(starting.pidfd()), WaitIdOptions::EXITED).unwrap();
                return Err(failure);
            }
        }
    }
}

/// Waits for the end and reads the output.
pub(crate) fn finish(starting: &Starting, mut output: File, followed: Followed) -> Outcome {
    let code = wait(starting);
    let mut text = Vec::new();
    output.rewind().unwrap();
    output.read_to_end(&mut text).unwrap();
    let output = String::from_utf8_lossy(&text).into_owned();
    Outcome { code, output, user: followed.user, warnings: followed.warnings }
}

/// Exit code, or 128 and the signal.
pub(crate) fn wait(starting: &Starting) -> i32 {
    let status = waitid(WaitId::PidFd(starting.pidfd()), WaitIdOptions::EXITED).unwrap().unwrap();
    status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap())
}

const APPLETS: [&str; 35] = [
    "sh", "ls", "cat", "true", "sleep", "id", "mount", "umount", "unshare", "hostname", "mkdir", "readlink", "stat",
    "echo", "touch", "grep", "ps", "mknod", "dd", "pwd", "env", "tty", "wc", "sort", "tr", "awk", "ip", "rm", "chmod",
    "chown", "ulimit", "nproc", "test", "kill", "ln",
];

const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// As a Kubernetes container has it by default.
fn specification() -> Value {
    json!({
        "ociVersion": "1.2.1",
        "hostname": "box",
        "root": {"path": "rootfs"},
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
            "capabilities": {"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
        ],
        "linux": {
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
