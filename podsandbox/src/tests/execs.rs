use std::time::{Duration, Instant};

use super::*;
use crate::{EngineError, ExecOutput};

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn exec(argv: &[&str], limit: Option<Duration>) -> (Result<ExecOutput, EngineError>, Vec<String>) {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    let id = daemon.running(&pod, "c", "sleep");
    let outcome = daemon.run(daemon.engine.exec_sync(&id, words(argv), limit));
    (outcome, node.world.calls())
}

#[test]
fn output_and_code_come_back() {
    let output = exec(&["echo", "hello"], None).0.unwrap();
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice(), output.code),
        (b"hello\n".as_slice(), b"".as_slice(), 0)
    );
    assert_eq!(exec(&["false"], None).0.unwrap().code, 1);
}

#[test]
fn a_flood_is_cut_and_not_blocked() {
    let output = exec(&["flood", "20000000"], Some(Duration::from_secs(60))).0.unwrap();
    assert_eq!((output.stdout.len(), output.code), (16 << 20, 0));
}

#[test]
fn what_runs_too_long_is_killed() {
    let (outcome, calls) = exec(&["sleep"], Some(Duration::from_millis(50)));
    assert!(matches!(&outcome, Err(EngineError::TimedOut(text)) if text.contains("killed")), "{outcome:?}");
    assert!(calls.iter().any(|call| call.starts_with("shim.kill_exec")));
}

#[test]
fn what_does_not_begin_in_time_is_killed_too() {
    let clock = Instant::now();
    let (outcome, calls) = exec(&["hang"], Some(Duration::from_millis(50)));
    assert!(matches!(&outcome, Err(EngineError::TimedOut(text)) if text.contains("was killed")), "{outcome:?}");
    assert!(calls.iter().any(|call| call.starts_with("shim.kill_exec")));
    assert!(clock.elapsed() < Duration::from_secs(20));
}

#[test]
fn children_that_keep_the_output_open_are_not_waited_for() {
    let clock = Instant::now();
    assert_eq!(exec(&["daemon"], None).0.unwrap().code, 0);
    assert!(clock.elapsed() < Duration::from_secs(20));
}

#[test]
fn it_is_killed_when_its_caller_goes_away() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    let id = daemon.running(&pod, "c", "sleep");
    daemon.run(async {
        let gone = daemon.engine.exec_sync(&id, words(&["sleep"]), None);
        assert!(tokio::time::timeout(Duration::from_millis(50), gone).await.is_err());
        let killed = async {
            while !node.world.calls().iter().any(|call| call.starts_with("shim.kill_exec")) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), killed).await.unwrap();
    });
}

#[test]
fn only_a_running_container_executes() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    let id = daemon.run(daemon.engine.create_container(&pod, ctr("c", "sleep"))).unwrap();
    let outcome = daemon.run(daemon.engine.exec_sync(&id, words(&["echo"]), None));
    assert!(matches!(outcome, Err(EngineError::FailedPrecondition(_))));
    assert!(matches!(daemon.run(daemon.engine.reopen_log(&id)), Err(EngineError::FailedPrecondition(_))));
    let nowhere = ContainerId::from_random([9; 32]);
    let outcome = daemon.run(daemon.engine.exec_sync(&nowhere, words(&["echo"]), None));
    assert!(matches!(outcome, Err(EngineError::NotFound(_))));
}

#[test]
fn the_death_of_the_shim_ends_the_wait() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    let id = daemon.running(&pod, "c", "sleep");
    let outcome = daemon.run(async {
        let exec = daemon.engine.exec_sync(&id, words(&["sleep"]), None);
        let killer = async {
            while !node.world.calls().iter().any(|call| call.starts_with("shim.exec")) {
                tokio::task::yield_now().await;
            }
            node.world.kill_shim(&pod);
        };
        tokio::join!(exec, killer).0
    });
    assert!(matches!(outcome, Err(EngineError::Unavailable(_))), "{outcome:?}");
}
