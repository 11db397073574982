//! Every foreign crate comes from crates.io under a licence that deny.toml allows.
//!
//! cargo-deny does the same and more; this part needs nothing installed.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use crate::workspace::{Foreign, Workspace};

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(super) fn faults(workspace: &Workspace) -> Result<Vec<String>> {
    let path = workspace.root.join("deny.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let table: toml::Table = text.parse().with_context(|| format!("reading {}", path.display()))?;
    let list = table.get("licenses").and_then(|part| part.get("allow")).and_then(toml::Value::as_array);
    let allowed: BTreeSet<&str> =
        list.context("deny.toml has no licenses.allow")?.iter().filter_map(toml::Value::as_str).collect();
    Ok(workspace.foreign().iter().filter_map(|package| fault(package, &allowed)).collect())
}

fn fault(package: &Foreign, allowed: &BTreeSet<&str>) -> Option<String> {
    let Foreign { name, version, license, source } = package;
    if source != CRATES_IO {
        return Some(format!("{name} {version} comes from {source}, not from crates.io"));
    }
    match license {
        None => Some(format!("{name} {version} names no licence")),
        Some(license) if satisfied(license, allowed) => None,
        Some(license) => Some(format!("{name} {version} is under {license}, which deny.toml does not allow")),
    }
}

/// Reads an SPDX expression; `/` is the old spelling of OR. `AND` binds stronger than `OR`; one level of parentheses exists in practice,
/// and is resolved from the inside.
fn satisfied(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let mut text = expression.replace('/', " OR ");
    while let Some((open, close)) = innermost(&text) {
        let inner = text.get(open + 1..close).unwrap_or_default();
        let value = if flat(inner, allowed) { YES } else { NO };
        text.replace_range(open..=close, value);
    }
    flat(&text, allowed)
}

const YES: &str = "yes";
const NO: &str = "no";

fn innermost(text: &str) -> Option<(usize, usize)> {
    let close = text.find(')')?;
    Some((text.get(..close)?.rfind('(')?, close))
}

fn flat(text: &str, allowed: &BTreeSet<&str>) -> bool {
    text.split(" OR ").any(|term| {
        term.split(" AND ").map(str::trim).all(|licence| licence == YES || (licence != NO && allowed.contains(licence)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read() {
        let allowed = BTreeSet::from(["MIT", "Apache-2.0", "Unicode-3.0"]);
        for good in ["MIT", "MIT/GPL-2.0", "GPL-3.0 OR MIT", "(MIT OR GPL-3.0) AND Unicode-3.0"] {
            assert!(satisfied(good, &allowed), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(GPL-2.0 OR GPL-3.0) AND MIT", "", "no"] {
            assert!(!satisfied(bad, &allowed), "{bad}");
        }
    }
}
