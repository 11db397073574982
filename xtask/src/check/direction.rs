//! Crates depend on each other as ARCHITECTURE.md says, and on nothing else of ours.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

use crate::workspace::{Member, Workspace};

/// These may use everything: they are not part of a node.
const FREE: [&str; 4] = ["testutil", "critest", "fuzz", "xtask"];

pub(super) fn faults(workspace: &Workspace) -> Result<Vec<String>> {
    let path = workspace.root.join("ARCHITECTURE.md");
    let page = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let allowed = parse(&page);
    ensure!(!allowed.is_empty(), "ARCHITECTURE.md holds no list `crate -> crate, crate`");
    Ok(compare(&allowed, &workspace.members()))
}

/// Reads lines `a, b -> c, d` of code blocks.
fn parse(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut allowed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in page.lines() {
        let Some((from, to)) = line.split_once(" -> ") else { continue };
        for from in names(from) {
            allowed.entry(from).or_default().extend(names(to));
        }
    }
    allowed
}

fn names(list: &str) -> Vec<String> {
    list.split(',').map(|name| name.trim().to_owned()).collect()
}

fn compare(allowed: &BTreeMap<String, BTreeSet<String>>, members: &[Member]) -> Vec<String> {
    let dirs: BTreeMap<&str, &str> = members.iter().map(|m| (m.name.as_str(), m.dir.as_str())).collect();
    let mut faults = Vec::new();
    for member in members.iter().filter(|member| !FREE.contains(&member.dir.as_str())) {
        for dir in member.dependencies.iter().filter_map(|name| dirs.get(name.as_str())) {
            if !allowed.get(&member.dir).is_some_and(|list| list.contains(*dir)) {
                faults.push(format!("{} depends on {dir}, which ARCHITECTURE.md does not list", member.dir));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(dir: &str, dependencies: &[&str]) -> Member {
        let dependencies = dependencies.iter().map(|name| (*name).to_owned()).collect();
        Member { dir: dir.into(), name: format!("podwright-{dir}"), roots: Vec::new(), dependencies }
    }

    #[test]
    fn an_edge_that_is_not_listed_is_a_fault() {
        let allowed = parse("```\ncri, cni -> types\n```\n");
        let members = [member("types", &[]), member("cni", &["podwright-types", "serde"])];
        assert!(compare(&allowed, &members).is_empty());
        let members = [member("types", &["podwright-cni"]), member("cni", &[]), member("xtask", &["podwright-cni"])];
        assert_eq!(compare(&allowed, &members).len(), 1);
    }
}
