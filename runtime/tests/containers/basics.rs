//! A container runs, sees itself and not the host, and says why it does not run.

use std::os::fd::OwnedFd;

use podwright_runtime::{FailureKind, Namespaces, Progress, RootfsPlan, Stdio};
use serde_json::json;

use crate::fixture::{Fixture, Pid, finish, follow, streams, wait};
use crate::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("root_runs_and_tells_the_exit_code", runs_and_tells_the_exit_code),
    ("root_sees_only_itself", sees_only_itself),
    ("root_gets_no_descriptor_but_its_streams", gets_no_descriptor_but_its_streams),
    ("root_devices_and_links_are_there", devices_and_links_are_there),
    ("root_users_are_looked_up", users_are_looked_up),
    ("root_working_directory_is_made", working_directory_is_made),
    ("root_failures_have_words", failures_have_words),
    ("root_a_terminal_works", a_terminal_works),
    ("root_exec_joins", exec_joins),
    ("root_exec_with_a_terminal", exec_with_a_terminal),
    ("root_environment_and_limits", environment_and_limits),
    ("root_waits_to_be_released", waits_to_be_released),
    ("root_a_dead_child_is_told", a_dead_child_is_told),
];

fn runs_and_tells_the_exit_code() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.sh("exit 7").code, 7);
    assert_eq!(fixture.sh("kill -9 $$; exit 3").code, 3, "an init can not kill itself");
}

fn sees_only_itself() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.out("hostname"), "box");
    assert_eq!(fixture.out("echo $$"), "1");
    // One after the other: at two ends of a pipe, the second may come after the first has looked.
    assert_eq!(
        fixture.out("seen=$(cd /proc; echo [0-9]*); echo $seen | wc -w"),
        "2",
        "the shell, its copy and no host process"
    );
    assert_eq!(fixture.out("ls /"), "bin\ndev\netc\nproc\nsys");
    assert_eq!(fixture.out("ip -o link | wc -l"), "1");
    let mounts = fixture.out("cat /proc/self/mountinfo");
    assert_eq!(mounts.lines().filter(|line| line.contains(" / / ")).count(), 1, "{mounts}");
    assert!(mounts.lines().all(|line| !line.contains(" shared:") && !line.contains(" master:")), "{mounts}");
}

fn gets_no_descriptor_but_its_streams() {
    let leaked = std::fs::File::open("/").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let mut fixture = Fixture::new();
    // ls has one for the directory that it reads.
    assert_eq!(fixture.out("ls /proc/self/fd"), "0\n1\n2\n3");
    drop(leaked);
}

