//! docs/limits.md says what the code says: each row names a file, a constant (or a field of a default) and its value.

use std::fs;

use anyhow::{Context, Result};

use crate::workspace::Workspace;

const PAGE: &str = "docs/limits.md";

pub(super) fn faults(workspace: &Workspace) -> Result<Vec<String>> {
    let page = fs::read_to_string(workspace.root.join(PAGE)).with_context(|| format!("reading {PAGE}"))?;
    let rows: Vec<Row<'_>> = page.lines().filter_map(row).collect();
    let mut faults = Vec::new();
    if rows.is_empty() {
        faults.push(format!("{PAGE}: no row `| file | constant | value | ...` is found"));
    }
    for row in rows {
        let text = fs::read_to_string(workspace.root.join(row.file)).unwrap_or_default();
        let found = value(&text, row.name);
        if found.as_deref() != Some(row.value) {
            let found = found.unwrap_or_else(|| "nothing".into());
            faults.push(format!("{PAGE}: {} of {} is {found}, and not {}", row.name, row.file, row.value));
        }
    }
    Ok(faults)
}

/// A row of the page.
#[derive(Debug, PartialEq, Eq)]
struct Row<'a> {
    file: &'a str,
    name: &'a str,
    value: &'a str,
}

fn row(line: &str) -> Option<Row<'_>> {
    let mut cells = line.strip_prefix("| ")?.split(" | ");
    let file = cells.next().filter(|file| file.ends_with(".rs"))?;
    let mut code = || cells.next()?.strip_prefix('`')?.strip_suffix('`');
    Some(Row { file, name: code()?, value: code()? })
}

/// What stands behind `const NAME: Type =`, or behind `name:` in a `Default`; a public field of a type opens with another word.
fn value(text: &str, name: &str) -> Option<String> {
    let constant = format!("const {name}: ");
    let raw = match text.split_once(&constant) {
        Some((_, rest)) => rest.split_once('=')?.1.split_once(';')?.0,
        None => {
            let defaults = text.split_once("impl Default")?.1;
            let field = format!("{name}: ");
            defaults.lines().find_map(|line| line.trim_start().strip_prefix(&field))?.strip_suffix(',')?
        }
    };
    Some(raw.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_and_values_compared() {
        let line = "| a/b.rs | `MAX` | `4 << 10` | things | they wait |";
        assert_eq!(row(line), Some(Row { file: "a/b.rs", name: "MAX", value: "4 << 10" }));
        assert_eq!(row("| in | constant | value | bounds | over it |"), None);
        assert_eq!(value("pub const MAX: usize = 4 << 10;", "MAX").as_deref(), Some("4 << 10"));
        assert_eq!(value("const P: (u8, u8) =\n    (1,\n    2);", "P").as_deref(), Some("(1, 2)"));
        let fields = "impl Default for B {}\n    pub layers: usize,\nimpl Default for A {\n        layers: 500,\n";
        assert_eq!(value(fields, "layers").as_deref(), Some("500"));
        assert_eq!(value("const OTHER: usize = 1;", "MAX"), None);
    }

    #[test]
    fn the_page_says_what_the_code_says() {
        assert_eq!(faults(&Workspace::find().unwrap()).unwrap(), Vec::<String>::new());
    }
}
