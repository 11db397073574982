//! ginkgo's JSON report: which specs passed, failed and skipped, and with what words.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::skips::Skips;

/// How ginkgo says that the time limit of all specs together has passed: of the spec that it met, and of the suite.
const CUT_SPEC: &str = "A suite timeout occurred";
const CUT_SUITE: &str = "Suite Timeout";
/// A spec that had run for so long when the limit met it hangs; no slow machine explains that.
const LONGEST_SPEC_SECONDS: u64 = 300;

/// Lines of a failed spec's own output that are shown.
const SHOWN_LINES: usize = 12;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Suite {
    #[serde(default)]
    spec_reports: Option<Vec<Node>>,
    #[serde(default)]
    special_suite_failure_reasons: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(default)]
    container_hierarchy_texts: Option<Vec<String>>,
    #[serde(default)]
    leaf_node_type: String,
    #[serde(default)]
    leaf_node_text: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    failure: Failure,
    #[serde(default)]
    captured_ginkgo_writer_output: String,
    /// In nanoseconds.
    #[serde(default)]
    run_time: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    #[serde(default)]
    message: String,
    #[serde(default)]
    location: Location,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Location {
    #[serde(default)]
    file_name: String,
    #[serde(default)]
    line_number: u64,
}

/// How one spec ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Passed,
    /// By its own decision.
    Skipped(String),
    /// By the choice of specs.
    NotChosen,
    /// By the time limit, after this long.
    Cut {
        seconds: u64,
    },
    Failed(String),
}

/// A spec.
#[derive(Debug)]
struct Spec {
    name: String,
    end: End,
    output: String,
}

/// Whether all specs were to run, or the caller chose some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chosen {
    /// All but those that skips.toml names.
    All,
    /// Some.
    Some,
}

/// What the time limit of all specs together means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtLimit {
    /// That something is wrong.
    Fail,
    /// That the rest is not run: the machine is slow, or the limit short.
    Leave,
}

/// All specs of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    specs: Vec<Spec>,
    out_of_time: bool,
}

impl Report {
    /// Reads ginkgo's file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("reading ginkgo's report {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let suites: Vec<Suite> = serde_json::from_str(text).context("ginkgo's report is not as expected")?;
        let reasons = |suite: &Suite| suite.special_suite_failure_reasons.clone().unwrap_or_default();
        let out_of_time = suites.iter().flat_map(reasons).any(|reason| reason.contains(CUT_SUITE));
        let nodes = suites.into_iter().flat_map(|suite| suite.spec_reports.unwrap_or_default());
        let specs: Vec<Spec> = nodes.filter_map(Node::spec).collect();
        ensure!(!specs.is_empty(), "ginkgo's report names no spec");
        Ok(Self { specs, out_of_time })
    }

    /// Whether the time limit of all specs together ended the run, and may.
    pub(crate) fn is_cut(&self, at_limit: AtLimit) -> bool {
        self.out_of_time && at_limit == AtLimit::Leave
    }

    /// What must not be: failures, skips that are not allowed, a run of nothing.
    pub(crate) fn faults(&self, skips: &Skips, chosen: Chosen, at_limit: AtLimit) -> Vec<String> {
        let cut = self.is_cut(at_limit);
        let mut faults: Vec<String> = self.specs.iter().filter_map(|spec| spec.fault(skips, chosen, cut)).collect();
        if !self.specs.iter().any(|spec| spec.end == End::Passed) {
            faults.push("no spec passed".into());
        }
        faults
    }

    /// The counts in ginkgo's words.
    pub(crate) fn counts(&self) -> String {
        let count = |wanted: fn(&End) -> bool| self.specs.iter().filter(|spec| wanted(&spec.end)).count();
        let failed = count(|end| matches!(end, End::Failed(_)));
        format!(
            "{}! -- {} Passed | {failed} Failed | 0 Pending | {} Skipped",
            if failed == 0 { "SUCCESS" } else { "FAIL" },
            count(|end| *end == End::Passed),
            count(|end| matches!(end, End::Skipped(_) | End::NotChosen | End::Cut { .. })),
        )
    }

    /// Lists failures with their output, skips with their reasons, and what was not reached.
    pub(crate) fn print(&self, skips: &Skips, chosen: Chosen, at_limit: AtLimit) {
        for spec in &self.specs {
            match &spec.end {
                End::Failed(message) => {
                    println!("failed: {}\n{}\n{}", spec.name, indented(message), spec.shown_output())
                }
                End::Skipped(reason) => {
                    let why = skips.allows(&spec.name, reason).unwrap_or("not in skips.toml");
                    println!("skipped: {}\n    {reason} ({why})", spec.name);
                }
                End::NotChosen => {
                    if let Some(why) = skips.leaves_out(&spec.name) {
                        println!("left out: {}\n    {why}", spec.name);
                    } else if self.is_cut(at_limit) && chosen == Chosen::All {
                        println!("not run, for want of time: {}", spec.name);
                    }
                }
                End::Cut { seconds } => {
                    println!("not run to its end, for want of time, after {seconds} s: {}", spec.name)
                }
                End::Passed => {}
            }
        }
    }
}

impl Node {
    fn spec(self) -> Option<Spec> {
        let is_spec = self.leaf_node_type == "It";
        let failed = !matches!(self.state.as_str(), "passed" | "skipped" | "pending");
        // Nodes of the suite are no specs, but they can fail.
        if !is_spec && !failed {
            return None;
        }
        let mut words = self.container_hierarchy_texts.unwrap_or_default();
        words.push(if self.leaf_node_text.is_empty() { self.leaf_node_type } else { self.leaf_node_text });
        let at = format!(
            "{} ({}:{})",
            self.failure.message, self.failure.location.file_name, self.failure.location.line_number
        );
        let end = match self.state.as_str() {
            "passed" => End::Passed,
            "skipped" if self.failure.message.is_empty() => End::NotChosen,
            "skipped" => End::Skipped(self.failure.message),
            "timedout" if self.failure.message == CUT_SPEC => End::Cut { seconds: self.run_time / 1_000_000_000 },
            "pending" => End::Skipped("pending".into()),
            _ => End::Failed(at),
        };
        Some(Spec { name: words.join(" "), end, output: self.captured_ginkgo_writer_output })
    }
}

impl Spec {
    fn fault(&self, skips: &Skips, chosen: Chosen, cut: bool) -> Option<String> {
        match &self.end {
            End::Passed => None,
            End::Failed(_) => Some(format!("failed: {}", self.name)),
            End::Skipped(reason) if skips.allows(&self.name, reason).is_some() => None,
            End::Skipped(_) => Some(format!("skipped, and skips.toml does not allow it: {}", self.name)),
            End::NotChosen if cut => None,
            End::Cut { seconds } if cut && *seconds < LONGEST_SPEC_SECONDS => None,
            End::Cut { seconds } => Some(format!("it ran for {seconds} s and was ended: {}", self.name)),
            End::NotChosen if chosen == Chosen::Some || skips.leaves_out(&self.name).is_some() => None,
            End::NotChosen => Some(format!("not run, and skips.toml does not name it: {}", self.name)),
        }
    }

    fn shown_output(&self) -> String {
        let lines: Vec<&str> = self.output.lines().collect();
        indented(&lines.get(lines.len().saturating_sub(SHOWN_LINES)..).unwrap_or_default().join("\n"))
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
