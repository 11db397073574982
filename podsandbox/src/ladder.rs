//! A table of steps and the executor that climbs and descends it.
//!
//! ```text
//!        climb: record intent, run          descend: undo
//!   nothing ──────────> step 1 ──> step 2 ──> … ──> top
//!   nothing <────────── step 1 <── step 2 <── … <── top
//! ```
//!
//! A sandbox and a container each have one table. Making an object climbs, stopping and removing it descends, and so does a
//! failed or interrupted making: every undo is safe to repeat and safe where its step was never run. Recovery reads which
//! steps were begun and what the goal was, and climbs or descends on. Fail points and timelines take the names of the steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::EngineError;
use crate::failpoints::FailPoints;
use crate::timeline::{StepUnderWay, Timeline, TimelineEntry};
use crate::util::now_nanos;

/// Longest time for one step. What stands behind the ports has shorter limits of its own; this one keeps an operation from
/// being held for ever by one that has not.
const STEP_LIMIT: Duration = Duration::from_secs(240);

/// First wait before a record that could not be written is tried again; doubled each time.
const SAVE_FIRST: Duration = Duration::from_secs(1);
/// Longest wait before it is tried again.
const SAVE_MOST: Duration = Duration::from_secs(30);

/// How a step ends.
pub(crate) type Outcome = Result<(), EngineError>;

/// What a step does, or how it is undone.
pub(crate) type Act<T> = fn(Arc<T>) -> BoxFuture<'static, Outcome>;

/// One row of a table.
pub(crate) struct Step<T: 'static> {
    /// Name, as recorded and shown.
    pub(crate) name: &'static str,
    /// Does it. Not repeated, unless undone before.
    pub(crate) run: Act<T>,
    /// Undoes it. Repeatable, and right where `run` was not or only partly done.
    pub(crate) undo: Act<T>,
    /// What has to be on disk before it is run.
    pub(crate) intent: fn(&T) -> Intent,
    /// Whether the steps below can be undone only after this one was.
    pub(crate) gate: bool,
}

/// How the intent of a step is recorded before it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Not at once: what it does stays in memory, in the object's own directory, or with what a step below it undoes.
    Own,
    /// In the record.
    Recorded,
}

/// Where an object is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Goal {
    /// It is made, and then stays.
    Up,
    /// It gives back all but its record.
    Stopped,
    /// It goes away.
    Removed,
}

/// How far an object is; recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Where it is to go.
    pub(crate) goal: Goal,
    /// Steps that were begun and not undone, in order.
    begun: Vec<String>,
    /// The step that was begun and has not ended.
    in_flight: Option<String>,
    /// What was tried.
    pub(crate) timeline: Timeline,
    /// What is being tried now; means nothing to another daemon.
    #[serde(skip)]
    pub(crate) under_way: Option<StepUnderWay>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { goal: Goal::Up, begun: Vec::new(), in_flight: None, timeline: Timeline::default(), under_way: None }
    }

    /// An object of which nothing is known but that any step may have been run.
    pub(crate) fn all_begun<T: Climb>(goal: Goal) -> Self {
        Self { goal, begun: T::STEPS.iter().map(|step| step.name.to_owned()).collect(), ..Self::new() }
    }

    /// Whether the step was begun and not undone.
    pub(crate) fn begun(&self, step: &str) -> bool {
        self.begun.iter().any(|name| name == step)
    }

    /// Whether the step was run to its end and not undone.
    pub(crate) fn done(&self, step: &str) -> bool {
        self.begun(step) && self.in_flight.as_deref() != Some(step)
    }

    /// Whether a step after the named one was begun and not undone.
    pub(crate) fn begun_above(&self, step: &str) -> bool {
        self.begun.iter().skip_while(|name| *name != step).count() > 1
    }

    /// The step that was in flight when the record was written.
    pub(crate) fn in_flight(&self) -> Option<&str> {
        self.in_flight.as_deref()
    }

    /// Says that a step that was in flight turned out to be done.
    pub(crate) fn settle(&mut self) {
        self.in_flight = None;
    }

    fn begin(&mut self, step: &str) {
        if !self.begun(step) {
            self.begun.push(step.to_owned());
        }
        self.in_flight = Some(step.to_owned());
    }

    fn undone(&mut self, step: &str) {
        self.begun.retain(|name| name != step);
        if self.in_flight() == Some(step) {
            self.in_flight = None;
        }
    }
}

/// An object with a table.
pub(crate) trait Climb: Send + Sync + Sized + 'static {
    /// `sandbox` or `container`; names its fail points.
    const KIND: &'static str;
    /// The table, from the bottom.
    const STEPS: &'static [Step<Self>];
    /// The object in words.
    fn describe(&self) -> String;
    /// Reads or changes how far it is.
    fn progress<R>(&self, edit: impl FnOnce(&mut Progress) -> R) -> R;
    /// Writes its record.
    fn save(&self) -> impl Future<Output = Outcome> + Send;
    /// Whether a task tries again and again to write its record.
    fn saving(&self) -> &AtomicBool;
    /// Fail points of its engine.
    fn failpoints(&self) -> &FailPoints;
}

