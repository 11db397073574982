//! Containers that another runtime runs: crun and runc where they are installed, and mocks that misbehave.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use podwright_shim_api::client::{ClientError, StreamFds};
use podwright_shim_api::{Runtime, StartContainer};
use serde_json::json;

use crate::world::{World, bytes, pipe, process, read_all, shell, wait_for};

/// Installed runtimes, by name.
fn installed() -> Vec<(&'static str, PathBuf)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let find = |name: &str| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file());
    let found: Vec<_> = ["crun", "runc"].into_iter().filter_map(|name| Some((name, find(name)?))).collect();
    if found.is_empty() {
        println!("neither crun nor runc is installed (cargo xtask setup): only mocks are tried");
    }
    found
}

/// crun refuses hosts that have controllers of v1 and of v2, as many a container has them; it is shown those of v1 alone.
fn on_this_host(world: &World, name: &str, program: &Path) -> PathBuf {
    const UNIFIED: &str = "/sys/fs/cgroup/unified";
    let controllers = fs::read_to_string(format!("{UNIFIED}/cgroup.controllers")).unwrap_or_default();
    if name != "crun" || controllers.trim().is_empty() {
        return program.to_owned();
    }
    let show = format!("umount {UNIFIED} && exec {} \"$@\"", program.display());
    script(
        world,
        name,
        &format!("exec unshare --mount --propagation unchanged sh -c 'mount --make-rslave / && {show}' crun \"$@\""),
    )
}

fn runtime(world: &World, name: &str, program: &Path, deadline_seconds: u32) -> Runtime {
    let state = world.path("runtime-state");
    fs::create_dir_all(&state).unwrap();
    Runtime { path: bytes(program), state: bytes(&state), options: Vec::new(), deadline_seconds, name: name.to_owned() }
}

fn request(world: &World, container: &str, runtime: Runtime) -> StartContainer {
    let bundle = world.path(&format!("bundle-{container}"));
    fs::create_dir_all(&bundle).unwrap();
    StartContainer { bundle: Some(bytes(&bundle)), runtime: Some(runtime), ..world.request(container) }
}

/// A program that is no runtime: a mock which does what a broken one might.
fn mock(world: &World, name: &str, text: &str) -> PathBuf {
    script(world, name, &format!("# A mock of an OCI runtime, for a test.\n{text}"))
}

fn script(world: &World, name: &str, text: &str) -> PathBuf {
    let path = world.path(name);
    let text = format!("#!/bin/sh\n{text}\n");
    // By another process: a fork of this one would keep it open for writing, and then nobody can execute it.
    let write = r#"printf %s "$1" > "$0.new" && chmod 755 "$0.new" && mv "$0.new" "$0""#;
    let status = Command::new("sh").args(["-c", write]).arg(&path).arg(text).status().unwrap();
    assert!(status.success());
    path
}

async fn gone(world: &World, container: &str) {
    while world.client.delete_container(container).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let state = world.path("runtime-state");
    let listed = |name: &str| fs::read_dir(state.join(name)).map_or(0, |entries| entries.count());
    wait_for("the runtime's state is gone", || listed("root") == 0 && listed("work") == 0).await;
}

#[tokio::test]
async fn root_another_runtime_runs_logs_and_ends_as_ours_does() {
    for (name, program) in installed() {
        let mut world = World::with_pod().await;
        let runtime = runtime(&world, name, &on_this_host(&world, name, &program), 60);
        let script =
            "echo out; echo err >&2; hostname 2>/dev/null; cat /proc/self/mountinfo | head -1 > /dev/null; exit 7";
        let started = world.start(request(&world, "c", runtime.clone()), &shell(script)).await.unwrap();
        assert!(started.pid > 1, "{name}");
        assert_eq!(world.end_of("c").await.code, 7, "{name}");
        let mut texts = world.log_texts("c");
        texts.sort();
        assert!(
            texts.contains(&"stderr F err".to_owned()) && texts.contains(&"stdout F out".to_owned()),
            "{name}: {texts:?}"
        );
        gone(&world, "c").await;

        world
            .start(request(&world, "k", runtime), &shell("trap 'exit 4' TERM; echo up; while :; do sleep 1; done"))
            .await
            .unwrap();
        wait_for("it is up", || world.log_texts("k").iter().any(|line| line.ends_with("up"))).await;
        world.client.signal_container("k", 15, false).await.unwrap();
        assert_eq!(world.end_of("k").await.code, 4, "{name}");
        gone(&world, "k").await;
        world.finish().await;
    }
}

