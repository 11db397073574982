//! Runs one plugin: environment, configuration on stdin, bounded output, a deadline that kills its whole process group.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout_at};

use super::outcome::error_object;
use crate::error::CniError;
use crate::failpoints::{self, fail_point};

const STDOUT_LIMIT_BYTES: usize = 1 << 20;
const STDERR_LIMIT_BYTES: usize = 16 << 10;
/// How much of what a plugin printed goes into an error.
const QUOTE_CHARACTERS: usize = 500;

/// One run of a plugin.
#[derive(Debug)]
pub(super) struct Run<'a> {
    /// ADD, DEL, ...
    pub(super) command: &'static str,
    /// Type of the plugin.
    pub(super) plugin: &'a str,
    /// Name of the network.
    pub(super) network: &'a str,
    /// Where plugins are.
    pub(super) bin_dirs: &'a [PathBuf],
    /// `CNI_*` variables beside command and path.
    pub(super) environment: Vec<(&'static str, String)>,
    /// Configuration.
    pub(super) stdin: Value,
    /// When it is killed.
    pub(super) deadline: Instant,
    /// How long it had, for the error.
    pub(super) limit: Duration,
}

struct Output {
    success: bool,
    status: String,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Kills a process group when dropped, unless the process ended by itself.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Run<'_> {
    /// Runs it; returns what it printed, `null` if nothing.
    pub(super) async fn run(self) -> Result<Value, CniError> {
        let path = find(self.bin_dirs, self.plugin).ok_or_else(|| self.problem(missing(self.bin_dirs)))?;
        let output = match timeout_at(self.deadline, self.execute(&path)).await {
            Ok(output) => output.map_err(|error| self.problem(format!("running {}: {error}", path.display())))?,
            Err(_) => {
                return Err(CniError::Timeout {
                    command: self.command,
                    plugin: self.plugin.to_owned(),
                    network: self.network.to_owned(),
                    limit: self.limit,
                });
            }
        };
        self.judge(output)
    }

    async fn execute(&self, path: &Path) -> io::Result<Output> {
        let mut child = self.spawn(path)?;
        let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
        let input = serde_json::to_vec(&self.stdin)?;
        let stdin = child.stdin.take();
        let command = self.command;
        let write = async move {
            if let Some(mut stdin) = stdin {
                // A plugin that does not read its input is none the worse for it.
                let _ = stdin.write_all(&input).await;
            }
            match command {
                "ADD" => fail_point(failpoints::ADD_RUNS),
                "DEL" => fail_point(failpoints::DEL_RUNS),
                _ => {}
            }
            Ok::<(), io::Error>(())
        };
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ((), stdout, stderr) = tokio::try_join!(write, read_bounded(stdout), read_start(stderr))?;
        let status = child.wait().await?;
        group.0 = None;
        Ok(Output { success: status.success(), status: status.to_string(), stdout, stderr })
    }

    fn spawn(&self, path: &Path) -> io::Result<Child> {
        let search = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
        let bin_dirs = std::env::join_paths(self.bin_dirs).map_err(io::Error::other)?;
        Command::new(path)
            .env_clear()
            .env("PATH", search)
            .env("CNI_COMMAND", self.command)
            .env("CNI_PATH", bin_dirs)
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    fn judge(&self, output: Output) -> Result<Value, CniError> {
        if output.success {
            if output.stdout.iter().all(u8::is_ascii_whitespace) {
                return Ok(Value::Null);
            }
            return serde_json::from_slice(&output.stdout)
                .map_err(|error| self.problem(format!("it printed no JSON ({error}): {}", quote(&output.stdout))));
        }
        match error_object(&output.stdout) {
            Some(object) => Err(CniError::Plugin {
                command: self.command,
                plugin: self.plugin.to_owned(),
                network: self.network.to_owned(),
                code: object.code,
                message: object.msg,
                details: if object.details.is_empty() { String::new() } else { format!(": {}", object.details) },
            }),
            None => {
                let words = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
                Err(self.problem(format!("{}: {}", output.status, quote(words))))
            }
        }
    }

    fn problem(&self, problem: String) -> CniError {
        CniError::Run {
            command: self.command,
            plugin: self.plugin.to_owned(),
            network: self.network.to_owned(),
            problem,
        }
    }
}

/// The plugin's file, if there is one.
pub(super) fn find(bin_dirs: &[PathBuf], plugin: &str) -> Option<PathBuf> {
    bin_dirs.iter().map(|dir| dir.join(plugin)).find(|path| path.is_file())
}

/// Says where it was looked for.
pub(super) fn missing(bin_dirs: &[PathBuf]) -> String {
    let dirs: Vec<String> = bin_dirs.iter().map(|dir| dir.display().to_string()).collect();
    format!("there is no such plugin in {}; install it", dirs.join(", "))
}

async fn read_bounded(source: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(source) = source {
        source.take(STDOUT_LIMIT_BYTES as u64 + 1).read_to_end(&mut bytes).await?;
    }
    if bytes.len() > STDOUT_LIMIT_BYTES {
        return Err(io::Error::other(format!("it printed more than {STDOUT_LIMIT_BYTES} bytes and was killed")));
    }
    Ok(bytes)
}

/// Keeps the start and reads on, so that the plugin is not stopped by a full pipe.
async fn read_start(source: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut source) = source {
        (&mut source).take(STDERR_LIMIT_BYTES as u64).read_to_end(&mut bytes).await?;
        tokio::io::copy(&mut source, &mut tokio::io::sink()).await?;
    }
    Ok(bytes)
}

fn quote(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let trimmed: String = text
        .trim()
        .chars()
        .take(QUOTE_CHARACTERS)
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect();
    if trimmed.is_empty() { "it printed nothing".to_owned() } else { trimmed }
}
