//! Clients that come and go: none stays behind, whatever it left unread.

use std::fs;

use podwright_shim_api::client::StreamFds;

use crate::world::{World, pipe, read_all, read_until, shell, wait_for};

/// Enough to run out of descriptors if each left one behind.
const MANY: usize = 10_000;

fn open_files(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

async fn attach(world: &World, with_input: bool) -> (Option<std::os::fd::OwnedFd>, std::os::fd::OwnedFd) {
    let (from_stdout, stdout) = pipe();
    let (stdin, to_stdin) = pipe();
    let stdin = with_input.then_some(stdin);
    let streams = StreamFds { stdin, stdout: Some(stdout), stderr: None };
    world.client.attach("c", streams).await.unwrap();
    (Some(to_stdin).filter(|_| with_input), from_stdout)
}

#[tokio::test]
async fn root_aborted_attaches_leave_nothing() {
    let mut world = World::with_pod().await;
    let mut request = world.request("c");
    request.stdin = true;
    world.start(request, &shell("sleep 1000")).await.unwrap();
    let shim = world.client.hello().pid;
    let [writer] = world.writers().await[..] else { panic!("one writer") };
    let before = (open_files(shim), open_files(writer));
    for number in 0..MANY {
        let (to_stdin, from_stdout) = attach(&world, number % 2 == 0).await;
        // The container never reads, so at last its pipe is full and this stays unread.
        if let Some(fd) = &to_stdin {
            let _ = rustix::io::write(fd, &[b'x'; 4096]);
        }
        drop((to_stdin, from_stdout));
    }
    wait_for("all clients are forgotten", || (open_files(shim), open_files(writer)) == before).await;
    let (_, from_stdout) = attach(&world, true).await;
    world.client.signal_container("c", 9, true).await.unwrap();
    assert_eq!(world.end_of("c").await.code, 137);
    assert_eq!(read_all(from_stdout).await, b"");
    world.finish().await;
}

#[tokio::test]
async fn root_hundreds_attach_at_once() {
    let mut world = World::with_pod().await;
    let mut request = world.request("c");
    request.stdin = true;
    world.start(request, &shell("echo ready; read line; echo got $line")).await.unwrap();
    let mut outputs = Vec::new();
    for _ in 0..200 {
        outputs.push(attach(&world, false).await.1);
    }
    let (to_stdin, from_stdout) = attach(&world, true).await;
    rustix::io::write(to_stdin.unwrap(), b"typed\n").unwrap();
    read_until(&from_stdout, "got typed").await;
    assert_eq!(world.end_of("c").await.code, 0);
    for output in outputs {
        assert!(String::from_utf8(read_all(output).await).unwrap().ends_with("got typed\n"));
    }
    world.finish().await;
}

#[tokio::test]
async fn root_stdin_of_one_client_ends_when_that_is_cut_off() {
    let mut world = World::with_pod().await;
    let mut request = world.request("c");
    (request.stdin, request.stdin_once) = (true, true);
    world.start(request, &shell("read line; seq 1 100000; cat; exit 9")).await.unwrap();
    let (to_stdin, unread) = attach(&world, true).await;
    rustix::io::write(to_stdin.as_ref().unwrap(), b"go\n").unwrap();
    // It does not read and is cut off; with it goes the only stdin that there was to be.
    assert_eq!(world.end_of("c").await.code, 9);
    drop((to_stdin, unread));
    world.finish().await;
}