#[tokio::test]
async fn root_execs_go_by_the_runtime_and_none_loses_its_exit_code() {
    for (name, program) in installed() {
        let mut world = World::with_pod().await;
        let runtime = runtime(&world, name, &on_this_host(&world, name, &program), 60);
        world.start(request(&world, "c", runtime), &shell("while :; do sleep 1; done")).await.unwrap();
        for number in 0..10 {
            let (read, write) = pipe();
            let streams = StreamFds { stdout: Some(write), ..StreamFds::default() };
            let exec = format!("e{number}");
            world.exec("c", &exec, &process(&format!("echo hello {number}; exit {number}")), streams).await.unwrap();
            assert_eq!(read_all(read).await, format!("hello {number}\n").into_bytes(), "{name}");
            assert_eq!(world.end_of_exec(&exec).await.code, number, "{name}");
        }
        let mut absent = process("");
        absent["args"] = json!(["/there/is/none"]);
        let error = world.exec("c", "none", &absent, StreamFds::default()).await.unwrap_err().to_string();
        assert!(error.contains("none") && error.contains(name), "{error}");
        world.client.signal_container("c", 9, true).await.unwrap();
        assert_eq!(world.end_of("c").await.code, 137, "{name}");
        gone(&world, "c").await;
        world.finish().await;
    }
}

#[tokio::test]
async fn root_a_terminal_comes_over_the_console_socket() {
    for (name, program) in installed() {
        let mut world = World::with_pod().await;
        let runtime = runtime(&world, name, &on_this_host(&world, name, &program), 60);
        let mut spec = shell("test -t 0 && test -t 1 && echo a terminal");
        spec["process"]["terminal"] = json!(true);
        world.start(request(&world, "c", runtime), &spec).await.unwrap();
        assert_eq!(world.end_of("c").await.code, 0, "{name}");
        assert!(
            world.log_texts("c").iter().any(|line| line.contains("a terminal")),
            "{name}: {:?}",
            world.log_texts("c")
        );
        gone(&world, "c").await;
        world.finish().await;
    }
}

#[tokio::test]
async fn root_a_program_that_is_missing_is_told_in_the_runtimes_words() {
    for (name, program) in installed() {
        let world = World::with_pod().await;
        let runtime = runtime(&world, name, &on_this_host(&world, name, &program), 60);
        let mut spec = shell("");
        spec["process"]["args"] = json!(["/there/is/none"]);
        let error = world.start(request(&world, "c", runtime), &spec).await.unwrap_err();
        let ClientError::Refused { failure } = &error else { panic!("{name}: {error:?}") };
        assert!(error.to_string().contains("/there/is/none"), "{name}: {error}");
        assert_eq!(failure.kind(), podwright_shim_api::FailureKind::ProgramNotFound, "{name}: {error}");
        gone(&world, "c").await;
        world.finish().await;
    }
}

#[tokio::test]
async fn root_runtimes_that_misbehave_fail_one_start_and_leave_nothing() {
    let pid_file = r#"while [ $# -gt 1 ]; do [ "$1" = --pid-file ] && pid=$2; shift; done"#;
    let cases = [
        ("hangs", "sleep 1000 & sleep 1000".to_owned(), "did not end within 1 s and was killed"),
        ("fails", "echo '{\"level\":\"error\",\"msg\":\"no such thing\"}' > log.json; exit 3".into(), "no such thing"),
        ("crashes", "kill -SEGV $$".into(), "signal: 11"),
        ("silent", "exit 1".into(), "said nothing"),
        ("lazy", "exit 0".into(), "pid file"),
        ("rubbish", format!("{pid_file}\necho rubbish > \"$pid\""), "which is no pid"),
        ("liar", format!("{pid_file}\necho $PPID > \"$pid\""), "none that the runtime started"),
        (
            "outside",
            format!("{pid_file}\nsleep 1000 >/dev/null 2>&1 & echo $! > \"$pid\""),
            "must honour linux.cgroupsPath",
        ),
        ("fifo", format!("{pid_file}\nmkfifo \"$pid\""), "pid file"),
    ];
    let world = World::with_pod().await;
    for (name, script, told) in cases {
        let program = mock(&world, name, &format!("case \"$*\" in *' delete '*) exit 0;; esac\n{script}"));
        let asked = request(&world, name, runtime(&world, name, &program, 1));
        let error = world.start(asked, &shell("true")).await.unwrap_err().to_string();
        assert!(error.contains(told) && error.contains(name), "{name}: {error}");
        gone(&world, name).await;
    }
    let absent = request(&world, "absent", runtime(&world, "absent", Path::new("/there/is/none"), 1));
    let error = world.start(absent, &shell("true")).await.unwrap_err().to_string();
    assert!(error.contains("/there/is/none"), "{error}");
    gone(&world, "absent").await;
    world.finish().await;
}
