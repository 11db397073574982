//! The commands that run something: every test, the demo, the benchmark.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::build::{self, Arguments, Profile};
use crate::critest::{self, Options};
use crate::process::{self, step};
use crate::workspace::Workspace;
use crate::{chaos, check, power, setup, soak, vm};

/// What runs in the guest: the unit's restart, stop and upgrade, then all of critest.
const GUEST_TESTS: &[&str] = &["systemd", "critest"];

/// Time for the guest, from the first package that is fetched for it to its end. Two idle cores need about seven minutes; what a slower
/// machine does not reach is named as not run.
const GUEST_SECONDS: u64 = 720;

/// The kill loop in a run of all tests.
const SHORT_CHAOS: &[&str] = &["--seconds", "120", "--seed", "1"];

/// The power cuts in a run of all tests.
const SHORT_POWER: &[&str] = &["--points", "12", "--seed", "1"];

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

    /// Adds ginkgo's closing line, `SUCCESS! -- 3 Passed | 0 Failed | 0 Pending | 2 Skipped`, which may stand behind other text.
    fn add_ginkgo(&mut self, line: &str) {
        let Some((_, counts)) = line.split_once("! -- ") else { return };
        for part in counts.split('|') {
            let mut words = part.split_whitespace();
            let count = words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or_default();
            match words.next() {
                Some("Passed") => self.passed += count,
                Some("Failed") => self.failed += count,
                Some("Skipped" | "Pending") => self.skipped += count,
                _ => {}
            }
        }
    }

    /// Adds the kill loop's closing line, `steps 3, kills 4, pods 5, checks 6, left over 0`: a step that was struck counts as a test.
    fn add_chaos(&mut self, line: &str) {
        let Some((steps, rest)) = line.strip_prefix("steps ").and_then(|rest| rest.split_once(", kills ")) else {
            return;
        };
        self.passed += steps.parse::<u64>().unwrap_or_default();
        let left = rest.rsplit_once("left over ").and_then(|(_, count)| count.trim().parse::<u64>().ok());
        self.failed += left.unwrap_or_default();
    }

    /// Adds the power cuts' line, `cut points 12, at a flush 6, …, failed 0`: a cut counts as a test.
    fn add_power(&mut self, line: &str) {
        let Some((cuts, rest)) = line.strip_prefix("cut points ").and_then(|rest| rest.split_once(", at a flush "))
        else {
            return;
        };
        let failed = rest.rsplit_once(", failed ").and_then(|(_, count)| count.trim().parse::<u64>().ok());
        self.failed += failed.unwrap_or_default();
        self.passed += cuts.parse::<u64>().unwrap_or_default().saturating_sub(failed.unwrap_or_default());
    }

    /// Runs a part, which adds what it counts, and notes its error.
    fn part(&mut self, name: &str, run: impl FnOnce(&mut Self) -> Result<()>) {
        let failed = self.failed;
        let outcome = run(self);
        self.note(failed, name, outcome);
    }

    /// Notes an error of a part whose own counts do not show one.
    fn note(&mut self, failed_before: u64, part: &str, outcome: Result<()>) {
        if let Err(error) = outcome {
            println!("error: {part}: {error:#}");
            self.failed += u64::from(self.failed == failed_before);
        }
    }
}

/// `cargo xtask test`. The last line is the summary, whatever happened.
pub(crate) fn test(workspace: &Workspace, filter: Option<&str>, guest: bool) -> Result<()> {
    let mut summary = Summary::default();
    let outcome = run_tests(workspace, filter, guest, &mut summary);
    if let Err(error) = &outcome {
        println!("error: {error:#}");
    }
    println!("{} passed, {} failed, {} skipped", summary.passed, summary.failed, summary.skipped);
    if outcome.is_err() {
        std::process::exit(1);
    }
    Ok(())
}

fn run_tests(workspace: &Workspace, filter: Option<&str>, guest: bool, summary: &mut Summary) -> Result<()> {
    process::ensure_root("the tests")?;
    setup::for_tests()?;
    if filter.is_none() {
        check::without_tests(workspace)?;
    }
    build::everything_for_tests(workspace)?;
    step("running every test");
    let mut command = workspace.cargo(&["test", "--workspace", "--no-fail-fast"]);
    command.args(filter);
    let tests = watched(&mut command, |line| summary.add(line)).context("cargo test; the failures are listed above");
    ensure!(summary.passed > 0 || tests.is_err(), "no test ran");
    summary.note(0, "the tests", tests);
    if filter.is_none() {
        // One after the other also when one fails: a run of CI tells everything that it can.
        summary.part("critest", |summary| whole_critest(workspace, summary));
        summary.part("containerd with podwright-oci", |summary| short_containerd(workspace, summary));
        summary.part("the kill loop", |summary| short_chaos(workspace, summary));
        summary.part("the soak", |summary| short_soak(workspace, summary));
        summary.part("the power cuts", |summary| short_power(workspace, summary));
    }
    if guest && filter.is_none() {
        summary.part("the guest", |summary| guest_in_time(workspace, summary));
    }
    ensure!(summary.failed == 0, "something failed; see above");
    Ok(())
}

