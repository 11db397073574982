//! What was done and what was found, counted for the last line.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Lines of what was left that are printed each time.
const SHOWN: usize = 30;

/// Counts of both arenas. Clones share them.
#[derive(Clone)]
pub(crate) struct Tally {
    start: Instant,
    verbose: bool,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Default)]
struct Counts {
    /// How often each step was struck.
    steps: BTreeMap<String, u64>,
    /// Strikes whose step was not reached in time.
    missed: u64,
    kills: u64,
    pods: u64,
    checks: u64,
    left_over: usize,
    /// What was wrong beyond what was left over.
    faults: Vec<String>,
}

impl Tally {
    pub(crate) fn new(verbose: bool) -> Self {
        Self { start: Instant::now(), verbose, counts: Arc::default() }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what happens, where it was asked for.
    pub(crate) fn say(&self, text: &str) {
        if self.verbose {
            println!("{:8.2} {text}", self.start.elapsed().as_secs_f64());
        }
    }

    /// A kill at a step.
    pub(crate) fn struck(&self, step: &str) {
        let mut counts = self.counts();
        counts.kills += 1;
        *counts.steps.entry(step.to_owned()).or_default() += 1;
    }

    /// A step that was not reached while it was waited for.
    pub(crate) fn missed(&self, step: &str) {
        self.counts().missed += 1;
        self.say(&format!("not reached: {step}"));
    }

    /// A pod that was made.
    pub(crate) fn pod(&self) {
        self.counts().pods += 1;
    }

    /// A check that held.
    pub(crate) fn check(&self) {
        self.counts().checks += 1;
    }

    /// Something is wrong. Printed at once, with what led to it.
    pub(crate) fn fault(&self, text: &str) {
        println!("{:8.2} FAULT {text}", self.start.elapsed().as_secs_f64());
        self.counts().faults.push(text.to_owned());
    }

    /// What is wrong so far, all together.
    pub(crate) fn faults(&self) -> usize {
        let counts = self.counts();
        counts.faults.len() + counts.left_over
    }

    /// What the host holds more, or less, than before.
    pub(crate) fn left_over(&self, lines: &[String], after: &[String]) {
        self.check();
        if lines.is_empty() {
            return;
        }
        let shown = lines.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n");
        println!("{:8.2} LEFT OVER: {} lines\n{shown}", self.start.elapsed().as_secs_f64(), lines.len());
        println!("after:\n  {}", after.join("\n  "));
        self.counts().left_over += lines.len();
    }

    /// Prints the end; whether all is well.
    pub(crate) fn close(&self, steps: &[String], complete: bool) -> bool {
        let counts = self.counts();
        let unreached: Vec<&str> =
            steps.iter().filter(|step| !counts.steps.contains_key(*step)).map(String::as_str).collect();
        if !unreached.is_empty() {
            println!("{} of {} steps never reached: {}", unreached.len(), steps.len(), unreached.join(", "));
        }
        if counts.missed > 0 {
            println!("{} strikes found their step out of reach", counts.missed);
        }
        println!("{} faults", counts.faults.len());
        counts.faults.iter().for_each(|fault| println!("  {fault}"));
        let (reached, kills, pods, checks) = (counts.steps.len(), counts.kills, counts.pods, counts.checks);
        println!("steps {reached}, kills {kills}, pods {pods}, checks {checks}, left over {}", counts.left_over);
        counts.left_over == 0 && counts.faults.is_empty() && (unreached.is_empty() || !complete)
    }
}
