//! One run of critest: its command line, its output and its end.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::Arguments;
use crate::report::{Chosen, Report};
use crate::skips::Skips;
use crate::stage::Stage;

/// File with everything that critest printed.
pub(crate) const LOG: &str = "critest.log";
const DAEMON_LOG: &str = "podwrightd.log";
const REPORT: &str = "report.json";
const JUNIT: &str = "junit.xml";
/// Where critest's benchmarks leave their numbers.
const BENCHMARKS: &str = "benchmarks";

/// Time that critest gets to end after ginkgo's own limit.
const GRACE_SECONDS: u64 = 120;
/// Specs between two signs of life.
const SPECS_PER_SIGN: usize = 25;

/// What the benchmarks do; without it they skip.
const BENCHMARK_SETTINGS: &str = "containersNumber: 50
containersNumberParallel: 5
containerBenchmarkTimeoutSeconds: 60
podsNumber: 50
podsNumberParallel: 5
podBenchmarkTimeoutSeconds: 60
imagesNumber: 20
imagesNumberParallel: 2
imageBenchmarkTimeoutSeconds: 60
podContainerStartBenchmarkTimeoutSeconds: 60
";

/// How critest ended.
pub(crate) struct Outcome {
    pub(crate) report: Report,
    pub(crate) chosen: Chosen,
    /// `SUCCESS! -- 114 Passed | …`
    pub(crate) closing_line: String,
    /// A bad end that the report does not show.
    pub(crate) ended_badly: Option<String>,
}

/// Runs critest and reads its report.
pub(crate) fn critest(arguments: &Arguments, stage: &Stage, skips: &Skips) -> Result<Outcome> {
    let _ = fs::remove_dir_all(&arguments.output);
    fs::create_dir_all(&arguments.output).with_context(|| format!("making {}", arguments.output.display()))?;
    let mut command = command(arguments, stage, skips)?;
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().context("starting critest")?;
    let output = child.stdout.take().context("critest has no output")?;
    let log = File::create(arguments.output.join(LOG)).context("making critest's log")?;
    let closing_line = follow(output, log, arguments.verbose)?;
    let status = child.wait().context("waiting for critest")?;
    if let Some(log) = stage.log() {
        fs::write(arguments.output.join(DAEMON_LOG), log).context("keeping the daemon's log")?;
    }
    let report = Report::read(&arguments.output.join(REPORT)).with_context(|| {
        format!("critest ended with {status} and left no report; see {}", arguments.output.join(LOG).display())
    })?;
    let closing_line = closing_line.unwrap_or_else(|| report.counts());
    let ended_badly = (!status.success()).then(|| format!("critest ended with {status}"));
    Ok(Outcome { report, chosen: chosen(arguments), closing_line, ended_badly })
}

fn command(arguments: &Arguments, stage: &Stage, skips: &Skips) -> Result<Command> {
    // `timeout` is the last resort: ginkgo has its own limit, which names the spec.
    let mut command = stage.command(Path::new("timeout"));
    command.args(["-k", "10", &(arguments.limit_seconds + GRACE_SECONDS).to_string()]);
    command.arg(arguments.programs.join("critest"));
    let endpoint = stage.endpoint();
    command.args(["-runtime-endpoint", &endpoint, "-image-endpoint", &endpoint, "-config", "/dev/null"]);
    command.arg(format!("-ginkgo.timeout={}s", arguments.limit_seconds));
    command.arg("-ginkgo.no-color");
    if !arguments.benchmark {
        // Benchmarks are succinct, which ginkgo does not take together with this.
        command.arg("-ginkgo.v");
    }
    command.arg(format!("-ginkgo.json-report={}", arguments.output.join(REPORT).display()));
    command.arg(format!("-ginkgo.junit-report={}", arguments.output.join(JUNIT).display()));
    if arguments.websocket {
        command.args(["-websocket-exec", "-websocket-attach", "-websocket-portforward"]);
    }
    if let Some(socket) = stage.nri_socket().filter(|_| arguments.nri) {
        command.arg("-nri-socket").arg(socket);
    }
    if let Some(handler) = &arguments.handler {
        command.args(["-runtime-handler", handler]);
    }
    if arguments.parallel > 1 {
        command.arg(format!("-parallel={}", arguments.parallel));
    }
    if arguments.benchmark {
        let settings = arguments.output.join("benchmarks.yaml");
        let results = arguments.output.join(BENCHMARKS);
        fs::write(&settings, BENCHMARK_SETTINGS).context("writing the benchmarks' settings")?;
        fs::create_dir_all(&results).context("making the benchmarks' directory")?;
        command.arg("-benchmark").arg("-benchmarking-params-file").arg(settings);
        command.arg("-benchmarking-output-dir").arg(results);
    } else if chosen(arguments) == Chosen::All {
        command.args(skips.left_out().map(|spec| format!("-ginkgo.skip={}", quoted(spec))));
    }
    command.args(&arguments.arguments);
    command.env("TMPDIR", stage.scratch());
    // critest looks for ginkgo in PATH when specs run in parallel.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(arguments.programs.clone()).chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(dirs).context("PATH")?);
    Ok(command)
}

/// A caller who names specs knows which ones do not run.
fn chosen(arguments: &Arguments) -> Chosen {
    let names =
        |word: &String| ["focus", "skip", "label-filter"].iter().any(|flag| word.contains(&format!("ginkgo.{flag}")));
    if arguments.benchmark || arguments.arguments.iter().any(names) { Chosen::Some } else { Chosen::All }
}

/// The text as a regular expression that means itself.
fn quoted(text: &str) -> String {
    text.chars().flat_map(|c| c.is_ascii_punctuation().then_some('\\').into_iter().chain([c])).collect()
}

/// Keeps the output, gives signs of life, and returns ginkgo's closing line, which benchmarks lack.
fn follow(output: impl std::io::Read, mut log: File, verbose: bool) -> Result<Option<String>> {
    let mut closing_line = None;
    let mut ended = 0;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("reading critest's output")?;
        let line = String::from_utf8_lossy(&line);
        writeln!(log, "{line}").context("writing critest's log")?;
        if verbose {
            println!("{line}");
        }
        if line.starts_with("• [") {
            ended += 1;
            if ended % SPECS_PER_SIGN == 0 {
                println!("    {ended} specs ended");
            }
        }
        if line.contains(" Passed | ") && line.contains(" Failed | ") {
            closing_line = Some(line.trim().to_owned());
        }
    }
    Ok(closing_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_quoted_for_a_regular_expression() {
        assert_eq!(quoted("a [b] c."), "a \\[b\\] c\\.");
    }

    #[test]
    fn the_closing_line_is_found() {
        let log = tempfile::tempfile().unwrap();
        let text = "x\nRan 1 of 2\nSUCCESS! -- 1 Passed | 0 Failed | 0 Pending | 1 Skipped\nPASS\n";
        assert!(follow(text.as_bytes(), log, false).unwrap().unwrap().starts_with("SUCCESS! -- 1 Passed"));
        assert_eq!(follow(&b"PASS"[..], tempfile::tempfile().unwrap(), false).unwrap(), None);
    }
}