/// critest in full, on this machine.
fn whole_critest(workspace: &Workspace, summary: &mut Summary) -> Result<()> {
    let mut command = critest::command(workspace, &Options::default())?;
    step("running critest in full");
    watched(&mut command, |line| summary.add_ginkgo(line))
}

/// Some specs of critest against containerd with podwright-oci, where there is a containerd. Whole are those of
/// `cargo xtask critest --contender containerd-podwright-oci`.
fn short_containerd(workspace: &Workspace, summary: &mut Summary) -> Result<()> {
    if !critest::has_containerd() {
        println!("SKIPPED: containerd with podwright-oci: no containerd 2 or newer with its shim is in PATH");
        summary.skipped += 1;
        return Ok(());
    }
    let mut command = critest::command(workspace, &Options::short_of_containerd())?;
    step("running some of critest against containerd with podwright-oci");
    watched(&mut command, |line| summary.add_ginkgo(line))
}

/// As much of the kill loop as a run of all tests has time for. Whole are ten minutes of `cargo xtask chaos --complete`.
fn short_chaos(workspace: &Workspace, summary: &mut Summary) -> Result<()> {
    let mut command = chaos::command(workspace, &Arguments::of(SHORT_CHAOS))?;
    step(&format!("running the kill loop, shortened: {}", SHORT_CHAOS.join(" ")));
    watched(&mut command, |line| summary.add_chaos(line))
}

/// A soak that fits in here; whole are the ten thousand pods of `cargo xtask soak`.
fn short_soak(workspace: &Workspace, summary: &mut Summary) -> Result<()> {
    let mut command = soak::command(workspace, &soak::Options::SHORT)?;
    step("running the soak, shortened");
    watched(&mut command, |_| {})?;
    summary.passed += 1;
    Ok(())
}

/// Some of the power cuts; whole are all flushes of `cargo xtask power-loss`.
fn short_power(workspace: &Workspace, summary: &mut Summary) -> Result<()> {
    setup::for_guests()?;
    let mut command = power::command(workspace, &Arguments::of(SHORT_POWER))?;
    step(&format!("cutting the power, shortened: {}", SHORT_POWER.join(" ")));
    watched(&mut command, |line| summary.add_power(line))
}

/// As much as fits into its time of the daemon as a unit of systemd, on cgroup v2, with AppArmor.
fn guest_in_time(workspace: &Workspace, summary: &mut Summary) -> Result<()> {
    setup::for_guests()?;
    let options = vm::Options::within(GUEST_TESTS, GUEST_SECONDS);
    vm::test_seeing(workspace, &options, |line| {
        summary.add(line);
        summary.add_ginkgo(line);
    })
}

/// Runs to the end, shows the output, and gives each of its lines to `see`.
fn watched(command: &mut Command, mut see: impl FnMut(&str)) -> Result<()> {
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("starting {command:?}"))?;
    let lines = BufReader::new(child.stdout.take().context("a program without output")?).lines();
    for line in lines.map_while(Result::ok) {
        println!("{line}");
        see(&line);
    }
    let status = child.wait().context("waiting for a program")?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

/// `cargo xtask critest`.
pub(crate) fn critest(workspace: &Workspace, options: &Options) -> Result<()> {
    process::ensure_root("critest")?;
    setup::for_tests()?;
    build::run(workspace, Profile::Dev)?;
    let mut command = critest::command(workspace, options)?;
    step("running critest");
    Err(command.exec()).context("starting the runner of critest")
}

/// `cargo xtask demo`.
pub(crate) fn demo(workspace: &Workspace) -> Result<()> {
    process::ensure_root("the demo")?;
    setup::for_demo()?;
    build::daemon(workspace, Profile::Dev)?;
    step("building the demo");
    let mut command = build::harness_command(workspace, "podwright-demo", Profile::Dev, Profile::Dev)?;
    // In our place, so that Ctrl-C is its own to handle and nobody returns before it has cleaned up.
    Err(command.exec()).context("starting podwright-demo")
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
        summary.add_ginkgo("vm| FAIL! -- 5 Passed | 1 Failed | 1 Pending | 2 Skipped");
        assert_eq!(summary, Summary { passed: 15, failed: 3, skipped: 4 });
        summary.add_chaos("steps 40, kills 90, pods 120, checks 800, left over 0");
        summary.add_chaos("9 of 88 steps never reached: registry");
        assert_eq!(summary, Summary { passed: 55, failed: 3, skipped: 4 });
        summary.add_power("cut points 12, at a flush 6, between 3, torn 3, images listed 20, pods 2, failed 1");
        assert_eq!(summary, Summary { passed: 66, failed: 4, skipped: 4 });
        summary.note(3, "a part", Err(anyhow::anyhow!("shown in the counts already")));
        assert_eq!(summary.failed, 4);
        summary.note(4, "a part", Err(anyhow::anyhow!("shown nowhere")));
        assert_eq!(summary.failed, 5);
    }
}
