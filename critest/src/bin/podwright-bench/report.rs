//! The rows: what was measured of each contender, the ratio to the best peer, the target, and the floors of the kernel.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::lane::{Lane, Lanes};
use crate::sample::Samples;

/// What is better in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    /// Times and sizes.
    Less,
    /// Throughput.
    More,
}

/// What we want of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// Nothing: it explains other rows.
    None,
    /// So many times better than the best peer.
    Times(f64),
    /// Our own median is at most this.
    AtMost(f64),
}

/// One row, measured.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    better: Better,
    target: Target,
    lanes: Lanes,
    /// Why no peer is in it.
    alone: Option<&'static str>,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, better: Better, lanes: Lanes) -> Self {
        Self { name: name.into(), unit, better, target: Target::None, lanes, alone: None }
    }

    /// Wanted: so many times better than the best peer.
    pub(crate) fn times(self, times: f64) -> Self {
        Self { target: Target::Times(times), ..self }
    }

    /// Wanted: our median is at most this.
    pub(crate) fn at_most(self, limit: f64) -> Self {
        Self { target: Target::AtMost(limit), ..self }
    }

    /// No peer is measured, and why.
    pub(crate) fn alone(self, reason: &'static str) -> Self {
        Self { alone: Some(reason), ..self }
    }

    /// By contender, ours first.
    pub(crate) fn lanes(&self) -> &[Lane] {
        self.lanes.get()
    }

    pub(crate) fn reason_alone(&self) -> Option<&'static str> {
        self.alone
    }

    /// Why it has no result of ours, if we failed.
    pub(crate) fn our_failure(&self) -> Option<&str> {
        self.lanes().first()?.failure.as_deref()
    }

    /// Whether anything was measured, or failed.
    pub(crate) fn is_empty(&self) -> bool {
        self.lanes().iter().all(|lane| lane.failure.is_none() && lane.samples.len() == 0)
    }

    fn ours(&self) -> Option<f64> {
        self.lanes().first().and_then(result)
    }

    fn best_peer(&self) -> Option<f64> {
        let peers = self.lanes().iter().skip(1).filter_map(result);
        match self.better {
            Better::Less => peers.min_by(f64::total_cmp),
            Better::More => peers.max_by(f64::total_cmp),
        }
    }

    /// How many times better than the best peer; by the median.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let (ours, best) = (self.ours()?, self.best_peer()?);
        let ratio = match self.better {
            Better::Less => best / ours,
            Better::More => ours / best,
        };
        ratio.is_finite().then_some(ratio)
    }

    /// Whether the target is met; none without a target, or without the peer that it is about. Never if we failed.
    pub(crate) fn met(&self) -> Option<bool> {
        match self.target {
            Target::None => None,
            Target::Times(_) | Target::AtMost(_) if self.our_failure().is_some() => Some(false),
            Target::Times(times) => Some(self.ratio()? >= times),
            Target::AtMost(limit) => Some(self.ours()? <= limit),
        }
    }

    /// The target in words.
    pub(crate) fn wanted(&self) -> Option<String> {
        match self.target {
            Target::None => None,
            Target::Times(times) => Some(times.to_string()),
            Target::AtMost(limit) => Some(format!("at most {limit} {}", self.unit)),
        }
    }

    /// The ratio and the target in words.
    pub(crate) fn verdict(&self) -> String {
        let ratio = self.ratio().map(|ratio| format!("{ratio:.1} times better"));
        let met = self.met().map(|met| if met { "met" } else { "not met" });
        let target = self.wanted().zip(met).map(|(target, met)| format!("target {target}: {met}"));
        ratio.into_iter().chain(target).collect::<Vec<_>>().join(", ")
    }

    fn print(&self) {
        println!("{} ({})", self.name, self.unit);
        for Lane { name, samples, failure } in self.lanes() {
            match (failure, samples.len()) {
                (Some(failure), _) => println!("  {name:<18} failed: {failure}"),
                (None, 0) => {}
                (None, 1) => println!("  {name:<18}     {:>9.2}", samples.at(50)),
                (None, _) => {
                    let [p50, p95, p99] = [50, 95, 99].map(|percent| samples.at(percent));
                    println!("  {name:<18} p50 {p50:>9.2}   p95 {p95:>9.2}   p99 {p99:>9.2}");
                }
            }
        }
        let verdict = self.verdict();
        if !verdict.is_empty() {
            println!("  {verdict}");
        }
    }
}

