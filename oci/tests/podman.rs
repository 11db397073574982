//! podman with podwright-oci as its runtime, through conmon. Skips itself where podman is not installed.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)] // These are tests.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use podwright_cgroups::{Cgroup, Hierarchy};

const IMAGE: &str = "localhost/busybox:test";
/// No network but the loopback, and limits as they are: the host may not let a container have more.
const RUN: [&str; 4] = ["--network", "none", "--ulimit", "host"];

/// A podman that has nothing in common with the host's.
struct Podman {
    directory: tempfile::TempDir,
    parent: Cgroup,
}

impl Podman {
    /// With an image of busybox; `None` without podman.
    fn new() -> Option<Self> {
        let found = Command::new("podman").arg("--version").stdout(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: podman is not installed; `cargo xtask setup` installs it");
            return None;
        }
        let directory = tempfile::Builder::new().prefix("podwright-pm-").tempdir().unwrap();
        let name = directory.path().file_name().unwrap().to_str().unwrap().to_owned();
        let podman = Self { directory, parent: Hierarchy::detect().unwrap().cgroup(&format!("/{name}")).unwrap() };
        let rootfs = podman.path("rootfs");
        for dir in ["bin", "etc", "tmp", "proc", "sys", "dev", "data/deep"] {
            fs::create_dir_all(rootfs.join(dir)).unwrap();
        }
        fs::copy("/bin/busybox", rootfs.join("bin/busybox")).expect("busybox-static is installed");
        for applet in ["sh", "cat", "sleep", "echo", "id", "tty", "ls", "touch"] {
            std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
        }
        fs::write(rootfs.join("data/deep/file"), "of the image\n").unwrap();
        fs::write(podman.path("containers.conf"), "[containers]\ndefault_ulimits = []\n").unwrap();
        let tar = podman.path("image.tar");
        let made = Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(&rootfs).arg(".").status().unwrap();
        assert!(made.success());
        podman.ok(&["import", tar.to_str().unwrap(), IMAGE]);
        Some(podman)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", self.path("containers.conf"));
        command.arg("--root").arg(self.path("root")).arg("--runroot").arg(self.path("run"));
        command.arg("--tmpdir").arg(self.path("tmp")).arg("--network-config-dir").arg(self.path("net"));
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        command.args(["--runtime", env!("CARGO_BIN_EXE_podwright-oci")]).args(words).stdin(Stdio::null());
        command
    }

    fn output(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What a call prints that works.
    fn ok(&self, words: &[&str]) -> String {
        let output = self.output(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// `podman run` with these options, words of the program included.
    fn run(&self, words: &[&str]) -> Output {
        self.output(&[&["run", "--cgroup-parent", &self.parent.path()], RUN.as_slice(), words].concat())
    }

    fn run_ok(&self, words: &[&str]) -> String {
        self.ok(&[&["run", "--cgroup-parent", &self.parent.path()], RUN.as_slice(), words].concat())
    }

    fn status(&self, name: &str) -> String {
        self.ok(&["inspect", "--format", "{{.State.Status}}", name])
    }

    /// By the container's cgroup; podman itself shows the one it was made with.
    fn memory_limit(&self, name: &str) -> Option<u64> {
        let pid = self.ok(&["inspect", "--format", "{{.State.Pid}}", name]);
        let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let hierarchy = Hierarchy::detect().unwrap();
        let part = if hierarchy.is_v2() { "0::" } else { ":memory:" };
        let path = own.lines().find_map(|line| line.split_once(part)).expect("a cgroup with a memory controller").1;
        hierarchy.cgroup(path).unwrap().stats().unwrap().memory.unwrap().limit_bytes
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.output(&["rm", "--all", "--force", "--time", "0"]);
        let _ = self.output(&["rmi", "--all", "--force"]);
        // conmon is in it, and ends a moment after its container.
        let _ = self.parent.remove_within(std::time::Duration::from_secs(10));
    }
}

#[test]
fn root_podman_runs_to_the_end() {
    let Some(podman) = Podman::new() else { return };
    let output = podman.run(&["--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 9"]);
    assert_eq!(output.status.code(), Some(9));
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (b"out\n".as_slice(), b"err\n".as_slice()));
    let missing = podman.run(&["--rm", IMAGE, "nowhere"]);
    assert_eq!(missing.status.code(), Some(127), "{}", String::from_utf8_lossy(&missing.stderr));
    assert!(podman.run_ok(&["--rm", "--tty", IMAGE, "tty"]).starts_with("/dev/pts/"));
    assert_eq!(podman.run_ok(&["--rm", "--user", "12:34", IMAGE, "id", "-u"]), "12");
    assert_ne!(podman.run(&["--rm", "--read-only", IMAGE, "touch", "/x"]).status.code(), Some(0));
    assert_eq!(podman.run_ok(&["--rm", "--tmpfs", "/data", IMAGE, "cat", "/data/deep/file"]), "of the image");
    let volume = podman.path("volume");
    fs::create_dir(&volume).unwrap();
    let mount = format!("{}:/vol", volume.display());
    podman.run_ok(&["--rm", "--volume", &mount, IMAGE, "touch", "/vol/made"]);
    assert!(volume.join("made").exists());
    assert_eq!(podman.ok(&["ps", "--all", "--quiet"]), "");
}

#[test]
fn root_podman_execs_limits_pauses_and_removes() {
    let Some(podman) = Podman::new() else { return };
    // It ends at SIGTERM, which the first process of a pid namespace otherwise ignores.
    let script = "trap 'exit 5' TERM; while :; do sleep 0.05; done";
    podman.run_ok(&["--detach", "--name", "c", "--memory", "64m", "--pids-limit", "40", IMAGE, "sh", "-c", script]);
    assert_eq!(podman.status("c"), "running");
    assert_eq!(podman.ok(&["exec", "--env", "A=b", "--workdir", "/tmp", "c", "sh", "-c", "echo $A $PWD"]), "b /tmp");
    assert_eq!(podman.output(&["exec", "c", "sh", "-c", "exit 3"]).status.code(), Some(3));
    assert_eq!(podman.output(&["exec", "c", "nowhere"]).status.code(), Some(127));
    assert!(podman.ok(&["exec", "--tty", "c", "tty"]).starts_with("/dev/pts/"));
    assert_eq!(podman.memory_limit("c"), Some(64 << 20));
    podman.ok(&["pause", "c"]);
    assert_eq!(podman.status("c"), "paused");
    podman.ok(&["unpause", "c"]);
    assert_eq!(podman.status("c"), "running");
    if podman.ok(&["--help"]).contains("\n  update ") {
        podman.ok(&["update", "--memory", "128m", "c"]);
        assert_eq!(podman.memory_limit("c"), Some(128 << 20));
    }
    podman.ok(&["stop", "--time", "60", "c"]);
    assert_eq!(podman.ok(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "c"]), "exited 5");
    podman.ok(&["start", "c"]);
    assert_eq!(podman.status("c"), "running");
    podman.ok(&["rm", "--force", "--time", "0", "c"]);
    assert_eq!(podman.ok(&["ps", "--all", "--quiet"]), "");
}
