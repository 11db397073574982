//! `cargo xtask vm`: a Debian with systemd and the unified cgroup hierarchy under qemu's software emulation, and a payload
//! that runs in it. Owns the root image, the payload disk and the boot; what is tested is up to the payload: tests of critest/tests, and
//! critest itself under the name `critest`.

mod bootstrap;
mod emulator;
mod image;
mod payload;
mod qemu;
pub(crate) mod storage;

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};

pub(crate) use image::{Lsm, Suite};
pub(crate) use payload::Driver;

use payload::Payload;

use crate::build::{self, Profile};
use crate::process::step;
use crate::workspace::Workspace;

/// What runs if nothing is named: pods, their containers and their limits.
const DEFAULT_TESTS: &[&str] = &["lifecycle", "containers"];

/// What stands for the CRI's own validation suite among the names of tests.
const CRITEST: &str = "critest";

/// Time for a guest that runs tests, and for one that runs critest: emulation is some ten times slower than the machine.
const LIMIT_SECONDS: u64 = 900;
const CRITEST_LIMIT_SECONDS: u64 = 5400;

/// A guest that has to end at some moment and has not so long after it hangs: it looks at the clock itself.
const LATE_SECONDS: u64 = 300;

/// What runs in which guest.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Tests of critest/tests, `FILE` or `FILE::NAME`, or `critest`; none: lifecycle and containers.
    tests: Vec<String>,
    /// Which Debian: bookworm has the oldest kernel that is supported, sid the newest.
    #[arg(long, value_enum, default_value = "trixie")]
    suite: Suite,
    /// Who makes cgroups.
    #[arg(long, value_enum, default_value = "systemd")]
    driver: Driver,
    /// Which security module its kernel asks.
    #[arg(long, value_enum, default_value = "apparmor")]
    lsm: Lsm,
    /// Time limit of the guest; default: 900 s, or 5400 s with critest.
    #[arg(long)]
    limit_seconds: Option<u64>,
    /// Time for everything, the making of the guest included; what can not be run in it is named, and is no failure.
    #[arg(long, conflicts_with = "limit_seconds")]
    budget_seconds: Option<u64>,
    /// Arguments of critest.
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Options {
    /// As much as there is time for of some tests in the default guest.
    pub(crate) fn within(tests: &[&str], budget_seconds: u64) -> Self {
        Self {
            tests: tests.iter().map(|&test| test.to_owned()).collect(),
            suite: Suite::Trixie,
            driver: Driver::Systemd,
            lsm: Lsm::Apparmor,
            limit_seconds: None,
            budget_seconds: Some(budget_seconds),
            arguments: Vec::new(),
        }
    }

    fn chosen(&self) -> Vec<String> {
        let defaults = || DEFAULT_TESTS.iter().map(|&test| test.to_owned()).collect();
        if self.tests.is_empty() { defaults() } else { self.tests.clone() }
    }

    fn limit_seconds(&self) -> u64 {
        let long = self.tests.iter().any(|test| test == CRITEST);
        self.limit_seconds.unwrap_or(if long { CRITEST_LIMIT_SECONDS } else { LIMIT_SECONDS })
    }
}

/// Runs tests in a guest and returns its lines of results.
///
/// # Errors
/// Something can not be built, the guest does not come to its end, or a test failed.
pub(crate) fn test(workspace: &Workspace, options: &Options) -> Result<()> {
    test_seeing(workspace, options, |_| {})
}

/// [`test()`], which shows each line of the guest to `see` too.
///
/// # Errors
/// See [`test()`].
pub(crate) fn test_seeing(workspace: &Workspace, options: &Options, see: impl FnMut(&str)) -> Result<()> {
    let until = options.budget_seconds.map(|seconds| SystemTime::now() + Duration::from_secs(seconds));
    build::run(workspace, Profile::Dev)?;
    let chosen = options.chosen();
    let (driver, lsm) = (options.driver, options.lsm);
    let mut payload = Payload::new(workspace, &Profile::Dev.output(workspace), driver, lsm, until)?;
    for test in &chosen {
        match test.as_str() {
            CRITEST => payload.add_critest(workspace, &options.arguments, options.limit_seconds())?,
            test => payload.add_test(workspace, test)?,
        }
    }
    let payload = payload.finish()?;
    let suite = options.suite;
    step(&format!("running {} in a {suite:?} guest on cgroup v2 with the {driver:?} driver", chosen.join(", ")));
    run(&workspace.target, options, until, payload.path(), see)
}

/// Boots a guest and runs `<payload>/run` in it, with the payload mounted read-only on `/payload`.
///
/// What the script prints appears line by line. The guest has no network.
///
/// # Errors
/// The guest could not be made, did not come to its end within its limit, or the script failed.
fn run(
    target: &Path,
    options: &Options,
    until: Option<SystemTime>,
    payload: &Path,
    see: impl FnMut(&str),
) -> Result<()> {
    let suite = options.suite;
    let root = timed("the root image", || image::ensure(target, suite, options.lsm))
        .with_context(|| format!("making the root image of {suite:?}"))?;
    let emulator = timed("the emulator", || emulator::Emulator::ensure(target)).context("unpacking the emulator")?;
    let disk = timed("the payload's disk", || image::pack(payload))
        .with_context(|| format!("packing {} into a disk", payload.display()))?;
    let kernel_arguments = options.lsm.kernel_arguments();
    let limit_seconds = until.map_or(options.limit_seconds(), |until| {
        until.duration_since(SystemTime::now()).unwrap_or_default().as_secs() + LATE_SECONDS
    });
    match qemu::boot(&emulator, &root, kernel_arguments, disk.path(), limit_seconds, see)? {
        0 => Ok(()),
        code => bail!("the payload in the {suite:?} guest ended with exit code {code}; its output is above"),
    }
}

/// Says how long it took.
fn timed<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let outcome = work();
    println!("vm: {what}: {} s", start.elapsed().as_secs());
    outcome
}
