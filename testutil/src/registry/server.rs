//! The process of a test registry.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::tls::Files;
use crate::host::TestHost;

/// The registry ends when its standard input does, so also when the test is killed.
const WRAPPER: &str = "docker-registry serve \"$1\" </dev/null & pid=$!; cat >/dev/null; kill $pid; wait $pid";

/// Name of its process.
const PROGRAM: &str = "docker-registry";

/// What the registry says when it can be reached; the address follows.
const LISTENING: &str = "listening on ";

/// A registry's process.
pub(super) struct Server {
    wrapper: Child,
    stdin: Option<ChildStdin>,
    address: String,
    config: PathBuf,
}

impl Server {
    pub(super) fn start(dir: &Path, config: &Value, host: Option<&TestHost>) -> Result<Self> {
        let path = dir.join("config.yml");
        // JSON is YAML too.
        fs::write(&path, config.to_string()).with_context(|| format!("writing {}", path.display()))?;
        Self::launch(path, host)
    }

    fn launch(path: PathBuf, host: Option<&TestHost>) -> Result<Self> {
        let shell = OsStr::new("sh");
        let mut command = host.map_or_else(|| Command::new(shell), |host| host.command(shell));
        command.args(["-c", WRAPPER, "registry"]).arg(&path);
        let mut wrapper = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting docker-registry; is the package installed?")?;
        let stdin = wrapper.stdin.take();
        let log = wrapper.stderr.take().context("the registry has no log")?;
        let mut server = Self { wrapper, stdin, address: String::new(), config: path };
        server.address = wait_for_address(log)?;
        Ok(server)
    }

    /// Kills the registry itself; the shell around it ends with its input.
    pub(super) fn kill(&mut self) -> Result<()> {
        let shell = self.wrapper.id();
        let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"))?;
        let is_registry =
            |pid: &&str| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with(PROGRAM));
        let pid = children.split_whitespace().find(is_registry).context("the registry does not run")?;
        kill_process(pid.parse().ok().and_then(Pid::from_raw).context("the registry's pid")?, Signal::KILL)?;
        drop(self.stdin.take());
        self.wrapper.wait().context("waiting for the registry's shell")?;
        Ok(())
    }

    /// Starts it at the address that it had.
    pub(super) fn start_again(&mut self, host: &TestHost) -> Result<()> {
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&self.config)?)?;
        if let Some(address) = config.pointer_mut("/http/addr") {
            *address = json!(self.address);
        }
        fs::write(&self.config, config.to_string()).with_context(|| format!("writing {}", self.config.display()))?;
        *self = Self::launch(self.config.clone(), Some(host))?;
        Ok(())
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.wrapper.wait();
    }
}

pub(super) fn config(storage: &Path, files: Option<&Files>, htpasswd: Option<&Path>) -> Value {
    let mut config = json!({
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": true}},
        "storage": {"filesystem": {"rootdirectory": storage}, "delete": {"enabled": true}},
        "http": {"addr": "127.0.0.1:0"},
    });
    if let (Some(files), Some(http)) = (files, config.get_mut("http")) {
        *http = json!({"addr": "127.0.0.1:0", "tls": {"certificate": files.certificate, "key": files.key}});
    }
    if let (Some(path), Some(config)) = (htpasswd, config.as_object_mut()) {
        config.insert("auth".into(), json!({"htpasswd": {"realm": "test", "path": path}}));
    }
    config
}

/// Reads the log until the address appears; the rest is read and dropped.
fn wait_for_address(log: impl Read + Send + 'static) -> Result<String> {
    let mut log = BufReader::new(log);
    let mut seen = String::new();
    loop {
        let mut line = String::new();
        if log.read_line(&mut line).context("reading the registry's log")? == 0 {
            bail!("docker-registry ended before it listened:\n{seen}");
        }
        if let Some((_, rest)) = line.split_once(LISTENING) {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
            thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
            return Ok(rest.get(..end).unwrap_or(rest).to_owned());
        }
        seen.push_str(&line);
    }
}