/// Writes the record soon, without anybody waiting. On a disk that is full it is tried again until it is written or gone: what an
/// object became must not be lost with the daemon.
pub(crate) fn save_soon<T: Climb>(object: &Arc<T>) {
    let object = object.clone();
    tokio::spawn(async move {
        let mut pause = SAVE_FIRST;
        loop {
            // Before the state is read, so that whoever changes it later does not rely on this try.
            object.saving().store(false, Ordering::SeqCst);
            let Err(error) = object.save().await else { return };
            if object.saving().swap(true, Ordering::SeqCst) {
                return;
            }
            tracing::warn!(object = %object.describe(), %error, again_in = ?pause, "its record could not be written");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(SAVE_MOST);
        }
    });
}

/// Runs all steps up to and with `top` that are not done. At the first failure it stops; the caller descends.
pub(crate) async fn climb<T: Climb>(object: &Arc<T>, top: &str) -> Outcome {
    for step in T::STEPS {
        if !object.progress(|p| p.done(step.name)) {
            run(object, step).await?;
        }
        if step.name == top {
            break;
        }
    }
    Ok(())
}

async fn run<T: Climb>(object: &Arc<T>, step: &Step<T>) -> Outcome {
    let goal = object.progress(|p| {
        p.begin(step.name);
        p.goal
    });
    if goal != Goal::Up {
        let text = format!("{}: it was stopped or removed while step {:?} was due", object.describe(), step.name);
        return Err(EngineError::FailedPrecondition(text));
    }
    match (step.intent)(object) {
        Intent::Own => {}
        Intent::Recorded => object.save().await?,
    }
    let points = object.failpoints();
    let act = async {
        points.hit(|| format!("{} {}", T::KIND, step.name)).await?;
        (step.run)(object.clone()).await?;
        points.hit(|| format!("{} {} done", T::KIND, step.name)).await
    };
    timed(object, step.name.to_owned(), act).await.map_err(|e| e.within(explain(object.as_ref(), step.name)))?;
    object.progress(Progress::settle);
    Ok(())
}

/// Writes the record at the beginning and the end of a descent, or later if that can not be done now. A full disk does not hold a
/// descent up: it is what gives space back, and each undo may be repeated, so that a daemon that dies meanwhile finds a broken
/// object and is told again to take it down.
pub(crate) async fn save_or_later<T: Climb>(object: &Arc<T>) {
    if object.save().await.is_err() {
        save_soon(object);
    }
}

/// Undoes all begun steps above the one named `keep` (`None`: all), the topmost first. A failed gate ends it, unless only a file system
/// refuses to be written to; other failures are told at the end. Call it again to go on.
pub(crate) async fn descend<T: Climb>(object: &Arc<T>, keep: Option<&str>) -> Outcome {
    let mut first_error = None;
    for step in T::STEPS.iter().rev() {
        if Some(step.name) == keep {
            break;
        }
        if !object.progress(|p| p.begun(step.name)) {
            continue;
        }
        if let Err(error) = undo(object, step).await {
            // What can not be written to holds up files, and nothing that the kernel holds.
            let is_gate = step.gate && !matches!(error, EngineError::ReadOnly(_));
            // Another failure says more than that.
            if first_error.as_ref().is_none_or(|first| matches!(first, EngineError::ReadOnly(_))) {
                first_error = Some(error);
            }
            if is_gate {
                break;
            }
        }
    }
    first_error.map_or(Ok(()), Err)
}

async fn undo<T: Climb>(object: &Arc<T>, step: &Step<T>) -> Outcome {
    let act = async {
        object.failpoints().hit(|| format!("{} undo {}", T::KIND, step.name)).await?;
        (step.undo)(object.clone()).await
    };
    let name = format!("undo {}", step.name);
    timed(object, name.clone(), act).await.map_err(|e| e.within(explain(object.as_ref(), &name)))?;
    object.progress(|p| p.undone(step.name));
    Ok(())
}

fn explain<T: Climb>(object: &T, step: &str) -> String {
    format!("{}: step {step:?}", object.describe())
}

async fn timed<T: Climb>(object: &Arc<T>, step: String, act: impl Future<Output = Outcome>) -> Outcome {
    let (started_at_nanos, clock) = (now_nanos(), Instant::now());
    object.progress(|p| p.under_way = Some(StepUnderWay { step: step.clone(), started_at_nanos, waits_for: None }));
    let too_long = || EngineError::TimedOut(format!("it did not end within {} s", STEP_LIMIT.as_secs()));
    let outcome = timeout(STEP_LIMIT, act).await.unwrap_or_else(|_| Err(too_long()));
    let took_micros = u64::try_from(clock.elapsed().as_micros()).unwrap_or(u64::MAX);
    let error = outcome.as_ref().err().map(ToString::to_string);
    tracing::debug!(object = %object.describe(), step, took_micros, error, "step");
    object.progress(|p| {
        p.under_way = None;
        p.timeline.push(TimelineEntry { step, started_at_nanos, took_micros, error });
    });
    outcome
}
