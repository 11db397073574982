//! The table in docs/performance.md, between two marks; what people wrote around it stays.

use std::path::Path;

use anyhow::{Context, Result};

use crate::report::{Report, Row};

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
    let names: Vec<&str> = report
        .rows()
        .iter()
        .flat_map(|row| row.measured.iter().map(|(name, _)| name.as_str()))
        .fold(vec![], |mut all, name| {
            if !all.contains(&name) {
                all.push(name);
            }
            all
        });
    let mut lines = vec![conditions.to_owned(), String::new()];
    lines.push(format!("| row | unit | {} | times better than the best peer | target |", names.join(" | ")));
    lines.push(format!("|---|---|{}---|---|", "---|".repeat(names.len())));
    lines.extend(report.rows().iter().map(|row| line(row, &names)));
    lines.join("\n") + "\n"
}

fn line(row: &Row, names: &[&str]) -> String {
    let cells = names.iter().map(|name| {
        let found = row.measured.iter().find(|(own, _)| own == name);
        found.map_or_else(String::new, |(_, samples)| match samples.len() {
            0 | 1 => format!("{:.2}", samples.at(50)),
            _ => format!("{:.2} / {:.2} / {:.2}", samples.at(50), samples.at(95), samples.at(99)),
        })
    });
    let cells = cells.collect::<Vec<_>>().join(" | ");
    let ratio = row.ratio().map_or_else(String::new, |ratio| format!("{ratio:.1}"));
    let target = match (row.target, row.met()) {
        (Some(target), Some(true)) => format!("{target}, met"),
        (Some(target), Some(false)) => format!("{target}, **not met**"),
        (Some(target), None) => format!("{target}"),
        (None, _) => String::new(),
    };
    format!("| {} | {} | {cells} | {ratio} | {target} |", row.name, row.unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Better;
    use crate::sample::Samples;

    #[test]
    fn the_table_is_replaced_and_the_rest_stays() {
        let page = format!("# Speed\n\n{BEGIN} -->\nold\n<!-- {END}\n\nThe rest.\n");
        let mut report = Report::default();
        let measured = vec![("podwright".to_owned(), Samples::one(2.0)), ("crun".to_owned(), Samples::one(9.0))];
        report.add(Row { name: "exec".into(), unit: "ms", better: Better::Less, target: Some(5.0), measured });
        let table = table("2 CPUs", &report);
        assert!(table.contains("| exec | ms | 2.00 | 9.00 | 4.5 | 5, **not met** |"), "{table}");
        let once = with_table(&page, &table).unwrap();
        assert!(!once.contains("old") && once.ends_with("The rest.\n"), "{once}");
        assert_eq!(with_table(&once, &table).unwrap(), once, "a second time changes nothing");
        assert_eq!(with_table("no marks", &table), None);
    }
}