/// The median of who has a whole result.
fn result(lane: &Lane) -> Option<f64> {
    (lane.failure.is_none() && lane.samples.len() > 0).then(|| lane.samples.at(50))
}

/// The least that the kernel itself, or the bare work, needs for what a row measures.
#[derive(Debug)]
pub(crate) struct Floor {
    /// The row, in whose unit it is.
    pub(crate) of: String,
    /// What was done.
    pub(crate) what: String,
    pub(crate) samples: Samples,
}

/// All rows of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    floors: Vec<Floor>,
}

impl Report {
    /// Prints a row and keeps it.
    pub(crate) fn add(&mut self, row: Row) {
        row.print();
        self.rows.push(row);
    }

    /// Prints a floor and keeps it.
    pub(crate) fn add_floor(&mut self, floor: Floor) {
        println!("floor of \"{}\": {:.2} ({})", floor.of, floor.samples.at(50), floor.what);
        self.floors.push(floor);
    }

    /// The rows in their order.
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Floors with our result in the row of each, if that was measured too.
    pub(crate) fn floors(&self) -> impl Iterator<Item = (&Floor, Option<f64>)> {
        self.floors.iter().map(|floor| {
            let row = self.rows.iter().find(|row| row.name == floor.of);
            (floor, row.and_then(Row::ours))
        })
    }

    /// Rows in which we failed.
    pub(crate) fn failures(&self) -> Vec<String> {
        let failed = |row: &Row| row.our_failure().map(|failure| format!("{}: {failure}", row.name));
        self.rows.iter().filter_map(failed).collect()
    }

    /// A list of {row, unit, ours, peers, ratio, target, met} and what explains them; numbers are medians.
    pub(crate) fn json(&self) -> Result<String> {
        let rows: Vec<Value> = self.rows.iter().map(|row| self.as_json(row)).collect();
        serde_json::to_string_pretty(&rows).context("writing the rows as JSON")
    }

    fn as_json(&self, row: &Row) -> Value {
        let peers: serde_json::Map<String, Value> =
            row.lanes().iter().skip(1).map(|lane| (lane.name.clone(), summary(lane))).collect();
        let (target, kind) = match row.target {
            Target::None => (None, None),
            Target::Times(times) => (Some(times), Some("times better than the best peer")),
            Target::AtMost(limit) => (Some(limit), Some("ours at most")),
        };
        let floor = self.floors.iter().find(|floor| floor.of == row.name).map(|floor| floor.samples.at(50));
        json!({
            "row": row.name,
            "unit": row.unit,
            "ours": row.lanes().first().map(summary),
            "peers": peers,
            "ratio": row.ratio(),
            "target": target,
            "target_kind": kind,
            "met": row.met(),
            "floor": floor,
            "alone_because": row.alone,
        })
    }
}

