//! Rules about source files: they open with `//!`, stay short, and only `sys` has unsafe code.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;
use crate::workspace::Workspace;

const MOST_LINES: usize = 600;
const FORBID: &str = "#![forbid(unsafe_code)]";
/// The one crate that may have unsafe code.
const UNSAFE_CRATE: &str = "sys";

pub(super) fn faults(workspace: &Workspace) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for path in tracked(&workspace.root)? {
        let full = workspace.root.join(&path);
        // Deleted, but not committed yet.
        let Ok(text) = fs::read_to_string(&full) else { continue };
        faults.extend(faults_of(&path, &text));
    }
    for member in workspace.members().iter().filter(|member| member.dir != UNSAFE_CRATE) {
        for root in &member.roots {
            let text = fs::read_to_string(root).with_context(|| format!("reading {}", root.display()))?;
            if !text.contains(FORBID) {
                faults.push(format!("{}: lacks {FORBID}", root.display()));
            }
        }
    }
    Ok(faults)
}

/// Rust files of the repository, as paths below its root.
pub(super) fn tracked(root: &Path) -> Result<Vec<String>> {
    // Whoever owns the clone: the tests run as root.
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "-C"]).arg(root).args(["ls-files", "*.rs"]);
    Ok(process::read(&mut git)?.lines().map(str::to_owned).collect())
}

fn faults_of(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = text.lines().count();
    if lines > MOST_LINES {
        faults.push(format!("{path}: {lines} lines; look for the second noun ({MOST_LINES} at most)"));
    }
    // In tests/, cargo takes a `foo.rs` for a test of its own.
    let of_tests = path.ends_with("tests.rs") || path.contains("/tests/");
    if !text.starts_with("//!") && !of_tests {
        faults.push(format!("{path}: does not open with //! (what it owns, what it leaves to others)"));
    }
    if path.ends_with("/mod.rs") && !of_tests {
        faults.push(format!("{path}: use foo.rs beside foo/"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_files_are_named() {
        assert!(faults_of("a.rs", "//! Good.\n").is_empty());
        assert_eq!(faults_of("a/mod.rs", "use x;\n").len(), 2);
        assert_eq!(faults_of("a.rs", &"//!\n".repeat(601)).len(), 1);
    }
}
