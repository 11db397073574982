//! Processes executed in a running container.

use podwright_shim_api::FailureKind;
use podwright_shim_api::client::StreamFds;
use podwright_types::ExecId;
use serde_json::json;

use crate::world::{World, pipe, process, read_all, read_until, wait_for};

#[tokio::test]
async fn root_an_exec_has_its_own_streams_and_exit_code() {
    let mut world = World::with_pod().await;
    world.run("c", "sleep 1000").await;
    let (stdin, to_stdin) = pipe();
    let (from_stdout, stdout) = pipe();
    let (from_stderr, stderr) = pipe();
    let streams = StreamFds { stdin: Some(stdin), stdout: Some(stdout), stderr: Some(stderr) };
    let pid = world.exec("c", "e", &process("cat; echo err >&2; exit 6"), streams).await.unwrap();
    assert!(pid > 0);
    assert_eq!(world.client.state().await.unwrap().0.execs[0].pid, pid);
    rustix::io::write(&to_stdin, b"through").unwrap();
    drop(to_stdin);
    assert_eq!(read_all(from_stdout).await, b"through");
    assert_eq!(read_all(from_stderr).await, b"err\n");
    assert_eq!(world.end_of_exec("e").await.code, 6);
    assert_eq!(world.client.state().await.unwrap().0.execs, []);
    assert_eq!(world.log_texts("c"), Vec::<String>::new());
    world.finish().await;
}

#[tokio::test]
async fn root_killing_an_exec_kills_its_session() {
    let mut world = World::with_pod().await;
    world.run("c", "sleep 1000").await;
    // A pipeline in the background makes process groups of its own only with job control.
    let script = "set -m; sleep 1001 & sleep 1002 & echo ready; wait";
    let (from_stdout, stdout) = pipe();
    let streams = StreamFds { stdout: Some(stdout), ..StreamFds::default() };
    world.exec("c", "e", &process(script), streams).await.unwrap();
    let cgroup = podwright_cgroups::Hierarchy::detect().unwrap().cgroup(&format!("{}/c", world.cgroup)).unwrap();
    read_until(&from_stdout, "ready").await;
    wait_for("all run", || cgroup.processes().unwrap().len() == 4).await;
    world.client.kill_exec("c", "e").await.unwrap();
    assert_eq!(world.end_of_exec("e").await.code, 137);
    world.client.kill_exec("c", "e").await.unwrap();
    wait_for("only the container lives", || cgroup.processes().unwrap().len() == 1).await;
    assert_eq!(read_all(from_stdout).await, b"", "its streams are closed");
    world.finish().await;
}

#[tokio::test]
async fn root_an_exec_that_can_not_run_says_why() {
    let mut world = World::with_pod().await;
    world.run("c", "sleep 1000").await;
    let mut absent = process("");
    absent["args"] = json!(["/bin/absent"]);
    let error = world.exec("c", "a", &absent, StreamFds::default()).await.unwrap_err();
    assert_eq!(error.kind(), Some(FailureKind::ProgramNotFound), "{error}");
    let error = world.exec("nobody", "a", &process("true"), StreamFds::default()).await.unwrap_err();
    assert_eq!(error.kind(), Some(FailureKind::NotFound), "{error}");
    world.client.signal_container("c", 9, false).await.unwrap();
    world.end_of("c").await;
    let error = world.exec("c", "a", &process("true"), StreamFds::default()).await.unwrap_err();
    assert_eq!(error.kind(), Some(FailureKind::Busy), "{error}");
    world.finish().await;
}

#[tokio::test]
async fn root_execs_end_with_their_container() {
    let mut world = World::with_pod().await;
    world.run("c", "sleep 1000").await;
    world.exec("c", "e", &process("sleep 1001"), StreamFds::default()).await.unwrap();
    world.client.signal_container("c", 9, true).await.unwrap();
    assert_eq!(world.end_of("c").await.code, 137);
    assert_eq!(world.end_of_exec("e").await.code, 137);
    world.finish().await;
}

#[tokio::test]
async fn root_many_short_execs_leave_nothing_in_the_shim() {
    let mut world = World::with_pod().await;
    world.run("c", "sleep 1000").await;
    let descriptors = format!("/proc/{}/fd", world.client.hello().pid);
    let count = || std::fs::read_dir(&descriptors).unwrap().count();
    let before = count();
    let began = std::time::Instant::now();
    for number in 0..50 {
        let name = format!("e{number}");
        world.exec("c", &name, &process("true"), StreamFds::default()).await.unwrap();
        assert_eq!(world.end_of_exec(&name).await.code, 0);
    }
    println!("one exec takes {:?}", began.elapsed() / 50);
    assert_eq!(count(), before);
    world.finish().await;
}

#[tokio::test]
async fn root_the_state_tells_of_more_execs_than_a_packet_holds() {
    const MANY: usize = 520;
    let mut world = World::with_pod().await;
    // As long as real ids.
    let container = "c".repeat(64);
    world.run(&container, "sleep 1000").await;
    let mut ids = Vec::new();
    for _ in 0..MANY {
        let id = ExecId::from_random(podwright_sys::random_bytes().unwrap()).to_string();
        world.exec(&container, &id, &process("exec sleep 1000"), StreamFds::default()).await.unwrap();
        ids.push(id);
    }
    ids.sort();
    let (state, netns) = world.client.state().await.unwrap();
    assert!(netns.is_some() && state.pod.is_some() && state.containers.len() == 1);
    assert_eq!(state.execs.into_iter().map(|exec| exec.exec).collect::<Vec<_>>(), ids);
    world.client.signal_container(&container, 9, false).await.unwrap();
    assert_eq!(world.end_of(&container).await.code, 137);
    world.finish().await;
}
