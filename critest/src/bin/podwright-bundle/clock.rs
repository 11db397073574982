//! The time of a program from its start to its end.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// Runs a command `count` times and prints how long each took.
pub(crate) fn run(first: u32, count: u32, words: &[String]) -> Result<()> {
    for number in first..first.saturating_add(count) {
        let words: Vec<String> = words.iter().map(|word| word.replace("{}", &number.to_string())).collect();
        let (program, arguments) = words.split_first().context("there is no command")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        let start = Instant::now();
        let mut child = command.spawn().with_context(|| format!("starting {program}"))?;
        let status = child.wait().with_context(|| format!("waiting for {program}"))?;
        let took = start.elapsed();
        ensure!(status.success(), "{} ended with {status}", words.join(" "));
        println!("{}", took.as_nanos());
    }
    Ok(())
}
