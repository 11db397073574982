//! The program itself, as callers of OCI runtimes use it. podman and containerd have their own tests in critest/.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // These are tests.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use podwright_cgroups::{Cgroup, Hierarchy};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

/// Generous: other tests run at the same time.
const WITHIN: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// A bundle of busybox, a --root and a cgroup of its own.
struct Place {
    directory: tempfile::TempDir,
    parent: Cgroup,
    config: Value,
}

impl Place {
    fn new(words: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("podwright-oci-").tempdir().unwrap();
        let name = directory.path().file_name().unwrap().to_str().unwrap().to_owned();
        let rootfs = directory.path().join("bundle/rootfs");
        for dir in ["bin", "proc", "sys", "dev", "tmp"] {
            fs::create_dir_all(rootfs.join(dir)).unwrap();
        }
        fs::copy("/bin/busybox", rootfs.join("bin/busybox")).expect("busybox-static is installed");
        for applet in ["sh", "cat", "sleep", "echo"] {
            std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
        }
        let parent = Hierarchy::detect().unwrap().cgroup(&format!("/{name}")).unwrap();
        let mut place = Self { directory, parent, config: Value::Null };
        place.run(&["spec", "--bundle", place.bundle().to_str().unwrap()]);
        let text = fs::read(place.bundle().join("config.json")).unwrap();
        place.config = serde_json::from_slice(&text).unwrap();
        place.config["process"]["terminal"] = json!(false);
        place.config["process"]["args"] = json!(words);
        place.config["root"]["readonly"] = json!(false);
        place.config["linux"]["cgroupsPath"] = json!(format!("/{name}/c"));
        place.write();
        place
    }

    fn bundle(&self) -> PathBuf {
        self.directory.path().join("bundle")
    }

    fn write(&self) {
        fs::write(self.bundle().join("config.json"), self.config.to_string()).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_podwright-oci"));
        command.arg("--root").arg(self.directory.path().join("root"));
        command.arg("--log").arg(self.log()).args(["--log-format", "json"]);
        command.args(words).current_dir(self.bundle()).stdin(Stdio::null());
        command
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log.json")
    }

    /// To files: what a container holds open must not keep a test waiting.
    fn output(&self, words: &[&str]) -> Output {
        let (out, err) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
        let mut command = self.command(words);
        let status = command.stdout(out.reopen().unwrap()).stderr(err.reopen().unwrap()).status().unwrap();
        Output { status, stdout: fs::read(out.path()).unwrap(), stderr: fs::read(err.path()).unwrap() }
    }

