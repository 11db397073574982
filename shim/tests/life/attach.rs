//! Clients that come and go: none stays behind, whatever it left unread.

use std::fs;

use podwright_shim_api::FailureKind;
use podwright_shim_api::client::{ClientError, StreamFds};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::world::{LONG, World, pipe, read_all, read_until, shell, wait_for};

/// Enough to run out of descriptors if each left one behind.
const MANY: usize = 10_000;

fn open_files(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Nobody has the other end of a pipe.
fn is_unread(write_end: &fs::File) -> bool {
    let mut set = [PollFd::new(write_end, PollFlags::empty())];
    poll(&mut set, Some(&Timespec::default())).unwrap() > 0
}

/// With both outputs: the ends of stdin, stdout and stderr.
async fn attach_all(world: &World) -> [std::os::fd::OwnedFd; 3] {
    let ((stdin, to_stdin), (from_stdout, stdout), (from_stderr, stderr)) = (pipe(), pipe(), pipe());
    let streams = StreamFds { stdin: Some(stdin), stdout: Some(stdout), stderr: Some(stderr) };
    world.client.attach("c", streams).await.unwrap();
    [to_stdin, from_stdout, from_stderr]
}

async fn attach(world: &World, with_input: bool) -> (Option<std::os::fd::OwnedFd>, std::os::fd::OwnedFd) {
    // A writer that gets no processor time for a while is busy, as one whose disk hangs.
    let deadline = tokio::time::Instant::now() + LONG;
    loop {
        let (from_stdout, stdout) = pipe();
        let (stdin, to_stdin) = pipe();
        let stdin = with_input.then_some(stdin);
        let streams = StreamFds { stdin, stdout: Some(stdout), stderr: None };
        match world.client.attach("c", streams).await {
            Ok(()) => return (Some(to_stdin).filter(|_| with_input), from_stdout),
            Err(ClientError::Refused { failure }) if failure.kind() == FailureKind::Busy => {
                assert!(tokio::time::Instant::now() < deadline, "{failure:?}");
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
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
    // Fewer than before is right too: what the start needed may have been there still.
    wait_for("all clients are forgotten", || open_files(shim) <= before.0 && open_files(writer) <= before.1).await;
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

/// More than all pipes on the way hold, into a container that looks away first.
#[tokio::test]
async fn root_all_that_a_client_sends_arrives_in_order() {
    let world = World::with_pod().await;
    let mut request = world.request("c");
    (request.stdin, request.stdin_once) = (true, true);
    world.start(request, &shell("sleep 0.2; exec md5sum")).await.unwrap();
    let (to_stdin, from_stdout) = attach(&world, true).await;
    let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let dir = tempfile::tempdir().unwrap();
    let same = dir.path().join("same");
    fs::write(&same, &bytes).unwrap();
    let sending = std::thread::spawn(move || {
        let mut to_stdin = fs::File::from(to_stdin.unwrap());
        std::io::Write::write_all(&mut to_stdin, &bytes).unwrap();
    });
    let told = String::from_utf8(read_all(from_stdout).await).unwrap();
    sending.join().unwrap();
    let expected = std::process::Command::new("md5sum").stdin(fs::File::open(&same).unwrap()).output().unwrap();
    let expected = String::from_utf8(expected.stdout).unwrap();
    let words = |text: &str| text.split_whitespace().take(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&told), words(&expected));
}

/// Counts its input once it is told to.
const COUNTS_LATER: &str = "while [ ! -e /tmp/go ]; do sleep 0.1; done; wc -c";

/// Sends more than the container's pipe holds; the rest is in the client's.
async fn send_much(to_stdin: std::os::fd::OwnedFd) -> fs::File {
    tokio::task::spawn_blocking(move || {
        let mut to_stdin = fs::File::from(to_stdin);
        std::io::Write::write_all(&mut to_stdin, &[b'x'; 100_000]).unwrap();
        to_stdin
    })
    .await
    .unwrap()
}

async fn count(world: &mut World, from_stdout: std::os::fd::OwnedFd) -> String {
    world.exec("c", "go", &crate::world::process("touch /tmp/go"), Default::default()).await.unwrap();
    assert_eq!(world.end_of("c").await.code, 0);
    String::from_utf8(read_all(from_stdout).await).unwrap()
}

#[tokio::test]
async fn root_what_a_client_sent_before_it_left_arrives() {
    let mut world = World::with_pod().await;
    let mut request = world.request("c");
    (request.stdin, request.stdin_once) = (true, true);
    world.start(request, &shell(COUNTS_LATER)).await.unwrap();
    let (_, from_stdout) = attach(&world, false).await;
    let [to_stdin, from_client, from_stderr] = attach_all(&world).await;
    let to_stdin = send_much(to_stdin).await;
    drop((from_client, from_stderr));
    wait_for("the client is forgotten", || is_unread(&to_stdin)).await;
    assert_eq!(count(&mut world, from_stdout).await, "100000\n");
    world.finish().await;
}

#[tokio::test]
async fn root_what_a_client_sent_before_stdin_is_closed_arrives() {
    let mut world = World::with_pod().await;
    let mut request = world.request("c");
    request.stdin = true;
    world.start(request, &shell(COUNTS_LATER)).await.unwrap();
    let (to_stdin, from_stdout) = attach(&world, true).await;
    let _to_stdin = send_much(to_stdin.unwrap()).await;
    world.client.close_stdin("c").await.unwrap();
    assert_eq!(count(&mut world, from_stdout).await, "100000\n");
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

#[tokio::test]
async fn root_a_client_that_is_cut_off_loses_all_its_streams() {
    let mut world = World::with_pod().await;
    let mut request = world.request("c");
    (request.stdin, request.stdin_once) = (true, true);
    world.start(request, &shell("read line; seq 1 100000; cat; exit 9")).await.unwrap();
    let [to_stdin, unread, from_stderr] = attach_all(&world).await;
    rustix::io::write(&to_stdin, b"go\n").unwrap();
    // A client that hears half of what is said, and whose input goes nowhere, would not learn that it was cut off.
    assert_eq!(read_all(from_stderr).await, b"");
    assert_eq!(world.end_of("c").await.code, 9);
    drop((to_stdin, unread));
    world.finish().await;
}

#[tokio::test]
async fn root_a_writer_that_does_not_answer_is_told_to_clients() {
    let mut world = World::with_pod().await;
    world.start(world.request("c"), &shell("read line; sleep 1000")).await.unwrap();
    let [writer] = world.writers().await[..] else { panic!("one writer") };
    let signal =
        |signal| rustix::process::kill_process(rustix::process::Pid::from_raw(writer).unwrap(), signal).unwrap();
    // As a writer whose disk hangs.
    signal(rustix::process::Signal::STOP);
    let refused = loop {
        let (from_stdout, stdout) = pipe();
        let streams = StreamFds { stdin: None, stdout: Some(stdout), stderr: None };
        if let Err(error) = world.client.attach("c", streams).await {
            break error;
        }
        drop(from_stdout);
    };
    let ClientError::Refused { failure } = &refused else { panic!("{refused}") };
    assert!(failure.kind() == FailureKind::Busy && failure.message.contains("try again"), "{refused}");
    signal(rustix::process::Signal::CONT);
    world.client.signal_container("c", 9, true).await.unwrap();
    assert_eq!(world.end_of("c").await.code, 137);
    world.finish().await;
}
