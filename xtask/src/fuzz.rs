//! `cargo xtask fuzz`: every target of fuzz/ under libFuzzer, each for its share of the time.
//!
//! Stable Rust: the compiler's coverage pass is switched on by flags, without a sanitizer. There is little for one to find: unsafe code is
//! in `sys` alone, which no target reaches. Overflow checks and debug assertions are on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{self, step};
use crate::setup;
use crate::workspace::Workspace;

/// What libFuzzer needs to know of the program: counters for edges, comparisons.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=4";
/// Longest input. The corpus is replayed by ordinary tests and stays small.
const MAX_INPUT_BYTES: u32 = 16 << 10;
/// One input may take this long.
const SLOWEST_INPUT_SECONDS: u32 = 10;
/// Memory of the program.
const MEMORY_MIB: u32 = 1024;

/// Runs the targets named (all, if none is), `seconds` for all of them together.
///
/// # Errors
/// A target that is not known, or one that crashed; the text names the input that did it.
pub(crate) fn run(workspace: &Workspace, seconds: u64, wanted: &[String]) -> Result<()> {
    setup::for_fuzzing()?;
    let corpus = workspace.root.join("fuzz/corpus");
    let targets = chosen(&corpus, wanted)?;
    let program = build(workspace)?;
    let share = (seconds / targets.len().max(1) as u64).max(1);
    step(&format!("fuzzing {} targets, {share} s each", targets.len()));
    let mut crashed = Vec::new();
    for target in &targets {
        let outcome = fuzz(workspace, &program, target, share)?;
        println!("{target}: {}", outcome.line());
        crashed.extend(outcome.crashes.into_iter().map(|input| format!("{target}: {}", input.display())));
    }
    ensure!(crashed.is_empty(), "these inputs crash; mend it and add them to fuzz/corpus:\n{}", crashed.join("\n"));
    Ok(())
}

fn chosen(corpus: &Path, wanted: &[String]) -> Result<Vec<String>> {
    let mut known = Vec::new();
    for entry in fs::read_dir(corpus).with_context(|| format!("listing {}", corpus.display()))? {
        known.push(entry?.file_name().to_string_lossy().into_owned());
    }
    known.sort();
    if let Some(odd) = wanted.iter().find(|name| !known.contains(name)) {
        bail!("there is no target {odd}; there are {}", known.join(", "));
    }
    Ok(if wanted.is_empty() { known } else { wanted.to_vec() })
}

/// A `--target` of its own keeps the flags away from build scripts and macros, a directory of its own from all other builds.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    step("building the fuzz targets");
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut command = workspace.cargo(&["build", "--quiet", "--package", "podwright-fuzz", "--features", "libfuzzer"]);
    command.args(["--profile", "fuzz", "--target", &triple]).env("RUSTFLAGS", COVERAGE);
    process::run(&mut command)?;
    Ok(workspace.target.join(triple).join("fuzz/podwright-fuzz"))
}

/// How a run ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    runs: u64,
    edges: u64,
    crashes: Vec<PathBuf>,
}

impl Outcome {
    fn line(&self) -> String {
        format!("{} runs, {} edges, {} crashes", self.runs, self.edges, self.crashes.len())
    }

    /// Takes in a line of libFuzzer: `#1024 pulse cov: 310 ft: 400 ...`, `stat::number_of_executed_units: 5000`.
    fn add(&mut self, line: &str) {
        let number_after = |key: &str| -> Option<u64> {
            let (_, rest) = line.split_once(key)?;
            rest.split_whitespace().next()?.parse().ok()
        };
        if line.starts_with('#') {
            self.edges = number_after("cov:").unwrap_or(self.edges);
        }
        self.runs = number_after("stat::number_of_executed_units:").unwrap_or(self.runs);
    }
}

/// New inputs are collected below target/, beside the committed corpus, and are the start of the next run.
fn fuzz(workspace: &Workspace, program: &Path, target: &str, seconds: u64) -> Result<Outcome> {
    let own = workspace.target.join("fuzz").join(target);
    let (found, crashes) = (own.join("found"), own.join("crashes"));
    let _ = fs::remove_dir_all(&crashes);
    for dir in [&found, &crashes] {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let mut command = Command::new(program);
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-artifact_prefix={}/", crashes.display()));
    command.arg(format!("-max_len={MAX_INPUT_BYTES}")).arg(format!("-timeout={SLOWEST_INPUT_SECONDS}"));
    command.arg(format!("-rss_limit_mb={MEMORY_MIB}")).arg("-print_final_stats=1");
    command.arg(&found).arg(workspace.root.join("fuzz/corpus").join(target));
    let log = own.join("log");
    let file = fs::File::create(&log).with_context(|| format!("making {}", log.display()))?;
    command.env("PODWRIGHT_FUZZ_TARGET", target).stdout(Stdio::null()).stderr(file);
    let status = command.status().with_context(|| format!("starting {}", program.display()))?;
    let text = fs::read(&log).with_context(|| format!("reading {}", log.display()))?;
    let mut outcome = Outcome::default();
    String::from_utf8_lossy(&text).lines().for_each(|line| outcome.add(line));
    for entry in fs::read_dir(&crashes).with_context(|| format!("listing {}", crashes.display()))? {
        outcome.crashes.push(entry?.path());
    }
    ensure!(status.success() || !outcome.crashes.is_empty(), "{target} ended with {status}; see {}", log.display());
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_libfuzzer_are_read() {
        let mut outcome = Outcome::default();
        outcome.add("#2\tINITED cov: 310 ft: 400 corp: 1/1b exec/s: 0 rss: 40Mb");
        outcome.add("INFO: seed corpus: files: 3 min: 1b max: 9b total: 20b rss: 40Mb");
        outcome.add("stat::number_of_executed_units: 5000");
        assert_eq!(outcome, Outcome { runs: 5000, edges: 310, crashes: Vec::new() });
    }
}
