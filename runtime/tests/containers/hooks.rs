//! Hooks: programs of the host and of the image that run around the life of a container.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use podwright_runtime::{HookContext, Namespaces, StoppedHooks};
use serde_json::{Value, json};

use crate::fixture::{Fixture, Sleeper, follow, streams};
use crate::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("root_hooks_run_in_their_order_and_are_told_the_state", hooks_run_in_their_order_and_are_told_the_state),
    ("root_hooks_at_creation_see_the_root_file_system", hooks_at_creation_see_the_root_file_system),
    ("root_a_start_hook_is_as_powerless_as_the_program", a_start_hook_is_as_powerless_as_the_program),
    ("root_a_failed_hook_ends_the_start", a_failed_hook_ends_the_start),
    ("root_a_hook_that_hangs_is_killed_with_its_children", a_hook_that_hangs_is_killed_with_its_children),
    ("root_a_failed_poststart_hook_is_told", a_failed_poststart_hook_is_told),
    ("root_poststop_hooks_all_run", poststop_hooks_all_run),
    ("root_a_hook_that_can_not_be_is_refused", a_hook_that_can_not_be_is_refused),
];

fn note(fixture: &Fixture, name: &str) -> PathBuf {
    fixture.top.path().join(name)
}

/// A hook that is a script of the host's shell, with `$STATE` from its stdin.
fn host(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["hook", "-c", format!("STATE=$(cat); {script}")], "env": ["PATH=/usr/bin:/bin", "TOLD=yes"]})
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn state(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn hooks_run_in_their_order_and_are_told_the_state() {
    let mut fixture = Fixture::new();
    let log = note(&fixture, "log");
    let say = |stage: &str| host(&format!("echo {stage} \"$STATE\" $TOLD$HOME >> {}", log.display()));
    fixture.spec["hooks"] = json!({
        "prestart": [say("prestart")], "createRuntime": [say("createRuntime"), say("createRuntime")],
        "createContainer": [say("createContainer")], "poststart": [say("poststart")],
    });
    fixture.spec["annotations"] = json!({"a": "b"});
    let sleeper = fixture.sleeper();
    let told = read(&log);
    let lines: Vec<(&str, Value)> = told
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(stage, rest)| (stage, state(rest.strip_suffix(" yes").expect("no variable but its own"))))
        .collect();
    let stages: Vec<&str> = lines.iter().map(|(stage, _)| *stage).collect();
    assert_eq!(stages, ["prestart", "createRuntime", "createRuntime", "createContainer", "poststart"]);
    let pid = sleeper.0.pid().as_raw_nonzero().get();
    for (stage, state) in &lines {
        // Inside, the first process is process 1.
        let (status, pid) = match *stage {
            "poststart" => ("running", pid),
            "createContainer" => ("creating", 1),
            _ => ("creating", pid),
        };
        assert_eq!((&state["status"], &state["pid"]), (&json!(status), &json!(pid)), "{stage}");
        assert_eq!(state["id"], "box");
        assert_eq!(state["bundle"], json!(fixture.top.path()));
        assert_eq!((&state["annotations"]["a"], &state["ociVersion"]), (&json!("b"), &json!("1.2.1")));
    }
}

fn hooks_at_creation_see_the_root_file_system() {
    let mut fixture = Fixture::new();
    let volume = fixture.top.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("file"), "mounted").unwrap();
    fixture.bind(&volume, "/volume", &[]);
    let rootfs = fixture.top.path().join("rootfs");
    let seen = note(&fixture, "seen");
    let inside =
        format!("cat {0}/volume/file > {1}; echo made > {0}/made; hostname >> {1}", rootfs.display(), seen.display());
    fixture.spec["hooks"] = json!({
        "createContainer": [host(&inside)],
        // By the way of the container's mount namespace.
        "createRuntime": [host(&format!(
            "pid=$(echo \"$STATE\" | sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); nsenter -t $pid -m cat {}/volume/file > {}-2",
            rootfs.display(),
            seen.display()
        ))],
    });
    assert_eq!(
        fixture.out("cat /made /volume/file; pwd; ls /"),
        "made\nmounted/\nbin\ndev\netc\nmade\nproc\nsys\nvolume"
    );
    assert_eq!(read(&seen), "mountedbox\n", "createContainer hooks run in the container's namespaces");
    assert_eq!(read(&note(&fixture, "seen-2")), "mounted");
    // The host sees an empty directory.
    assert_eq!(std::fs::read_dir(&rootfs).unwrap().count(), 0);
    assert!(!read(Path::new("/proc/self/mountinfo")).contains(&*rootfs.to_string_lossy()));
}

fn a_start_hook_is_as_powerless_as_the_program() {
    let mut fixture = Fixture::new();
    fixture.spec["process"]["user"] = json!({"uid": 1000, "gid": 1001});
    std::fs::create_dir(fixture.layer().join("tmp")).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(fixture.layer().join("tmp"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let script = "id -u > /tmp/hook; grep CapEff /proc/self/status >> /tmp/hook; pwd >> /tmp/hook";
    fixture.spec["hooks"] =
        json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}]});
    assert_eq!(fixture.out("cat /tmp/hook"), "1000\nCapEff:\t0000000000000000\n/");
}

