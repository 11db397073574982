use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::EngineError;
use crate::session::{StreamChoice, TerminalSize};

const ALL: StreamChoice = StreamChoice { stdin: true, stdout: true, stderr: true, tty: false, size: None };

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

async fn called(world: &World, start: &str) {
    let called = async {
        while !world.calls().iter().any(|call| call.starts_with(start)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), called).await.unwrap();
}

fn with_container(program: &str) -> (Node, Daemon, SandboxId, ContainerId) {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    let mut config = ctr("c", program);
    config.stdin = true;
    let id = daemon.run(daemon.engine.create_container(&pod, config)).unwrap();
    daemon.run(daemon.engine.start_container(&id)).unwrap();
    (node, daemon, pod, id)
}

#[test]
fn a_command_is_fed_and_read_to_its_end() {
    let (_node, daemon, _, id) = with_container("sleep");
    daemon.run(async {
        let mut session = daemon.engine.exec(&id, words(&["cat"]), ALL).await.unwrap();
        let mut stdin = session.stdin.take().unwrap();
        stdin.write_all(b"hello").await.unwrap();
        stdin.shutdown().await.unwrap();
        let mut printed = Vec::new();
        session.stdout.take().unwrap().read_to_end(&mut printed).await.unwrap();
        assert_eq!(printed, b"hello");
        assert_eq!(session.control.wait().await.unwrap().code, 0);
        assert_eq!(session.control.wait().await.unwrap().code, 0, "it may be asked again");
    });
}

#[test]
fn a_dropped_session_kills_its_command_and_one_that_ended_kills_nothing() {
    let (node, daemon, _, id) = with_container("sleep");
    daemon.run(async {
        let mut ended = daemon.engine.exec(&id, words(&["false"]), ALL).await.unwrap();
        assert_eq!(ended.control.wait().await.unwrap().code, 1);
        drop(ended);
        drop(daemon.engine.exec(&id, words(&["sleep"]), ALL).await.unwrap());
        called(&node.world, "shim.kill_exec").await;
        assert_eq!(node.world.calls().iter().filter(|call| call.starts_with("shim.kill_exec")).count(), 1);
    });
}

#[test]
fn a_caller_that_leaves_before_the_start_leaves_no_command() {
    let (node, daemon, _, id) = with_container("sleep");
    daemon.run(async {
        let gone = daemon.engine.exec(&id, words(&["hang"]), ALL);
        assert!(tokio::time::timeout(Duration::from_millis(50), gone).await.is_err());
        called(&node.world, "shim.kill_exec").await;
    });
}

#[test]
fn output_that_a_child_holds_open_ends_after_the_command() {
    let (_node, daemon, _, id) = with_container("sleep");
    daemon.run(async {
        let mut session = daemon.engine.exec(&id, words(&["daemon"]), ALL).await.unwrap();
        let mut printed = Vec::new();
        let read = session.stdout.as_mut().unwrap().read_to_end(&mut printed);
        tokio::time::timeout(Duration::from_secs(30), read).await.unwrap().unwrap();
        assert_eq!(session.control.wait().await.unwrap().code, 0);
    });
}

#[test]
fn the_death_of_the_shim_is_told() {
    let (node, daemon, pod, id) = with_container("sleep");
    daemon.run(async {
        let mut session = daemon.engine.exec(&id, words(&["sleep"]), ALL).await.unwrap();
        node.world.kill_shim(&pod);
        assert!(matches!(session.control.wait().await, Err(EngineError::Unavailable(_))));
    });
}

#[test]
fn terminals_are_resized_where_they_are() {
    let (node, daemon, _, id) = with_container("sleep");
    daemon.run(async {
        let tty = StreamChoice { tty: true, ..ALL };
        let session = daemon.engine.exec(&id, words(&["sleep"]), tty).await.unwrap();
        assert!(session.stderr.is_none());
        session.control.resize(TerminalSize { columns: 80, rows: 24 }).await.unwrap();
        let attached = daemon.engine.attach(&id, ALL).await.unwrap();
        attached.control.resize(TerminalSize { columns: 81, rows: 25 }).await.unwrap();
        let calls = node.world.calls();
        assert!(calls.contains(&"shim.resize exec 80x24".to_owned()), "{calls:?}");
        assert!(calls.contains(&"shim.resize container 81x25".to_owned()), "{calls:?}");
    });
}

#[test]
fn an_attached_client_sees_the_end_and_leaves_without_harm() {
    let (node, daemon, _, id) = with_container("sleep");
    daemon.run(async {
        drop(daemon.engine.attach(&id, ALL).await.unwrap());
        assert!(matches!(daemon.state(&id), ContainerState::Running { .. }));
        let mut session = daemon.engine.attach(&id, ALL).await.unwrap();
        assert!(session.stdin.is_some());
        node.world.exit(&id, 7);
        let mut printed = Vec::new();
        session.stdout.as_mut().unwrap().read_to_end(&mut printed).await.unwrap();
        assert_eq!(session.control.wait().await.unwrap().code, 7);
        let late = daemon.engine.attach(&id, ALL).await;
        assert!(matches!(&late, Err(EngineError::FailedPrecondition(text)) if text.contains("exit code 7")));
    });
}

#[test]
fn places_for_clients_are_bounded_and_come_back() {
    let (_node, daemon, _, id) = with_container("sleep");
    daemon.run(async {
        let mut sessions = Vec::new();
        let refused = loop {
            match daemon.engine.attach(&id, StreamChoice::default()).await {
                Ok(session) => sessions.push(session),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, EngineError::Exhausted(_)));
        assert_eq!(sessions.len(), crate::container::session::MAX_ATTACHED);
        sessions.pop();
        daemon.engine.attach(&id, StreamChoice::default()).await.unwrap();
    });
}

#[test]
fn a_port_of_a_pod_is_reached_or_refused() {
    let (_node, daemon, pod, _) = with_container("sleep");
    daemon.run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connection = daemon.engine.port_forward(&pod, port).await.unwrap();
        drop(listener);
        let refused = daemon.engine.port_forward(&pod, port).await;
        assert!(matches!(refused, Err(EngineError::Unavailable(_))), "{refused:?}");
        let mut ended = std::pin::pin!(connection.pod.ended());
        tokio::select! {
            biased;
            () = &mut ended => panic!("the pod is ready"),
            () = std::future::ready(()) => (),
        }
        daemon.engine.stop_sandbox(&pod).await.unwrap();
        ended.await;
        let stopped = daemon.engine.port_forward(&pod, port).await;
        assert!(matches!(stopped, Err(EngineError::FailedPrecondition(_))), "{stopped:?}");
    });
}