/// Null where the row is not measured.
fn summary(lane: &Lane) -> Value {
    let samples = &lane.samples;
    match (&lane.failure, samples.len()) {
        (Some(failure), _) => json!({ "failure": failure }),
        (None, 0) => Value::Null,
        (None, count) => {
            json!({"p50": samples.at(50), "p95": samples.at(95), "p99": samples.at(99), "samples": count})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::Part;

    fn row(better: Better, values: &[f64]) -> Row {
        let names: Vec<String> = values.iter().map(|value| format!("of {value}")).collect();
        let mut lanes = Lanes::of(names.iter().map(String::as_str));
        values.iter().enumerate().for_each(|(index, value)| lanes.push_value(index, *value));
        Row::new("a row", "ms", better, lanes).times(10.0)
    }

    fn failed(index: usize) -> Row {
        let mut part = Part::of(["a", "b"]);
        part.fail(index, "a reason".into());
        let row = row(Better::Less, &[2.0, 30.0]);
        Row { lanes: row.lanes.clone().after(&part), ..row }
    }

    #[test]
    fn the_ratio_is_to_the_best_peer() {
        let less = row(Better::Less, &[2.0, 30.0, 20.0]);
        assert_eq!((less.ratio(), less.met()), (Some(10.0), Some(true)));
        let more = row(Better::More, &[90.0, 5.0, 10.0]);
        assert_eq!((more.ratio(), more.met()), (Some(9.0), Some(false)));
        assert_eq!(more.verdict(), "9.0 times better, target 10: not met");
    }

    #[test]
    fn alone_there_is_no_ratio() {
        let alone = row(Better::Less, &[2.0]);
        assert_eq!((alone.ratio(), alone.met(), alone.verdict()), (None, None, String::new()));
        assert_eq!(row(Better::Less, &[0.0, 1.0]).ratio(), None, "nothing is infinitely better");
    }

    #[test]
    fn a_limit_is_about_ours_alone() {
        let within = row(Better::Less, &[2.0]).at_most(2.0);
        assert_eq!((within.met(), within.verdict().as_str()), (Some(true), "target at most 2 ms: met"));
        assert_eq!(row(Better::Less, &[2.1, 9.0]).at_most(2.0).met(), Some(false));
    }

    #[test]
    fn who_fails_has_no_result() {
        let (ours, peer) = (failed(0), failed(1));
        assert_eq!((ours.ratio(), ours.met(), ours.our_failure()), (None, Some(false), Some("a reason")));
        assert_eq!((peer.ratio(), peer.met(), peer.our_failure()), (None, None, None));
        let mut report = Report::default();
        report.add(failed(1));
        assert!(report.failures().is_empty(), "a peer that fails is not ours to mend");
        report.add(failed(0));
        assert_eq!(report.failures(), ["a row: a reason"]);
    }

    #[test]
    fn rows_are_a_list_in_json() {
        let mut report = Report::default();
        report.add(row(Better::Less, &[2.0, 30.0]));
        report.add(row(Better::Less, &[3.0]).at_most(2.0).alone("a reason"));
        report.add(failed(1));
        report.add(Row::new("a count", "files", Better::Less, Lanes::of(["podwright", "peer"])));
        report.add_floor(Floor { of: "a row".into(), what: "bare".into(), samples: Samples::one(1.0) });
        let parsed: Vec<Value> = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(parsed.len(), 4);
        for row in &parsed {
            for key in ["row", "unit", "ours", "peers", "ratio", "target", "met"] {
                assert!(row.get(key).is_some(), "{key} in {row}");
            }
        }
        let first = &parsed[0];
        assert_eq!((first["row"].as_str(), first["ratio"].as_f64()), (Some("a row"), Some(15.0)));
        assert_eq!((first["target"].as_f64(), first["met"].as_bool()), (Some(10.0), Some(true)));
        assert_eq!(first["ours"]["p50"].as_f64(), Some(2.0));
        assert_eq!(first["peers"]["of 30"]["p50"].as_f64(), Some(30.0));
        assert_eq!(first["floor"].as_f64(), Some(1.0));
        let limited = &parsed[1];
        assert_eq!((limited["target_kind"].as_str(), limited["met"].as_bool()), (Some("ours at most"), Some(false)));
        assert_eq!(parsed[2]["peers"]["of 30"]["failure"].as_str(), Some("a reason"));
        assert!(parsed[3]["ours"].is_null() && parsed[3]["peers"]["peer"].is_null() && parsed[3]["met"].is_null());
    }
}
