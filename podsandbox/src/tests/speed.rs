//! What the engine itself costs, printed: `cargo test -p podwright-podsandbox speed -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use super::*;
use crate::{ContainerFilter, SandboxFilter};

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
#[ignore = "a measurement"]
fn speed_of_pods_one_after_another() {
    let node = Node::new();
    let daemon = node.start();
    let (mut ups, mut downs) = (Vec::new(), Vec::new());
    for n in 0..100 {
        let clock = Instant::now();
        let pod = daemon.sandbox(&format!("pod-{n}"));
        daemon.running(&pod, "c", "sleep");
        ups.push(clock.elapsed());
        let clock = Instant::now();
        daemon.run(daemon.engine.remove_sandbox(&pod)).unwrap();
        downs.push(clock.elapsed());
    }
    println!("sandbox, create, start: p50 {:?}; remove: p50 {:?}", middle(ups), middle(downs));
}

#[test]
#[ignore = "a measurement"]
fn speed_of_lists_of_500_pods() {
    let node = Node::new();
    let daemon = node.start();
    for n in 0..500 {
        let pod = daemon.sandbox(&format!("pod-{n}"));
        daemon.running(&pod, "c", "sleep");
    }
    let clock = Instant::now();
    for _ in 0..100 {
        assert_eq!(daemon.engine.sandboxes(&SandboxFilter::default()).len(), 500);
        assert_eq!(daemon.engine.containers(&ContainerFilter::default()).len(), 500);
    }
    println!("both lists of 500: {:?}", clock.elapsed() / 100);
    daemon.crash();
    let clock = Instant::now();
    let daemon = node.start();
    println!("recovery of {} pods: {:?}", daemon.report.running, clock.elapsed());
}