fn a_failed_hook_ends_the_start() {
    for stage in ["prestart", "createRuntime", "createContainer"] {
        let mut fixture = Fixture::new();
        let after = note(&fixture, "after");
        let next = host(&format!("echo > {}", after.display()));
        fixture.spec["hooks"] = json!({stage: [host("echo no such gadget >&2; exit 3"), next], "poststart": [next]});
        let failure = fixture.run().unwrap_err();
        let expected = format!("cannot run the hook /bin/sh ({stage}): it ended with code 3; it said: no such gadget");
        assert_eq!(failure.text, expected);
        assert!(!after.exists(), "{stage}");
    }
    let mut fixture = Fixture::new();
    fixture.spec["hooks"] = json!({"startContainer": [{"path": "/no/such/hook"}]});
    let failure = fixture.run().unwrap_err();
    assert!(failure.text.contains("/no/such/hook (startContainer): No such file"), "{failure}");
}

fn a_hook_that_hangs_is_killed_with_its_children() {
    let mut fixture = Fixture::new();
    let pids = note(&fixture, "pids");
    let mut hook = host(&format!("sleep 1000 & echo $! > {}; sleep 1000", pids.display()));
    hook["timeout"] = json!(1);
    fixture.spec["hooks"] = json!({"createRuntime": [hook]});
    let failure = fixture.run().unwrap_err();
    assert!(failure.text.ends_with("it did not end within 1 s and was killed"), "{failure}");
    let child = read(&pids).trim().to_owned();
    // Its new parent has to reap it.
    let is_gone = || read(Path::new(&format!("/proc/{child}/stat"))).split(' ').nth(2).is_none_or(|state| state == "Z");
    while !is_gone() {
        std::thread::yield_now();
    }
}

fn a_failed_poststart_hook_is_told() {
    let mut fixture = Fixture::new();
    fixture.spec["process"]["args"] = json!(["/bin/sleep", "1000"]);
    fixture.spec["hooks"] = json!({"poststart": [host("exit 4")]});
    let output = tempfile::tempfile().unwrap();
    let mut starting = fixture.start(streams(&output), &Namespaces::default());
    let told = loop {
        use rustix::event::{PollFd, PollFlags, poll};
        poll(&mut [PollFd::new(&starting, PollFlags::IN)], None).unwrap();
        match starting.on_readable().unwrap() {
            podwright_runtime::Progress::Failed(failure) => break failure,
            podwright_runtime::Progress::Started => panic!("it was not told"),
            _ => {}
        }
    };
    assert_eq!(told.text, "cannot run the hook /bin/sh (poststart): it ended with code 4");
    // The caller kills what runs.
    drop(Sleeper(starting));
    // A program that is not there has no poststart hooks.
    let ran = note(&fixture, "ran");
    fixture.spec["hooks"] = json!({"poststart": [host(&format!("echo > {}", ran.display()))]});
    fixture.spec["process"]["args"] = json!(["/no/such/program"]);
    let mut starting = fixture.start(streams(&output), &Namespaces::default());
    assert!(follow(&mut starting).unwrap_err().text.contains("/no/such/program"));
    assert!(!ran.exists());
}

fn poststop_hooks_all_run() {
    let mut fixture = Fixture::new();
    let told = note(&fixture, "told");
    let say = host(&format!("echo \"$STATE\" > {}", told.display()));
    fixture.spec["hooks"] = json!({"poststop": [host("exit 9"), say]});
    let spec: Spec = serde_json::from_value(fixture.spec.clone()).unwrap();
    let context = HookContext { container: "box", bundle: fixture.top.path() };
    let hooks = StoppedHooks::of(&spec, context).unwrap();
    assert_eq!(hooks.run(), ["cannot run the hook /bin/sh (poststop): it ended with code 9"]);
    let told = state(&read(&told));
    assert_eq!((&told["status"], told.get("pid")), (&json!("stopped"), None));
    fixture.spec["hooks"] = json!({});
    let spec: Spec = serde_json::from_value(fixture.spec.clone()).unwrap();
    assert!(StoppedHooks::of(&spec, context).is_none());
}

fn a_hook_that_can_not_be_is_refused() {
    for (hook, expected) in
        [(json!({"path": "sh"}), "is not absolute"), (json!({"path": "/bin/sh", "timeout": 0}), "greater than 0")]
    {
        let mut fixture = Fixture::new();
        fixture.spec["hooks"] = json!({"poststop": [hook]});
        let spec: Spec = serde_json::from_value(fixture.spec.clone()).unwrap();
        let error = podwright_runtime::spawn(podwright_runtime::Launch {
            spec: &spec,
            rootfs: &fixture.plan,
            rootfs_method: fixture.method,
            namespaces: Namespaces::default(),
            stdio: podwright_runtime::Stdio::Fds([None, None, None]),
            cgroup: podwright_runtime::CgroupEntry::Inherit,
            given_mounts: std::collections::BTreeMap::new(),
            seccomp: fixture.seccomp.clone(),
            user_lookup: podwright_runtime::UserLookup::default(),
            gate: None,
            inherited: Vec::new(),
            hooks: Some(HookContext { container: "box", bundle: fixture.top.path() }),
        })
        .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
