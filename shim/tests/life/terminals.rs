//! Terminals, attached clients and stdin.

use podwright_shim_api::client::StreamFds;
use podwright_shim_api::{Resize, TerminalSize};
use serde_json::json;

use crate::world::{World, pipe, process, read_all, read_until, shell, wait_for};

fn size(container: &str, exec: &str) -> Resize {
    let size = Some(TerminalSize { columns: 123, rows: 45 });
    Resize { container: container.into(), exec: exec.into(), size }
}

#[tokio::test]
async fn root_an_exec_with_a_terminal_can_be_typed_into_and_resized() {
    let mut world = World::with_pod().await;
    world.run("c", "sleep 1000").await;
    let (stdin, to_stdin) = pipe();
    let (from_stdout, stdout) = pipe();
    let mut terminal = process("echo ready; read line; stty size; echo got $line; exit 4");
    terminal["terminal"] = json!(true);
    let streams = StreamFds { stdin: Some(stdin), stdout: Some(stdout), stderr: None };
    world.exec("c", "t", &terminal, streams).await.unwrap();
    read_until(&from_stdout, "ready").await;
    world.client.resize(size("c", "t")).await.unwrap();
    rustix::io::write(&to_stdin, b"typed\n").unwrap();
    assert_eq!(world.end_of_exec("t").await.code, 4);
    let rest = String::from_utf8(read_all(from_stdout).await).unwrap();
    assert!(rest.contains("45 123\r\n") && rest.contains("got typed\r\n"), "{rest:?}");
    world.finish().await;
}

#[tokio::test]
async fn root_a_slow_reader_of_a_terminal_loses_nothing() {
    let mut world = World::with_pod().await;
    world.run("c", "sleep 1000").await;
    let (from_stdout, stdout) = pipe();
    let mut terminal = process("seq 1 100000");
    terminal["terminal"] = json!(true);
    world.exec("c", "t", &terminal, StreamFds { stdout: Some(stdout), ..StreamFds::default() }).await.unwrap();
    // Far more than all buffers hold; only now it is read.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let all = String::from_utf8(read_all(from_stdout).await).unwrap();
    let want: String = (1..=100_000).map(|number| format!("{number}\r\n")).collect();
    assert!(all == want, "{} bytes of {}", all.len(), want.len());
    assert_eq!(world.end_of_exec("t").await.code, 0);
    world.finish().await;
}

#[tokio::test]
async fn root_a_container_with_a_terminal_logs_and_serves_clients() {
    let mut world = World::with_pod().await;
    let mut spec = shell("echo ready; read line; stty size; echo got $line; echo err >&2");
    spec["process"]["terminal"] = json!(true);
    let mut request = world.request("c");
    request.stdin = true;
    world.start(request, &spec).await.unwrap();
    let (stdin, to_stdin) = pipe();
    let (from_stdout, stdout) = pipe();
    let streams = StreamFds { stdin: Some(stdin), stdout: Some(stdout), stderr: None };
    world.client.attach("c", streams).await.unwrap();
    world.client.resize(size("c", "")).await.unwrap();
    rustix::io::write(&to_stdin, b"typed\n").unwrap();
    let seen = String::from_utf8(read_all(from_stdout).await).unwrap();
    assert!(seen.contains("got typed\r\n"), "{seen:?}");
    assert_eq!(world.end_of("c").await.code, 0);
    let texts = world.log_texts("c");
    assert!(texts.contains(&"stdout F 45 123".to_owned()) && texts.contains(&"stdout F err".to_owned()), "{texts:?}");
    world.finish().await;
}

#[tokio::test]
async fn root_attached_clients_share_the_streams() {
    let mut world = World::with_pod().await;
    let mut request = world.request("c");
    (request.stdin, request.stdin_once) = (true, true);
    world.start(request, &shell("cat; echo err >&2")).await.unwrap();
    let (stdin, to_stdin) = pipe();
    let (from_stdout, stdout) = pipe();
    let (from_stderr, stderr) = pipe();
    let (watched, watching) = pipe();
    world.client.attach("c", StreamFds { stdout: Some(watching), ..StreamFds::default() }).await.unwrap();
    let streams = StreamFds { stdin: Some(stdin), stdout: Some(stdout), stderr: Some(stderr) };
    world.client.attach("c", streams).await.unwrap();
    rustix::io::write(&to_stdin, b"hello\n").unwrap();
    read_until(&from_stdout, "hello").await;
    // The first client's end is the end of stdin, and so of the container.
    drop(to_stdin);
    assert_eq!(world.end_of("c").await.code, 0);
    assert_eq!(read_all(from_stderr).await, b"err\n");
    assert_eq!(read_all(watched).await, b"hello\n");
    assert_eq!(world.log_texts("c"), ["stdout F hello", "stderr F err"]);
    world.finish().await;
}

#[tokio::test]
async fn root_stdin_stays_open_until_it_is_closed() {
    let mut world = World::with_pod().await;
    let mut request = world.request("c");
    request.stdin = true;
    world.start(request, &shell("cat; exit 8")).await.unwrap();
    for text in ["one\n", "two\n"] {
        let (stdin, to_stdin) = pipe();
        world.client.attach("c", StreamFds { stdin: Some(stdin), ..StreamFds::default() }).await.unwrap();
        rustix::io::write(&to_stdin, text.as_bytes()).unwrap();
        let log = world.log("c");
        wait_for("it came through", || std::fs::read_to_string(&log).unwrap().contains(text)).await;
    }
    world.client.close_stdin("c").await.unwrap();
    assert_eq!(world.end_of("c").await.code, 8);
    assert_eq!(world.log_texts("c"), ["stdout F one", "stdout F two"]);
    world.finish().await;
}

#[tokio::test]
async fn root_a_client_that_does_not_read_never_stalls_the_log() {
    let mut world = World::with_pod().await;
    let mut request = world.request("c");
    request.stdin = true;
    world.start(request, &shell("read line; seq 1 200000")).await.unwrap();
    let (stdin, to_stdin) = pipe();
    let (unread, stdout) = pipe();
    let streams = StreamFds { stdin: Some(stdin), stdout: Some(stdout), stderr: None };
    world.client.attach("c", streams).await.unwrap();
    // It writes only when somebody is there who does not read.
    rustix::io::write(&to_stdin, b"go\n").unwrap();
    assert_eq!(world.end_of("c").await.code, 0);
    assert_eq!(world.log_texts("c").len(), 200_000);
    drop(unread);
    world.finish().await;
}