    /// What a call prints that works.
    fn run(&self, words: &[&str]) -> String {
        let output = self.output(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a call says that fails, which the log says too.
    fn fail(&self, words: &[&str]) -> String {
        let _ = fs::remove_file(self.log());
        let output = self.output(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{words:?} worked");
        let line: Value =
            serde_json::from_str(fs::read_to_string(self.log()).unwrap().lines().last().unwrap()).unwrap();
        assert_eq!((&line["level"], line["msg"].as_str().unwrap()), (&json!("error"), said.trim_end()));
        said
    }

    fn state(&self) -> Value {
        serde_json::from_str(&self.run(&["state", "c"])).unwrap()
    }

    fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// Made and started; its first process.
    fn start(&self) -> OwnedFd {
        self.run(&["create", "c"]);
        let init = open(&self.state()["pid"]);
        self.run(&["start", "c"]);
        init
    }

    fn is_empty(&self) -> bool {
        let root = self.directory.path().join("root");
        !root.exists() || fs::read_dir(root).unwrap().next().is_none()
    }

    fn cgroup(&self) -> Cgroup {
        self.parent.hierarchy().cgroup(&format!("{}/c", self.parent.path())).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.output(&["delete", "--force", "c"]);
        let _ = self.parent.remove();
    }
}

fn open(pid: &Value) -> OwnedFd {
    let pid = Pid::from_raw(i32::try_from(pid.as_i64().unwrap()).unwrap()).unwrap();
    pidfd_open(pid, PidfdFlags::empty()).unwrap()
}

fn await_end(init: &OwnedFd) {
    assert_eq!(poll(&mut [PollFd::new(init, PollFlags::IN)], Some(&WITHIN)).unwrap(), 1, "it did not end");
}

/// For what another process does a moment later.
fn eventually(mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < until, "it did not come to be");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn root_a_container_waits_for_its_start_and_leaves_nothing() {
    let place = Place::new(&["sh", "-c", "echo ran >/tmp/ran; exec sleep 1000"]);
    let pid_file = place.directory.path().join("pid");
    place.run(&["create", "--pid-file", pid_file.to_str().unwrap(), "c"]);
    let state = place.state();
    assert_eq!((state["status"].as_str(), &state["id"]), (Some("created"), &json!("c")));
    assert_eq!(fs::read_to_string(pid_file).unwrap(), state["pid"].to_string());
    assert_eq!(state["bundle"].as_str().map(Path::new), Some(place.bundle().as_path()));
    let ran = place.bundle().join("rootfs/tmp/ran");
    assert!(!ran.exists(), "it ran before its start");
    assert!(place.fail(&["create", "c"]).contains("already exists"));
    assert!(place.run(&["list"]).contains("created"));
    let init = open(&state["pid"]);
    place.run(&["start", "c"]);
    eventually(|| ran.exists());
    assert_eq!(place.status(), "running");
    assert!(place.fail(&["start", "c"]).contains("only a created one"));
    assert!(place.fail(&["delete", "c"]).contains("not stopped"));
    place.run(&["kill", "c", "SIGKILL"]);
    await_end(&init);
    let state = place.state();
    assert_eq!((&state["status"], &state["pid"]), (&json!("stopped"), &json!(0)));
    assert!(place.fail(&["kill", "c", "TERM"]).contains("container not running"));
    assert!(place.fail(&["exec", "c", "sh"]).contains("not running"));
    place.run(&["delete", "c"]);
    assert!(place.is_empty() && !place.cgroup().exists());
    assert!(place.fail(&["state", "c"]).contains("does not exist"));
    assert!(place.fail(&["delete", "c"]).contains("does not exist"));
    place.run(&["delete", "--force", "c"]);
}

#[test]
fn root_run_ends_as_its_program_did() {
    let place = Place::new(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    let output = place.output(&["run", "c"]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (b"out\n".as_slice(), b"err\n".as_slice()));
    assert!(place.is_empty() && !place.cgroup().exists());
}

#[test]
fn root_what_fails_says_why_and_leaves_nothing() {
    let mut place = Place::new(&["nowhere"]);
    assert!(place.fail(&["--systemd-cgroup", "create", "c"]).contains("cgroupfs"));
    assert!(place.fail(&["create", "c"]).contains("exec \"nowhere\": executable file not found in $PATH"));
    assert!(place.is_empty() && !place.cgroup().exists());
    place.config["mounts"] =
        json!([{"destination": "/x", "type": "bind", "source": "/no/such/place", "options": ["bind"]}]);
    place.write();
    assert!(place.fail(&["run", "c"]).contains("/no/such/place"));
    place.config["linux"]["namespaces"] = json!([{"type": "pid"}]);
    place.write();
    assert!(place.fail(&["create", "c"]).contains("mount namespace"));
    place.config["ociVersion"] = json!("2.0.0");
    place.write();
    assert!(place.fail(&["create", "c"]).contains("ociVersion"));
    assert!(place.fail(&["create", "../c"]).contains("invalid container ID"));
    assert!(place.fail(&["checkpoint", "c"]).contains("CRIU"));
    assert!(place.is_empty() && !place.cgroup().exists());
}

#[test]
fn root_exec_joins_and_tells_the_exit_code() {
    let place = Place::new(&["sleep", "1000"]);
    let _init = place.start();
    let output = place.output(&["exec", "--env", "A=b", "--cwd", "/tmp", "c", "sh", "-c", "echo $A $PWD $$; exit 3"]);
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words.first_chunk(), Some(&["b", "/tmp"]));
    assert!(words[2].parse::<u32>().unwrap() < 100, "{said}: it is not in the pid namespace");
    assert!(place.fail(&["exec", "c", "nowhere"]).contains("executable file not found in $PATH"));
    let document = place.directory.path().join("process.json");
    let process = json!({"user": {"uid": 12, "gid": 34}, "args": ["sh", "-c", "exec sleep 1000"], "cwd": "/", "env": ["PATH=/bin"]});
    fs::write(&document, process.to_string()).unwrap();
    let pid_file = place.directory.path().join("exec.pid");
    let files = [document.to_str().unwrap(), pid_file.to_str().unwrap()];
    place.run(&["exec", "--detach", "--process", files[0], "--pid-file", files[1], "c"]);
    let pid = fs::read_to_string(pid_file).unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t12\t12\t12\t12"), "{status}");
    let pids: Vec<i64> = serde_json::from_str(&place.run(&["ps", "--format", "json", "c"])).unwrap();
    assert!(pids.contains(&pid.parse().unwrap()) && pids.len() == 2, "{pids:?}");
    let exec = open(&json!(pid.parse::<i64>().unwrap()));
    place.run(&["kill", "--all", "c", "KILL"]);
    await_end(&exec);
}

#[test]
fn root_a_paused_container_stands_still() {
    let place = Place::new(&["sleep", "1000"]);
    let _init = place.start();
    place.run(&["pause", "c"]);
    assert_eq!(place.status(), "paused");
    assert!(place.fail(&["exec", "c", "echo"]).contains("paused"));
    assert!(place.fail(&["pause", "c"]).contains("paused"));
    place.run(&["resume", "c"]);
    assert_eq!(place.status(), "running");
    assert!(place.fail(&["resume", "c"]).contains("not paused"));
    place.run(&["pause", "c"]);
    place.run(&["delete", "--force", "c"]);
    assert!(place.is_empty() && !place.cgroup().exists());
}

#[test]
fn root_limits_change_and_usage_is_told() {
    let place = Place::new(&["sleep", "1000"]);
    let _init = place.start();
    place.run(&["update", "--pids-limit", "55", "--memory", "64m", "c"]);
    let stats: Value = serde_json::from_str(&place.run(&["events", "--stats", "c"])).unwrap();
    assert_eq!((&stats["type"], &stats["id"]), (&json!("stats"), &json!("c")));
    assert_eq!(stats["data"]["pids"], json!({"current": 1, "limit": 55}));
    assert_eq!(stats["data"]["memory"]["usage"]["limit"], json!(64 << 20));
    let document = place.directory.path().join("resources.json");
    fs::write(&document, json!({"pids": {"limit": 66}}).to_string()).unwrap();
    let mut update = place.command(&["update", "--resources", "-", "c"]);
    assert!(update.stdin(File::open(document).unwrap()).status().unwrap().success());
    let stats: Value = serde_json::from_str(&place.run(&["events", "--stats", "c"])).unwrap();
    assert_eq!(stats["data"]["pids"]["limit"], json!(66));
}

#[test]
fn root_the_terminal_goes_to_the_console_socket() {
    let mut place = Place::new(&["sh", "-c", "test -t 0 && echo it is one"]);
    place.config["process"]["terminal"] = json!(true);
    place.write();
    assert!(place.fail(&["create", "c"]).contains("--console-socket"));
    let path = place.directory.path().join("console");
    let listener = UnixListener::bind(&path).unwrap();
    place.run(&["create", "--console-socket", path.to_str().unwrap(), "c"]);
    let (connection, _) = listener.accept().unwrap();
    let received = podwright_sys::receive_packet(&connection, &mut [0; 64]).unwrap();
    let mut master = File::from(received.fds.into_iter().next().expect("a descriptor"));
    place.run(&["start", "c"]);
    let mut said = [0; 64];
    let length = master.read(&mut said).unwrap();
    assert!(String::from_utf8_lossy(&said[..length]).starts_with("it is one"), "{said:?}");
}

#[test]
fn root_another_process_with_its_pid_is_left_alone() {
    let place = Place::new(&["sleep", "1000"]);
    let init = place.start();
    let path = place.directory.path().join("root/c/record.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let ticks = record["process"]["startTicks"].as_u64().unwrap();
    record["process"]["startTicks"] = json!(ticks + 1);
    fs::write(&path, record.to_string()).unwrap();
    assert_eq!(place.status(), "stopped");
    assert!(place.fail(&["kill", "c", "KILL"]).contains("container not running"));
    assert_eq!(poll(&mut [PollFd::new(&init, PollFlags::IN)], Some(&Timespec::default())).unwrap(), 0, "it was killed");
    record["process"]["startTicks"] = json!(ticks);
    fs::write(&path, record.to_string()).unwrap();
    assert_eq!(place.status(), "running");
}

#[test]
fn root_descriptors_are_handed_on() {
    let place = Place::new(&["sh", "-c", "cat <&3; ls /proc/self/fd | grep -c 5"]);
    std::os::unix::fs::symlink("busybox", place.bundle().join("rootfs/bin/ls")).unwrap();
    std::os::unix::fs::symlink("busybox", place.bundle().join("rootfs/bin/grep")).unwrap();
    let given = place.directory.path().join("given");
    fs::write(&given, "given\n").unwrap();
    let program = env!("CARGO_BIN_EXE_podwright-oci");
    let root = place.directory.path().join("root").display().to_string();
    let script = "exec 3<\"$1\" 5<\"$1\"; exec \"$2\" --root \"$3\" run --preserve-fds 1 c";
    let output = Command::new("sh")
        .args(["-c", script, "sh", given.to_str().unwrap(), program, &root])
        .current_dir(place.bundle())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "given\n0\n", "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn root_hooks_run_and_a_filter_does_not_keep_them_from_it() {
    let mut place = Place::new(&["sleep", "1000"]);
    let file = |stage: &str| place.directory.path().join(stage);
    let hook = |stage: &str| {
        let script = format!("cat >'{}'", file(stage).display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}])
    };
    let stages = ["createRuntime", "poststart", "poststop"];
    let hooks: serde_json::Map<String, Value> =
        stages.map(|stage| (stage.to_owned(), hook(stage))).into_iter().collect();
    let files = stages.map(file);
    place.config["hooks"] = json!(hooks);
    let refused = json!([{"names": ["pidfd_open"], "action": "SCMP_ACT_ERRNO"}]);
    place.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": refused});
    place.write();
    place.run(&["create", "c"]);
    let there = || files.each_ref().map(|file| file.exists());
    assert_eq!(there(), [true, false, false]);
    place.run(&["start", "c"]);
    assert_eq!(there(), [true, true, false], "start waits for poststart");
    let state: Value = serde_json::from_slice(&fs::read(&files[1]).unwrap()).unwrap();
    assert_eq!((&state["id"], &state["pid"]), (&json!("c"), &place.state()["pid"]));
    place.run(&["delete", "--force", "c"]);
    assert_eq!(there(), [true, true, true]);
}
