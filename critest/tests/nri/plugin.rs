//! The plugin of critest/fixtures/nri-plugin: dialling in or put where the daemon launches it, and what it was told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use podwright_testutil::{Daemon, program};
use serde::Deserialize;
use serde_json::json;

/// For what a plugin is told.
const TOLD_WITHIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// One that dialled in; it ends with this value.
pub(crate) struct Plugin {
    child: Child,
    pub(crate) book: Book,
}

/// What a plugin was told.
pub(crate) struct Book(PathBuf);

/// Of one event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Line {
    pub(crate) event: String,
    pub(crate) pod: String,
    pub(crate) container: String,
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) pods: Vec<String>,
    pub(crate) containers: Vec<String>,
    pub(crate) text: String,
}

/// Writes the configuration of `NN-name`, which names its book.
fn configure(daemon: &Daemon, name: &str) -> Result<Book> {
    let book = daemon.path(&format!("{name}.log"));
    fs::write(daemon.path("nri-conf").join(format!("{name}.conf")), json!({"log": book}).to_string())?;
    Ok(Book(book))
}

impl Plugin {
    /// Dials in as `NN-name`, and waits until it was told what is there.
    pub(crate) async fn dial(daemon: &Daemon, index: &str, name: &str) -> Result<Self> {
        let plugin = Self::begin(daemon, index, name)?;
        plugin.book.wait(|line| line.event == "Synchronize").await.context("joining")?;
        Ok(plugin)
    }

    /// Does not wait.
    pub(crate) fn begin(daemon: &Daemon, index: &str, name: &str) -> Result<Self> {
        let book = configure(daemon, &format!("{index}-{name}"))?;
        let mut command = daemon.host().command(program("nri-plugin")?);
        command.args(["-index", index, "-name", name, "-socket"]).arg(daemon.path("nri.sock"));
        command.stderr(fs::File::create(daemon.path(&format!("{index}-{name}.err")))?);
        Ok(Self { child: command.spawn().context("starting the plugin")?, book })
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Puts it where the next daemon launches it.
pub(crate) fn to_be_launched(daemon: &Daemon, index: &str, name: &str) -> Result<Book> {
    let book = configure(daemon, &format!("{index}-{name}"))?;
    let path = daemon.path("nri-plugins").join(format!("{index}-{name}"));
    // A link, as the file of a program that another thread has open for writing can not be executed.
    std::os::unix::fs::symlink(program("nri-plugin")?, &path)?;
    ensure!(path.metadata()?.permissions().mode() & 0o111 != 0, "it can not be executed");
    Ok(book)
}

impl Book {
    pub(crate) fn lines(&self) -> Vec<Line> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for an event.
    pub(crate) async fn wait(&self, is_it: impl Fn(&Line) -> bool) -> Result<Line> {
        let end = Instant::now() + TOLD_WITHIN;
        loop {
            if let Some(line) = self.lines().into_iter().find(&is_it) {
                return Ok(line);
            }
            ensure!(Instant::now() < end, "it was not told within {TOLD_WITHIN:?}, but {:#?}", self.lines());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The events of one pod or container, in order.
    pub(crate) fn of(&self, id: &str) -> Vec<String> {
        let is_of = |line: &Line| if line.container.is_empty() { line.pod == id } else { line.container == id };
        self.lines().into_iter().filter(is_of).map(|line| line.event).collect()
    }
}
