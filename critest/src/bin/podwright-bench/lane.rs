//! What was measured of each contender in one row, and who dropped out of a part of the run, and why.

use std::future::Future;
use std::time::Duration;

use anyhow::Result;

use crate::contender::Contender;
use crate::sample::Samples;

/// Longest time of one step of one contender (hundreds of pods are one step); over it, the contender has failed.
const STEP_LIMIT: Duration = Duration::from_secs(300);
/// Failures after which a peer is left out. Peers do fail now and then; of ours, one failure is enough.
const STUMBLES: usize = 3;

/// One contender's part of a row.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    pub(crate) name: String,
    /// None where the row is not measured of it.
    pub(crate) samples: Samples,
    /// Why it has no whole result.
    pub(crate) failure: Option<String>,
}

/// All contenders' parts of a row, ours first.
#[derive(Debug, Clone)]
pub(crate) struct Lanes(Vec<Lane>);

impl Lanes {
    /// Empty ones for these names.
    pub(crate) fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let lane = |name: &str| Lane { name: name.into(), samples: Samples::default(), failure: None };
        Self(names.into_iter().map(lane).collect())
    }

    /// Adds a time in milliseconds.
    pub(crate) fn push(&mut self, index: usize, taken: Duration) {
        if let Some(lane) = self.0.get_mut(index) {
            lane.samples.push(taken);
        }
    }

    /// Adds a value in the unit of the row.
    pub(crate) fn push_value(&mut self, index: usize, value: f64) {
        if let Some(lane) = self.0.get_mut(index) {
            lane.samples.push_value(value);
        }
    }

    /// Notes who failed: who was left out, and who has no value because of a failure.
    #[must_use]
    pub(crate) fn after(mut self, part: &Part) -> Self {
        for (lane, runner) in self.0.iter_mut().zip(&part.runners) {
            if runner.is_out || lane.samples.len() == 0 {
                lane.failure.clone_from(&runner.failure);
            }
        }
        self
    }

    pub(crate) fn get(&self) -> &[Lane] {
        &self.0
    }
}

/// How a contender fares in a part of the run.
#[derive(Debug)]
struct Runner {
    name: String,
    stumbles: usize,
    /// The last.
    failure: Option<String>,
    is_out: bool,
}

/// A part of the run: a contender that fails in it is left out of the rest of it, and the others go on.
#[derive(Debug)]
pub(crate) struct Part {
    runners: Vec<Runner>,
}

impl Part {
    /// Ours is the first.
    pub(crate) fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let runner = |name: &str| Runner { name: name.into(), stumbles: 0, failure: None, is_out: false };
        Self { runners: names.into_iter().map(runner).collect() }
    }

    /// Does a step of one contender. `None` if it fails, or is left out.
    pub(crate) async fn step<T>(&mut self, index: usize, work: impl Future<Output = Result<T>>) -> Option<T> {
        if self.runners.get(index).is_none_or(|runner| runner.is_out) {
            return None;
        }
        match tokio::time::timeout(STEP_LIMIT, work).await {
            Ok(Ok(done)) => return Some(done),
            Ok(Err(error)) => self.stumble(index, format!("{error:#}")),
            // Another try would take as long.
            Err(_) => self.fail(index, format!("no end within {} s", STEP_LIMIT.as_secs())),
        }
        None
    }

    fn stumble(&mut self, index: usize, text: String) {
        if let Some(runner) = self.runners.get_mut(index) {
            runner.stumbles += 1;
            runner.is_out = index == 0 || runner.stumbles >= STUMBLES;
            let end = if runner.is_out { "; it is left out" } else { "" };
            println!("  {} fails: {text}{end}", runner.name);
            runner.failure = Some(text);
        }
    }

    /// Leaves a contender out from now on.
    pub(crate) fn fail(&mut self, index: usize, text: String) {
        if let Some(runner) = self.runners.get_mut(index) {
            runner.stumbles = STUMBLES;
        }
        self.stumble(index, text);
    }

    /// Removes the pods that contenders still have which failed, and starts those again that do not answer.
    pub(crate) async fn tidy(&self, contenders: &mut [Contender]) {
        for (contender, runner) in contenders.iter_mut().zip(&self.runners) {
            if runner.failure.is_none() {
                continue;
            }
            let tidied = tokio::time::timeout(STEP_LIMIT, contender.remove_all()).await;
            if matches!(tidied, Ok(Ok(()))) {
                continue;
            }
            // What is still there after that is in nobody's way: names are not used again.
            match tokio::time::timeout(STEP_LIMIT, contender.restart()).await {
                Ok(Ok(_)) => println!("  {} was started again", runner.name),
                Ok(Err(error)) => println!("  {} does not start again: {error:#}", runner.name),
                Err(_) => println!("  {} does not start again in time", runner.name),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    fn failures(lanes: &Lanes) -> Vec<Option<&str>> {
        lanes.get().iter().map(|lane| lane.failure.as_deref()).collect()
    }

    #[tokio::test]
    async fn who_fails_is_left_out_and_the_others_go_on() {
        let mut part = Part::of(["podwright", "peer"]);
        for _ in 0..STUMBLES {
            assert_eq!(part.step(1, async { bail!("it hung up") }).await, None::<()>);
        }
        assert_eq!(part.step(1, async { Ok(1) }).await, None);
        assert_eq!(part.step(0, async { Ok(2) }).await, Some(2));
        let mut lanes = Lanes::of(["podwright", "peer"]);
        lanes.push_value(0, 2.0);
        lanes.push_value(1, 9.0);
        lanes.push_value(7, 1.0);
        let lanes = lanes.after(&part);
        assert_eq!(failures(&lanes), [None, Some("it hung up")]);
        assert_eq!(lanes.get().iter().map(|lane| lane.samples.len()).collect::<Vec<_>>(), [1, 1]);
    }

    #[tokio::test]
    async fn a_peer_may_stumble_and_we_may_not() {
        let mut part = Part::of(["podwright", "peer"]);
        for index in [0, 1] {
            assert_eq!(part.step(index, async { bail!("it hung up") }).await, None::<()>);
        }
        assert_eq!(part.step(1, async { Ok(1) }).await, Some(1));
        assert_eq!(part.step(0, async { Ok(1) }).await, None);
        let mut lanes = Lanes::of(["podwright", "peer"]);
        lanes.push_value(1, 1.0);
        assert_eq!(failures(&lanes.clone().after(&part)), [Some("it hung up"), None]);
        assert_eq!(failures(&Lanes::of(["podwright", "peer"]).after(&part)), [Some("it hung up"); 2], "no value");
    }
}
