//! How long it takes from the clone to the program, and to its end. Run with `--ignored`.

use std::time::{Duration, Instant};

use podwright_runtime::{Namespaces, SeccompChoice};

use crate::fixture::{Fixture, follow, streams, wait};
use crate::harness::Test;

pub(crate) const TESTS: &[Test] = &[("root_bench_spawn_and_exec", spawn_and_exec)];

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    println!("{what}: p50 {:.2} ms, p95 {:.2} ms", at(50), at(95));
}

fn spawn_and_exec() {
    let mut fixture = Fixture::new();
    fixture.with_cgroup("bench");
    fixture.seccomp = SeccompChoice::RuntimeDefault;
    let output = tempfile::tempfile().unwrap();
    let (mut started, mut ended) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        let begin = Instant::now();
        let mut starting = fixture.start(streams(&output), &Namespaces::default());
        follow(&mut starting).unwrap();
        started.push(begin.elapsed());
        assert_eq!(wait(&starting), 0);
        ended.push(begin.elapsed());
    }
    report("spawn of `true` to its exec", started);
    report("spawn of `true` to its end", ended);
    let sleeper = fixture.sleeper();
    let mut executed = Vec::new();
    for _ in 0..100 {
        let begin = Instant::now();
        let mut starting = fixture.exec(sleeper.0.pidfd(), &["true"], streams(&output));
        follow(&mut starting).unwrap();
        assert_eq!(wait(&starting), 0);
        executed.push(begin.elapsed());
    }
    report("exec of `true` to its end", executed);
}
