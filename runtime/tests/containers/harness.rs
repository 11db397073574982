//! A small test runner: one forked process per test, the output form of the standard one.

use std::panic::catch_unwind;
use std::process::ExitCode;

use podwright_sys::{CloneFlags, Clones, clone_process, exit_now};
use rustix::process::{WaitOptions, waitpid};

/// Name and function of a test.
pub(crate) type Test = (&'static str, fn());

/// Runs what the arguments select: names to filter by, `--skip`, `--exact`, `--list`, `--ignored`, `--include-ignored`.
pub(crate) fn main(tests: &[Test], ignored: &[Test]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|a| a == flag);
    let filters: Vec<&String> = positional(&arguments);
    let skipped: Vec<&String> = arguments.windows(2).filter(|w| w[0] == "--skip").map(|w| &w[1]).collect();
    let wanted = |name: &str| {
        let fits = |f: &&String| if has("--exact") { name == f.as_str() } else { name.contains(f.as_str()) };
        (filters.is_empty() || filters.iter().any(fits)) && !skipped.iter().any(|s| name.contains(s.as_str()))
    };
    let mut selected: Vec<Test> = Vec::new();
    if !has("--ignored") {
        selected.extend(tests);
    }
    if has("--ignored") || has("--include-ignored") {
        selected.extend(ignored);
    }
    selected.retain(|(name, _)| wanted(name));
    if has("--list") {
        selected.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    run(&selected, tests.len() + ignored.len() - selected.len())
}

fn positional(arguments: &[String]) -> Vec<&String> {
    let takes_value = ["--skip", "--test-threads", "--format", "--color", "--logfile", "-Z"];
    let mut found = Vec::new();
    let mut iterator = arguments.iter();
    while let Some(argument) = iterator.next() {
        if takes_value.contains(&argument.as_str()) {
            iterator.next();
        } else if !argument.starts_with('-') {
            found.push(argument);
        }
    }
    found
}

fn run(tests: &[Test], filtered: usize) -> ExitCode {
    println!("\nrunning {} tests", tests.len());
    let mut failed = Vec::new();
    for (name, test) in tests {
        let passed = run_one(*test);
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        if !passed {
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        println!("\nfailures:");
        failed.iter().for_each(|name| println!("    {name}"));
    }
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    let passed = tests.len() - failed.len();
    println!(
        "\ntest result: {word}. {passed} passed; {} failed; 0 ignored; 0 measured; {filtered} filtered out",
        failed.len()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

fn run_one(test: fn()) -> bool {
    match clone_process(CloneFlags::empty(), None).unwrap() {
        Clones::Child => exit_now(i32::from(catch_unwind(test).is_err())),
        Clones::Parent(child) => {
            waitpid(Some(child.pid), WaitOptions::empty()).unwrap().unwrap().1.exit_status() == Some(0)
        }
    }
}
