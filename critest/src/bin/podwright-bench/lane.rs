//! What was measured of each contender in one row, and who dropped out of a part of the run, and why.

use std::future::Future;
use std::time::Duration;

use anyhow::Result;

use crate::contender::Contender;
use crate::sample::Samples;

/// Longest time of one step of one contender (hundreds of pods are one step); over it, the contender has failed.
const STEP_LIMIT: Duration = Duration::from_secs(300);

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

    /// Notes who failed.
    #[must_use]
    pub(crate) fn after(mut self, part: &Part) -> Self {
        for (lane, failure) in self.0.iter_mut().zip(&part.failures) {
            lane.failure.clone_from(failure);
        }
        self
    }

    pub(crate) fn get(&self) -> &[Lane] {
        &self.0
    }
}

/// A part of the run: a contender that fails in it is left out of the rest of it, and the others go on.
#[derive(Debug)]
pub(crate) struct Part {
    names: Vec<String>,
    failures: Vec<Option<String>>,
}

impl Part {
    pub(crate) fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        Self { failures: vec![None; names.len()], names }
    }

    /// Does a step of one contender. `None` if it fails, or failed before.
    pub(crate) async fn step<T>(&mut self, index: usize, work: impl Future<Output = Result<T>>) -> Option<T> {
        if self.has_failed(index) {
            return None;
        }
        let text = match tokio::time::timeout(STEP_LIMIT, work).await {
            Ok(Ok(done)) => return Some(done),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("no end within {} s", STEP_LIMIT.as_secs()),
        };
        self.fail(index, text);
        None
    }

    /// Leaves a contender out from now on.
    pub(crate) fn fail(&mut self, index: usize, text: String) {
        println!("  {} fails: {text}", self.names.get(index).map_or("?", String::as_str));
        if let Some(failure) = self.failures.get_mut(index) {
            *failure = Some(text);
        }
    }

    pub(crate) fn has_failed(&self, index: usize) -> bool {
        self.failures.get(index).is_none_or(Option::is_some)
    }

    /// Removes the pods that contenders still have which failed.
    pub(crate) async fn tidy(&self, contenders: &mut [Contender]) {
        for (contender, failure) in contenders.iter_mut().zip(&self.failures) {
            if failure.is_some() {
                // What is still there after that is in nobody's way: names are not used again.
                let _ = tokio::time::timeout(STEP_LIMIT, contender.remove_all()).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[tokio::test]
    async fn who_fails_is_left_out_and_the_others_go_on() {
        let mut part = Part::of(["podwright", "peer"]);
        assert_eq!(part.step(1, async { bail!("it hung up") }).await, None::<()>);
        assert_eq!(part.step(1, async { Ok(1) }).await, None);
        assert_eq!(part.step(0, async { Ok(2) }).await, Some(2));
        let mut lanes = Lanes::of(["podwright", "peer"]);
        lanes.push_value(0, 2.0);
        lanes.push_value(7, 1.0);
        let lanes = lanes.after(&part);
        let failures: Vec<Option<&str>> = lanes.get().iter().map(|lane| lane.failure.as_deref()).collect();
        assert_eq!(failures, [None, Some("it hung up")]);
        assert_eq!(lanes.get().iter().map(|lane| lane.samples.len()).collect::<Vec<_>>(), [1, 0]);
    }
}