fn devices_and_links_are_there() {
    let mut fixture = Fixture::new();
    fixture.spec["linux"]["devices"] =
        json!([{"path": "/dev/sub/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 5, "gid": 6}]);
    let listed = fixture.out("cd /dev; stat -c '%n %t:%T %a %F' null zero full random urandom tty");
    assert!(listed.starts_with("null 1:3 666 character special file"), "{listed}");
    assert_eq!(listed.lines().count(), 6);
    assert_eq!(
        fixture.out("for l in fd stdin ptmx; do readlink /dev/$l; done"),
        "/proc/self/fd\n/proc/self/fd/0\npts/ptmx"
    );
    assert_eq!(fixture.out("stat -c '%t:%T %a %u:%g' /dev/sub/mine"), "1:3 640 5:6");
    assert_eq!(fixture.out("echo x > /dev/null; dd if=/dev/zero bs=3 count=1 2>/dev/null | wc -c"), "3");
}

fn users_are_looked_up() {
    let mut fixture = Fixture::new();
    fixture.spec["process"]["user"] = json!({"uid": 0, "gid": 0, "username": "web", "additionalGids": [7]});
    let outcome = fixture.sh("id -u; id -g; id -G; echo $HOME");
    assert_eq!(outcome.output, "1000\n1001\n1001 7 2000\n/srv\n", "{outcome:?}");
    let user = outcome.user.unwrap();
    assert_eq!((user.uid, user.gid, user.groups), (1000, 1001, vec![1001, 7, 2000]));
    fixture.merge_groups = false;
    assert_eq!(fixture.out("id -G"), "1001 7");
    fixture.spec["process"]["user"] = json!({"uid": 5, "gid": 6});
    assert_eq!(fixture.out("id -u; id -g; echo $HOME"), "5\n6\n/");
    fixture.spec["process"]["user"] = json!({"uid": 0, "gid": 0, "username": "nobody-knows"});
    let failure = fixture.run().unwrap_err();
    assert_eq!(failure.kind, FailureKind::Setup);
    assert!(failure.text.contains("nobody-knows") && failure.text.contains("/etc/passwd"), "{failure}");
}

fn working_directory_is_made() {
    let mut fixture = Fixture::new();
    fixture.spec["process"]["cwd"] = json!("/a/b");
    fixture.spec["root"]["readonly"] = json!(true);
    assert_eq!(fixture.out("pwd"), "/a/b");
    assert!(fixture.upper("a/b").is_dir());
    fixture.spec["process"]["cwd"] = json!("/bin/busybox");
    assert!(fixture.run().unwrap_err().text.contains("/bin/busybox"));
}

fn failures_have_words() {
    let mut fixture = Fixture::new();
    fixture.spec["process"]["args"] = json!(["foo"]);
    let failure = fixture.run().unwrap_err();
    assert_eq!(
        (failure.kind, failure.text.as_str()),
        (FailureKind::ProgramNotFound, "exec \"foo\": not found in $PATH")
    );
    fixture.spec["process"]["args"] = json!(["/etc/passwd"]);
    let failure = fixture.run().unwrap_err();
    assert_eq!(
        (failure.kind, failure.text.as_str()),
        (FailureKind::ProgramNotExecutable, "exec \"/etc/passwd\": permission denied")
    );
    fixture.bind(std::path::Path::new("/no/such/source"), "/x", &[]);
    let failure = fixture.run().unwrap_err();
    assert_eq!((failure.kind, failure.errno), (FailureKind::Setup, 2));
    assert!(failure.text.contains("/no/such/source"), "{failure}");
}

fn read_all(master: OwnedFd) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 512];
    // EIO is the end of a terminal.
    while let Ok(length @ 1..) = rustix::io::read(&master, &mut buffer) {
        text.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8(text).unwrap()
}

fn a_terminal_works() {
    let mut fixture = Fixture::new();
    fixture.spec["process"]["consoleSize"] = json!({"height": 30, "width": 99});
    fixture.spec["process"]["args"] =
        json!(["/bin/sh", "-c", "tty; stat -c %t:%T /dev/console; echo hi > /dev/tty; echo yo > /dev/console"]);
    let mut starting = fixture.start(Stdio::Terminal, &Namespaces::default());
    let master = follow(&mut starting).unwrap().terminal.unwrap();
    let size = rustix::termios::tcgetwinsize(&master).unwrap();
    assert_eq!((size.ws_row, size.ws_col), (30, 99));
    assert_eq!(wait(&starting), 0);
    assert_eq!(read_all(master), "/dev/pts/0\r\n88:0\r\nhi\r\nyo\r\n");
}

fn exec_joins() {
    let mut fixture = Fixture::new();
    let sleeper = fixture.sleeper();
    let run = |args: &[&str]| {
        let output = tempfile::tempfile().unwrap();
        let mut starting = fixture.exec(sleeper.0.pidfd(), args, streams(&output));
        follow(&mut starting).map(|followed| finish(&starting, output, followed))
    };
    let outcome = run(&["/bin/sh", "-c", "hostname; ls /; ls /proc/self/fd | wc -l; cat /proc/1/comm"]).unwrap();
    assert_eq!(outcome.output, "box\nbin\ndev\netc\nproc\nsys\n4\nsleep\n");
    assert_eq!(run(&["sh", "-c", "exit 9"]).unwrap().code, 9);
    let failure = run(&["foo"]).unwrap_err();
    assert_eq!(failure.text, "exec \"foo\": not found in $PATH");
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let link = format!("/proc/self/ns/{kind}");
        let outcome = run(&["/bin/readlink", &link]).unwrap();
        let init = std::fs::read_link(format!("/proc/{}/ns/{kind}", sleeper.0.pid().as_raw_nonzero())).unwrap();
        assert_eq!(outcome.output.trim(), init.to_str().unwrap());
        assert_ne!(init, std::fs::read_link(&link).unwrap(), "{kind} is the host's");
    }
}

fn exec_with_a_terminal() {
    let mut fixture = Fixture::new();
    let sleeper = fixture.sleeper();
    let mut starting = fixture.exec(sleeper.0.pidfd(), &["tty"], Stdio::Terminal);
    let master = follow(&mut starting).unwrap().terminal.unwrap();
    assert_eq!(wait(&starting), 0);
    assert_eq!(read_all(master), "/dev/pts/0\r\n");
}

fn environment_and_limits() {
    let mut fixture = Fixture::new();
    fixture.spec["process"]["env"] = json!(["PATH=/bin", "A=b=c", "HOME=/h"]);
    fixture.spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99}]);
    assert_eq!(fixture.out("echo $A $HOME; ulimit -n; ulimit -Hn"), "b=c /h\n77\n99");
    fixture.spec["process"]["user"] = json!({"uid": 0, "gid": 0, "umask": 0o27});
    assert_eq!(fixture.out("umask"), "0027");
    fixture.spec["process"]["oomScoreAdj"] = json!(500);
    assert_eq!(fixture.out("cat /proc/self/oom_score_adj"), "500");
    fixture.spec["process"]["oomScoreAdj"] = json!(-998);
    let outcome = fixture.sh("cat /proc/self/oom_score_adj");
    assert!(outcome.output == "-998\n" || outcome.warnings.len() == 1, "{outcome:?}");
    fixture.spec["process"]["oomScoreAdj"] = json!(5000);
    assert!(fixture.run().is_err());
}

