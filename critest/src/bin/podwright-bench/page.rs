//! The table in docs/performance.md, between two marks; what people wrote around it stays.

use std::path::Path;

use anyhow::{Context, Result};

use crate::report::{Floor, Report, Row};
use crate::sample::Samples;

const BEGIN: &str = "<!-- cargo xtask bench writes from here";
const END: &str = "to here -->";

/// Replaces what is between the marks.
pub(crate) fn rewrite(path: &Path, conditions: &str, report: &Report) -> Result<()> {
    let old = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let new = with_table(&old, &table(conditions, report))
        .with_context(|| format!("{} has no lines with the marks {BEGIN:?} and {END:?}", path.display()))?;
    std::fs::write(path, new).with_context(|| format!("writing {}", path.display()))
}

fn with_table(old: &str, table: &str) -> Option<String> {
    let begin = old.find(BEGIN)?;
    let begin = begin + old.get(begin..)?.find('\n')? + 1;
    let end = begin + old.get(begin..)?.find(END)?;
    let end = old.get(..end)?.rfind('\n')? + 1;
    Some(format!("{}\n{table}\n{}", old.get(..begin)?, old.get(end..)?))
}

fn table(conditions: &str, report: &Report) -> String {
    let mut names: Vec<&str> = Vec::new();
    for lane in report.rows().iter().flat_map(Row::lanes) {
        if !names.contains(&lane.name.as_str()) {
            names.push(&lane.name);
        }
    }
    let mut notes: Vec<&str> = report.rows().iter().filter_map(Row::reason_alone).collect();
    notes.sort_unstable();
    notes.dedup();
    let mut lines = vec![conditions.to_owned(), String::new()];
    lines.push(format!("| row | unit | {} | times better than the best peer | target |", names.join(" | ")));
    lines.push(format!("|---|---|{}---|---|", "---|".repeat(names.len())));
    lines.extend(report.rows().iter().map(|row| line(row, &names, &notes)));
    for (number, note) in notes.iter().enumerate() {
        lines.extend([String::new(), format!("({}) {note}", number + 1)]);
    }
    let floors: Vec<String> = report.floors().map(|(floor, ours)| floor_line(floor, ours)).collect();
    if !floors.is_empty() {
        lines.extend(["", "Distance to the floor, by the median:", ""].map(str::to_owned));
        lines
            .extend(["| row | ours | floor | times | what the floor is |", "|---|---|---|---|---|"].map(str::to_owned));
        lines.extend(floors);
    }
    lines.join("\n") + "\n"
}

fn line(row: &Row, names: &[&str], notes: &[&str]) -> String {
    let note = row.reason_alone().and_then(|reason| notes.iter().position(|note| *note == reason));
    let missing = || note.map_or_else(|| "—".to_owned(), |number| format!("— ({})", number + 1));
    let cells = names.iter().map(|name| {
        let lane = row.lanes().iter().find(|lane| lane.name == *name);
        match lane.map(|lane| (&lane.failure, &lane.samples)) {
            Some((Some(_), _)) => "failed".to_owned(),
            Some((None, samples)) if samples.len() > 0 => cell(samples),
            Some(_) | None => missing(),
        }
    });
    let cells = cells.collect::<Vec<_>>().join(" | ");
    let ratio = row.ratio().map_or_else(String::new, |ratio| format!("{ratio:.1}"));
    let target = match (row.wanted(), row.met()) {
        (Some(target), Some(true)) => format!("{target}, met"),
        (Some(target), Some(false)) => format!("{target}, **not met**"),
        (Some(target), None) => target,
        (None, _) => String::new(),
    };
    format!("| {} | {} | {cells} | {ratio} | {target} |", row.name, row.unit)
}

fn cell(samples: &Samples) -> String {
    match samples.len() {
        0 | 1 => format!("{:.2}", samples.at(50)),
        _ => format!("{:.2} / {:.2} / {:.2}", samples.at(50), samples.at(95), samples.at(99)),
    }
}

fn floor_line(floor: &Floor, ours: Option<f64>) -> String {
    let least = floor.samples.at(50);
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2}"));
    let times = ours.map(|ours| ours / least).filter(|times| times.is_finite());
    format!("| {} | {} | {least:.2} | {} | {} |", floor.of, number(ours), number(times), floor.what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::{Lanes, Part};
    use crate::report::Better;

    #[test]
    fn the_table_is_replaced_and_the_rest_stays() {
        let page = format!("# Speed\n\n{BEGIN} -->\nold\n<!-- {END}\n\nThe rest.\n");
        let names = ["podwright", "crun", "runc"];
        let mut part = Part::of(names);
        part.fail(2, "a reason".into());
        let mut lanes = Lanes::of(names);
        lanes.push_value(0, 2.0);
        lanes.push_value(1, 9.0);
        let mut report = Report::default();
        report.add(Row::new("exec", "ms", Better::Less, lanes.after(&part)).times(5.0));
        let mut lanes = Lanes::of(names);
        lanes.push_value(0, 7.0);
        report.add(Row::new("files", "files", Better::Less, lanes).at_most(8.0).alone("because."));
        report.add_floor(Floor { of: "exec".into(), what: "a bare exec".into(), samples: Samples::one(0.5) });
        let table = table("2 CPUs", &report);
        assert!(table.contains("| exec | ms | 2.00 | 9.00 | failed | 4.5 | 5, **not met** |"), "{table}");
        assert!(table.contains("| files | files | 7.00 | — (1) | — (1) |  | at most 8 files, met |"), "{table}");
        assert!(table.contains("\n(1) because.\n"), "{table}");
        assert!(table.contains("| exec | 2.00 | 0.50 | 4.00 | a bare exec |"), "{table}");
        let once = with_table(&page, &table).unwrap();
        assert!(!once.contains("old") && once.ends_with("The rest.\n"), "{once}");
        assert_eq!(with_table(&once, &table).unwrap(), once, "a second time changes nothing");
        assert_eq!(with_table("no marks", &table), None);
    }
}
