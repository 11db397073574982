//! The rows: what was measured of each contender, the ratio to the best peer, the target.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::sample::Samples;

/// What is better in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    /// Times and sizes.
    Less,
    /// Throughput.
    More,
}

/// One row, measured.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    /// How many times better than the best peer we want to be; none where there is no target.
    pub(crate) target: Option<f64>,
    /// By contender, ours first.
    pub(crate) measured: Vec<(String, Samples)>,
}

impl Row {
    fn ours(&self) -> Option<f64> {
        self.measured.first().map(|(_, samples)| samples.at(50))
    }

    fn best_peer(&self) -> Option<f64> {
        let peers = self.measured.iter().skip(1).map(|(_, samples)| samples.at(50));
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

    /// Whether the target is met; none without a target or a peer.
    pub(crate) fn met(&self) -> Option<bool> {
        Some(self.ratio()? >= self.target?)
    }

    /// The ratio and the target in words.
    pub(crate) fn verdict(&self) -> String {
        match (self.ratio(), self.target, self.met()) {
            (Some(ratio), Some(target), Some(met)) => {
                format!("{ratio:.1} times better, target {target}: {}", if met { "met" } else { "not met" })
            }
            (Some(ratio), ..) => format!("{ratio:.1} times better"),
            _ => String::new(),
        }
    }

    fn print(&self) {
        println!("{} ({})", self.name, self.unit);
        for (name, samples) in &self.measured {
            if samples.len() > 1 {
                let [p50, p95, p99] = [50, 95, 99].map(|percent| samples.at(percent));
                println!("  {name:<18} p50 {p50:>9.2}   p95 {p95:>9.2}   p99 {p99:>9.2}");
            } else {
                println!("  {name:<18}     {:>9.2}", samples.at(50));
            }
        }
        let verdict = self.verdict();
        if !verdict.is_empty() {
            println!("  {verdict}");
        }
    }
}

/// All rows of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Prints a row and keeps it.
    pub(crate) fn add(&mut self, row: Row) {
        row.print();
        self.rows.push(row);
    }

    /// The rows in their order.
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// A list of {row, unit, ours, peers, ratio, target, met}; numbers are medians.
    pub(crate) fn json(&self) -> Result<String> {
        let rows: Vec<Value> = self.rows.iter().map(as_json).collect();
        serde_json::to_string_pretty(&rows).context("writing the rows as JSON")
    }
}

fn as_json(row: &Row) -> Value {
    let summary = |samples: &Samples| json!({"p50": samples.at(50), "p95": samples.at(95), "p99": samples.at(99), "samples": samples.len()});
    let peers: serde_json::Map<String, Value> =
        row.measured.iter().skip(1).map(|(name, samples)| (name.clone(), summary(samples))).collect();
    json!({
        "row": row.name,
        "unit": row.unit,
        "ours": row.measured.first().map(|(_, samples)| summary(samples)),
        "peers": peers,
        "ratio": row.ratio(),
        "target": row.target,
        "met": row.met(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(better: Better, values: &[f64]) -> Row {
        let measured = values.iter().map(|value| (format!("of {value}"), Samples::one(*value))).collect();
        Row { name: "a row".into(), unit: "ms", better, target: Some(10.0), measured }
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
    fn rows_are_a_list_in_json() {
        let report = Report { rows: vec![row(Better::Less, &[2.0, 30.0])] };
        let parsed: Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        let first = parsed.get(0).unwrap();
        assert_eq!((first["row"].as_str(), first["ratio"].as_f64()), (Some("a row"), Some(15.0)));
        assert_eq!(first["peers"]["of 30"]["p50"].as_f64(), Some(30.0));
    }
}
