//! The commands that run something: every test, the demo, the benchmark.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::build::{self, Profile};
use crate::process::{self, step};
use crate::workspace::Workspace;
use crate::{check, setup};

/// Tests that passed, failed and were left out.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Summary {
    /// Adds one of cargo's lines, `test result: ok. 7 passed; 0 failed; 0 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some(counts) = line.trim().strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        for part in counts.1.split(';') {
            let mut words = part.split_whitespace();
            let count = words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or_default();
            match words.next() {
                Some("passed") => self.passed += count,
                Some("failed") => self.failed += count,
                Some("ignored") => self.skipped += count,
                _ => {}
            }
        }
    }
}

/// `cargo xtask test`. The last line is the summary, whatever happened.
pub(crate) fn test(workspace: &Workspace, filter: Option<&str>) -> Result<()> {
    let mut summary = Summary::default();
    let outcome = run_tests(workspace, filter, &mut summary);
    if let Err(error) = &outcome {
        println!("error: {error:#}");
    }
    println!("{} passed, {} failed, {} skipped", summary.passed, summary.failed, summary.skipped);
    if outcome.is_err() {
        std::process::exit(1);
    }
    Ok(())
}

fn run_tests(workspace: &Workspace, filter: Option<&str>, summary: &mut Summary) -> Result<()> {
    ensure_root("the tests")?;
    setup::for_tests()?;
    if filter.is_none() {
        check::without_tests(workspace)?;
    }
    build::everything_for_tests(workspace)?;
    step("running every test");
    let mut command = workspace.cargo(&["test", "--workspace", "--no-fail-fast"]);
    command.args(filter);
    let mut child = command.stdout(Stdio::piped()).spawn().context("starting cargo test")?;
    let lines = BufReader::new(child.stdout.take().context("cargo has no output")?).lines();
    for line in lines.map_while(Result::ok) {
        println!("{line}");
        summary.add(&line);
    }
    let status = child.wait().context("waiting for cargo test")?;
    ensure!(status.success(), "cargo test ended with {status}; the failures are listed above");
    ensure!(summary.passed > 0, "no test ran");
    Ok(())
}

/// `cargo xtask demo`.
pub(crate) fn demo(workspace: &Workspace) -> Result<()> {
    ensure_root("the demo")?;
    setup::for_demo()?;
    build::daemon(workspace, Profile::Dev)?;
    step("building the demo");
    process::run(&mut workspace.cargo(&[
        "build",
        "--quiet",
        "--package",
        "podwright-critest",
        "--bin",
        "podwright-demo",
    ]))?;
    start(workspace, Profile::Dev, "podwright-demo", &[])
}

/// `cargo xtask bench`.
pub(crate) fn bench(workspace: &Workspace, pods: u32) -> Result<()> {
    ensure_root("the benchmark")?;
    setup::for_demo()?;
    build::daemon(workspace, Profile::Release)?;
    step("building the benchmark");
    process::run(&mut workspace.cargo(&[
        "build",
        "--quiet",
        "--release",
        "--package",
        "podwright-critest",
        "--bin",
        "podwright-bench",
    ]))?;
    start(workspace, Profile::Release, "podwright-bench", &["--pods", &pods.to_string()])
}

fn start(workspace: &Workspace, profile: Profile, name: &str, words: &[&str]) -> Result<()> {
    let built = match profile {
        Profile::Dev | Profile::Chaos => "debug",
        Profile::Release => "release",
    };
    let mut command = Command::new(workspace.target.join(built).join(name));
    command.args(words).env("PODWRIGHT_BIN_DIR", profile.output(workspace));
    // In our place, so that Ctrl-C is its own to handle and nobody returns before it has cleaned up.
    Err(command.exec()).with_context(|| format!("starting {name}"))
}

fn ensure_root(what: &str) -> Result<()> {
    if !process::is_root() {
        bail!("{what} needs root, for namespaces, mounts and cgroups; run it by sudo or in a VM");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_cargo_are_added_up() {
        let mut summary = Summary::default();
        summary.add("test result: ok. 7 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.68s");
        summary.add("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s");
        summary.add("test something ... ok");
        assert_eq!(summary, Summary { passed: 10, failed: 2, skipped: 1 });
    }
}