fn waits_to_be_released() {
    use podwright_runtime::{CgroupEntry, Launch, Namespace, RootfsMethod, SeccompChoice, UserLookup, spawn};
    let fixture = Fixture::new();
    let spec = serde_json::from_value(fixture.spec.clone()).unwrap();
    let of_the_parent = [std::fs::File::open("/").unwrap(), tempfile::tempfile().unwrap()];
    let mut starting = spawn(Launch {
        spec: &spec,
        rootfs: &fixture.plan,
        rootfs_method: RootfsMethod::Auto,
        namespaces: Namespaces { pid: Namespace::New, ..Namespaces::default() },
        stdio: Stdio::Fds([None, None, None]),
        cgroup: CgroupEntry::Deferred,
        given_mounts: std::collections::BTreeMap::new(),
        seccomp: SeccompChoice::FromSpec,
        user_lookup: UserLookup::default(),
        hooks: None,
        gate: None,
        inherited: Vec::new(),
    })
    .unwrap();
    use rustix::event::{PollFd, PollFlags, poll};
    poll(&mut [PollFd::new(&starting, PollFlags::IN)], None).unwrap();
    assert!(matches!(starting.on_readable().unwrap(), Progress::Waiting));
    assert!(matches!(starting.on_readable().unwrap(), Progress::Pending));
    // As long as it waits, be it for ever, it holds its streams and its socket and nothing of its parent.
    let held = std::fs::read_dir(format!("/proc/{}/fd", starting.pid().as_raw_nonzero())).unwrap().count();
    assert_eq!(held, 4);
    drop(of_the_parent);
    starting.release().unwrap();
    follow(&mut starting).unwrap();
    assert_eq!(wait(&starting), 0);
}

fn a_dead_child_is_told() {
    use podwright_runtime::{CgroupEntry, Launch, RootfsMethod, SeccompChoice, UserLookup, spawn};
    let fixture = Fixture::new();
    assert!(matches!(fixture.pid, Pid::New) && matches!(fixture.plan, RootfsPlan::Layers { .. }));
    let spec = serde_json::from_value(fixture.spec.clone()).unwrap();
    let mut starting = spawn(Launch {
        spec: &spec,
        rootfs: &fixture.plan,
        rootfs_method: RootfsMethod::Auto,
        namespaces: Namespaces::default(),
        stdio: Stdio::Fds([None, None, None]),
        cgroup: CgroupEntry::Deferred,
        given_mounts: std::collections::BTreeMap::new(),
        seccomp: SeccompChoice::FromSpec,
        user_lookup: UserLookup::default(),
        hooks: None,
        gate: None,
        inherited: Vec::new(),
    })
    .unwrap();
    rustix::process::pidfd_send_signal(starting.pidfd(), rustix::process::Signal::KILL).unwrap();
    let failure = loop {
        use rustix::event::{PollFd, PollFlags, poll};
        poll(&mut [PollFd::new(&starting, PollFlags::IN)], None).unwrap();
        match starting.on_readable().unwrap() {
            Progress::Failed(failure) => break failure,
            Progress::Waiting | Progress::Pending => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(failure.text.contains("killed"), "{failure}");
    assert_eq!(wait(&starting), 137);
}
