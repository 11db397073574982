//! docs/limits.md says what the code says: each row names a file, a constant (or a field of a default) and its value; and each
//! constant of a shipped crate whose name says that it is a bound has its row.

use std::fs;

use anyhow::{Context, Result};

use super::sources;
use crate::workspace::Workspace;

const PAGE: &str = "docs/limits.md";
/// Crates of which nothing is installed on a node.
const NOT_SHIPPED: [&str; 4] = ["critest", "fuzz", "testutil", "xtask"];
/// A constant that is a number or a time is a bound if one of these is a word of its name: `MAX_BYTES`, `EVENTS_KEPT`, `LIMIT`.
const WORDS: [&str; 19] = [
    "MAX",
    "MOST",
    "LONGEST",
    "LIMIT",
    "TIMEOUT",
    "DEADLINE",
    "WITHIN",
    "WAIT",
    "PATIENCE",
    "LIFETIME",
    "RETRY",
    "TRIES",
    "RECONNECTS",
    "ROUNDS",
    "QUEUE",
    "QUEUED",
    "BACKLOG",
    "KEPT",
    "PARALLEL",
];
/// Constants with such a name that bound nothing, and why.
const NO_BOUNDS: [(&str, &str, &str); 4] = [
    ("cri/src/streaming/spdy/window.rs", "MAX_CREDIT_BYTES", "SPDY: a window is a number of 31 bits"),
    ("imageservice/src/manifest/config_file.rs", "MAX_UID", "ids of Docker's images are numbers of 31 bits"),
    ("podsandbox/src/sandbox/limits.rs", "MAX_SHARES", "the kernel's range of CPU shares"),
    ("podsandbox/src/stats/rate.rs", "LONGEST_FIRST_NANOS", "decides from when a rate is told"),
];

pub(super) fn faults(workspace: &Workspace) -> Result<Vec<String>> {
    let page = fs::read_to_string(workspace.root.join(PAGE)).with_context(|| format!("reading {PAGE}"))?;
    let rows: Vec<Row<'_>> = page.lines().filter_map(row).collect();
    let mut faults = Vec::new();
    if rows.is_empty() {
        faults.push(format!("{PAGE}: no row `| file | constant | value | ...` is found"));
    }
    for row in &rows {
        let text = fs::read_to_string(workspace.root.join(row.file)).unwrap_or_default();
        let found = value(&text, row.name);
        if found.as_deref() != Some(row.value) {
            let found = found.unwrap_or_else(|| "nothing".into());
            faults.push(format!("{PAGE}: {} of {} is {found}, and not {}", row.name, row.file, row.value));
        }
    }
    for path in sources::tracked(&workspace.root)?.iter().filter(|path| is_shipped(path)) {
        // Deleted, but not committed yet.
        let Ok(text) = fs::read_to_string(workspace.root.join(path)) else { continue };
        let known = |name: &str| {
            let is_listed = rows.iter().any(|row| row.file == path && row.name == name);
            is_listed || NO_BOUNDS.iter().any(|(file, other, _)| file == path && *other == name)
        };
        let missing = bounds(&text).into_iter().filter(|name| !known(name));
        faults.extend(
            missing.map(|name| format!("{PAGE}: {name} of {path} has no row (what it bounds, what happens over it)")),
        );
    }
    Ok(faults)
}

fn is_shipped(path: &str) -> bool {
    let Some((member, file)) = path.split_once("/src/") else { return false };
    let of_tests = file.ends_with("tests.rs") || file.contains("tests/");
    !of_tests && !NOT_SHIPPED.contains(&member)
}

/// Names of the bounds in a file, without those of its tests.
fn bounds(text: &str) -> Vec<&str> {
    let shipped = text.split_once("#[cfg(test)]\nmod tests {").map_or(text, |(before, _)| before);
    shipped.lines().filter_map(constant).filter(|(name, kind)| is_bound(name, kind)).map(|(name, _)| name).collect()
}

/// Name and type of the constant that a line begins.
fn constant(line: &str) -> Option<(&str, &str)> {
    let (before, rest) = line.split_once("const ")?;
    let visibility = before.trim();
    if !visibility.is_empty() && !visibility.starts_with("pub") {
        return None;
    }
    let (name, rest) = rest.split_once(": ")?;
    let (kind, _) = rest.split_once(" =")?;
    Some((name, kind))
}

fn is_bound(name: &str, kind: &str) -> bool {
    let mut parts = kind.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    let numeric = |part: &str| matches!(part, "std" | "time" | "Duration" | "usize") || is_integer(part);
    parts.all(numeric) && name.split('_').any(|word| WORDS.contains(&word))
}

fn is_integer(kind: &str) -> bool {
    kind.strip_prefix(['u', 'i']).is_some_and(|bits| bits.parse::<u8>().is_ok())
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
    fn bounds_are_known_by_their_names() {
        let text = "pub(crate) const MAX_BYTES: usize = 1;\nconst EVENTS_KEPT: u64 = 2;\n    const LIMIT: Duration =\n        A;\n\
                    const PAUSE: Duration = B;\nconst MAXIMUM: u8 = 3;\nconst MOST: &str = \"x\";\nconst fn MAX(a: u8) {}\n\
                    const RETRY: (std::time::Duration, Duration) = C;\n// const MAX: u8 = 4;\n#[cfg(test)]\nmod tests {\n\
                    const MAX_TESTS: u8 = 5;\n";
        assert_eq!(bounds(text), ["MAX_BYTES", "EVENTS_KEPT", "LIMIT", "RETRY"]);
    }

    #[test]
    fn only_shipped_files_need_rows() {
        assert!(is_shipped("shim/api/src/client.rs"));
        for path in ["xtask/src/main.rs", "shim/api/src/client/tests.rs", "critest/tests/pods.rs", "cni/src/tests/a.rs"]
        {
            assert!(!is_shipped(path), "{path}");
        }
    }

    #[test]
    fn what_bounds_nothing_is_still_there() {
        let root = Workspace::find().unwrap().root;
        for (file, name, why) in NO_BOUNDS {
            let text = fs::read_to_string(root.join(file)).unwrap();
            assert!(bounds(&text).contains(&name) && !why.is_empty(), "{name} of {file}");
        }
    }

    #[test]
    fn the_page_says_what_the_code_says() {
        assert_eq!(faults(&Workspace::find().unwrap()).unwrap(), Vec::<String>::new());
    }
}
