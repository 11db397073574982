//! Logs: their format, rotation under load, and disks that are full or do not answer.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use podwright_shim_api::FailureKind;
use podwright_shim_api::client::StreamFds;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal};

use crate::world::{LONG, World, bytes, pipe, shell, wait_for};

/// A file system that never answers: FUSE without a server. Its end is the end of all who wait for it.
struct DeadDisk(PathBuf, #[expect(dead_code, reason = "the connection ends with it")] fs::File);

impl DeadDisk {
    fn mount(at: &Path) -> Self {
        fs::create_dir(at).unwrap();
        let server = fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        let options = std::ffi::CString::new(options).unwrap();
        mount("dead", at, "fuse", MountFlags::empty(), Some(options.as_c_str())).unwrap();
        Self(at.to_owned(), server)
    }
}

impl Drop for DeadDisk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// The bytes of one stream, put together from log files the way kubelet's reader does it.
fn stream(files: &[&Path], stream: &str) -> Vec<u8> {
    let mut all = Vec::new();
    for file in files {
        for line in fs::read(file).unwrap().split_inclusive(|byte| *byte == b'\n') {
            let mut parts = line.splitn(4, |byte| *byte == b' ');
            let (stamp, of, tag, text) =
                (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
            assert_eq!((stamp.len(), stamp[29]), (30, b'Z'));
            assert!(text.len() <= 16 * 1024 + 1, "{} bytes in one line", text.len());
            if of == stream.as_bytes() {
                let end = text.len() - usize::from(tag == b"P");
                all.extend_from_slice(&text[..end]);
            }
        }
    }
    all
}

#[tokio::test]
async fn root_long_lines_binary_data_and_an_open_end_come_back() {
    let mut world = World::with_pod().await;
    let script =
        "head -c 100000 /dev/zero | tr '\\0' x; echo; printf 'a\\000b\\377c\\r\\n\\n'; printf 'no end'; echo other >&2";
    world.run("c", script).await;
    world.end_of("c").await;
    let mut want = vec![b'x'; 100_000];
    want.extend_from_slice(b"\na\0b\xffc\r\n\nno end");
    let log = world.log("c");
    assert_eq!(stream(&[&log], "stdout"), want);
    assert_eq!(stream(&[&log], "stderr"), b"other\n");
    world.finish().await;
}

#[tokio::test]
async fn root_lines_of_two_streams_keep_the_order_of_arrival() {
    let mut world = World::with_pod().await;
    let mut request = world.request("c");
    request.stdin = true;
    let script = "while read to i; do if [ $to = out ]; then echo $i; else echo $i >&2; fi; done";
    world.start(request, &shell(script)).await.unwrap();
    let (stdin, to_stdin) = pipe();
    world.client.attach("c", StreamFds { stdin: Some(stdin), ..StreamFds::default() }).await.unwrap();
    let mut want = Vec::new();
    for i in 1..=5 {
        for (to, stream) in [("out", "stdout"), ("err", "stderr")] {
            rustix::io::write(&to_stdin, format!("{to} {i}\n").as_bytes()).unwrap();
            want.push(format!("{stream} F {i}"));
            // The next line is asked for when this one has arrived.
            wait_for("the line is logged", || world.log_texts("c").len() >= want.len()).await;
        }
    }
    assert_eq!(world.log_texts("c"), want);
    world.client.close_stdin("c").await.unwrap();
    world.end_of("c").await;
    world.finish().await;
}

#[tokio::test]
async fn root_rotation_under_load_loses_no_byte() {
    const LINE: &str = "a line of some length, to be counted";
    const ROUND: usize = 100_000 * (LINE.len() + 1);
    const WANTED_BYTES: u64 = 100 << 20;
    let mut world = World::with_pod().await;
    let began = Instant::now();
    // Until it is told to stop, so that it is never done before the log was rotated.
    let script = format!(
        "n=0; while [ ! -e /tmp/stop ]; do yes '{LINE}' | head -c {ROUND}; n=$((n + 1)); done; echo $n > /tmp/rounds"
    );
    world.run("c", &script).await;
    let (mut files, mut written) = (Vec::new(), 0);
    while files.len() < 8 || written < WANTED_BYTES {
        let rotated = world.path(&format!("logs/rotated-{}", files.len()));
        fs::rename(world.log("c"), &rotated).unwrap();
        world.client.reopen_log("c").await.unwrap();
        written += fs::metadata(&rotated).unwrap().len();
        files.push(rotated);
    }
    world.exec("c", "stop", &crate::world::process("touch /tmp/stop"), Default::default()).await.unwrap();
    assert_eq!(world.end_of("c").await.code, 0);
    println!("{} MB through the log with {} rotations in {:?}", written >> 20, files.len(), began.elapsed());
    let rounds: usize = fs::read_to_string(world.path("rw-c/upper/tmp/rounds")).unwrap().trim().parse().unwrap();
    files.push(world.log("c"));
    let files: Vec<&Path> = files.iter().map(AsRef::as_ref).collect();
    let all = stream(&files, "stdout");
    assert_eq!(all.len(), rounds * ROUND);
    let line = format!("{LINE}\n").into_bytes();
    assert!(all.chunks(line.len()).all(|chunk| chunk == line));
    world.finish().await;
}

#[tokio::test]
async fn root_a_log_that_can_not_be_opened_fails_the_start() {
    let mut world = World::with_pod().await;
    fs::create_dir_all(world.log("dir")).unwrap();
    let error = world.start(world.request("dir"), &shell("true")).await.unwrap_err();
    assert!(error.to_string().contains("directory"), "{error}");
    let fifo = world.path("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::from(0o600), 0).unwrap();
    let mut request = world.request("fifo");
    request.log_path = Some(bytes(&fifo));
    let error = world.start(request, &shell("true")).await.unwrap_err();
    assert!(error.to_string().contains("is a FIFO") && error.to_string().contains("must be a file"), "{error}");
    let dead = DeadDisk::mount(&world.path("dead"));
    let mut request = world.request("hung");
    request.log_path = Some(bytes(&dead.0.join("c.log")));
    let began = Instant::now();
    let error = world.start(request, &shell("true")).await.unwrap_err();
    assert_eq!(error.kind(), Some(FailureKind::TimedOut), "{error}");
    assert!(began.elapsed() < LONG);
    drop(dead);
    assert_eq!(world.client.state().await.unwrap().0.containers, []);
    world.run("good", "exit 0").await;
    assert_eq!(world.end_of("good").await.code, 0);
    world.finish().await;
}

#[tokio::test]
async fn root_a_stuck_disk_stops_only_that_log() {
    let mut world = World::with_pod().await;
    let mut request = world.request("stuck");
    request.log_path = Some(bytes(&world.path("stuck.log")));
    world.start(request, &shell("yes | head -c 10000000; sleep 1000")).await.unwrap();
    // As a writer is that waits for its disk.
    let writers = world.writers().await;
    let [writer] = writers.as_slice() else { panic!("{writers:?}") };
    rustix::process::kill_process(Pid::from_raw(*writer).unwrap(), Signal::STOP).unwrap();
    world.run("other", "echo fine; exit 3").await;
    assert_eq!(world.end_of("other").await.code, 3);
    assert_eq!(world.log_texts("other"), ["stdout F fine"]);
    let process = crate::world::process("exit 9");
    world.exec("stuck", "e", &process, Default::default()).await.unwrap();
    assert_eq!(world.end_of_exec("e").await.code, 9);
    let began = Instant::now();
    world.client.signal_container("stuck", 9, false).await.unwrap();
    assert_eq!(world.end_of("stuck").await.code, 137);
    assert!(began.elapsed() < LONG);
    world.client.delete_container("stuck").await.unwrap();
    world.finish().await;
}

#[tokio::test]
async fn root_a_full_disk_neither_blocks_nor_confuses() {
    let mut world = World::with_pod().await;
    let small = world.path("small");
    fs::create_dir(&small).unwrap();
    mount("small", &small, "tmpfs", MountFlags::empty(), Some(c"size=64k")).unwrap();
    let mut request = world.request("c");
    request.log_path = Some(bytes(&small.join("c.log")));
    // More than disk, buffer and pipe can hold: it ends all the same.
    let script =
        "yes 'some text' | head -c 3000000; echo > /tmp/done; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo last";
    world.start(request, &shell(script)).await.unwrap();
    let upper = world.path("rw-c/upper/tmp");
    wait_for("the container is not held up", || upper.join("done").exists()).await;
    unmount(&small, UnmountFlags::DETACH).unwrap();
    // Room again, in a new file.
    world.client.reopen_log("c").await.unwrap();
    fs::write(world.path("go"), "").unwrap();
    world.exec("c", "go", &crate::world::process("touch /tmp/go"), Default::default()).await.unwrap();
    assert_eq!(world.end_of("c").await.code, 0);
    let text = fs::read_to_string(small.join("c.log")).unwrap();
    let lines: Vec<&str> = text.lines().map(|line| &line[31..]).collect();
    assert!(
        lines
            .iter()
            .all(|line| ["stdout F some text", "stdout F last"].contains(line) || line.contains("were dropped here"))
    );
    assert_eq!(lines.iter().filter(|line| line.contains("were dropped here")).count(), 1);
    assert_eq!(lines.last(), Some(&"stdout F last"));
    world.finish().await;
}
