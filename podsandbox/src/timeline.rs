//! What was done for a sandbox, step by step, with times and errors: the answer to "why does this pod not start".

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Entries kept for each sandbox and container.
const ENTRIES_KEPT: usize = 32;
/// Longest recorded error, in bytes.
const ERROR_BYTES: usize = 512;

/// One step that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// Name of the step, with `undo ` before it where it was undone.
    pub step: String,
    /// Nanoseconds since the epoch.
    pub started_at_nanos: i64,
    /// How long it took, in microseconds.
    pub took_micros: u64,
    /// Why it failed.
    pub error: Option<String>,
}

/// One step that is being tried now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepUnderWay {
    /// Name of the step, as in [`TimelineEntry`].
    pub step: String,
    /// Nanoseconds since the epoch.
    pub started_at_nanos: i64,
    /// What it waits for, where that has a name.
    pub waits_for: Option<String>,
}

/// The newest entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Timeline(VecDeque<TimelineEntry>);

impl Timeline {
    pub(crate) fn push(&mut self, mut entry: TimelineEntry) {
        if let Some(error) = &mut entry.error {
            let end = (0..=ERROR_BYTES.min(error.len())).rev().find(|i| error.is_char_boundary(*i)).unwrap_or(0);
            error.truncate(end);
        }
        if self.0.len() >= ENTRIES_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(entry);
    }

    pub(crate) fn entries(&self) -> Vec<TimelineEntry> {
        self.0.iter().cloned().collect()
    }
}
