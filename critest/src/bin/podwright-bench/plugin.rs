//! This program as a CNI plugin: it runs the real one and notes how long that took, so that a runtime's own time is known.
//!
//! A copy of this program stands under each plugin's name in a directory `timed`; the real ones are in `plain` beside it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The file of the notes, beside the directories.
const NOTES: &str = "took";

/// Does a plugin's work if that is what this program was started for.
pub(crate) fn run_as_plugin() -> Option<ExitCode> {
    std::env::var_os("CNI_COMMAND")?;
    let own = PathBuf::from(std::env::args_os().next()?);
    // Runtimes find it by the link that `use_plugins` sets.
    let directory = own.parent()?.canonicalize().ok()?;
    if directory.file_name() != Some(OsStr::new("timed")) {
        return None;
    }
    let start = Instant::now();
    let base = directory.parent()?;
    let status = Command::new(base.join("plain").join(own.file_name()?)).status();
    let took = start.elapsed().as_nanos();
    let notes = File::options().create(true).append(true).open(base.join(NOTES));
    // Eight bytes of text and more are appended whole or not at all.
    let _ = notes.and_then(|mut file| writeln!(file, "{took}"));
    let code = status.ok().and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Some(ExitCode::from(code))
}

/// Directories with plugins, below `base`: as they are, and timed. The IPAM plugin, which others start, is timed with them.
pub(crate) fn install(base: &Path, plugins: &Path) -> Result<()> {
    let own = std::env::current_exe().context("asking for the path of this program")?;
    for name in ["plain", "timed"] {
        std::fs::create_dir_all(base.join(name)).context("making a directory for plugins")?;
    }
    for entry in std::fs::read_dir(plugins).with_context(|| format!("listing {}", plugins.display()))? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let nested = name == "host-local";
        link(&path, &base.join("plain").join(&name))?;
        link(if nested { &path } else { &own }, &base.join("timed").join(&name))?;
    }
    use_plugins(base, false)
}

/// Lets the runtime, whose directory of plugins is `bin`, use the timed ones or the plain ones.
pub(crate) fn use_plugins(base: &Path, timed: bool) -> Result<()> {
    let (bin, new) = (base.join("bin"), base.join("bin.new"));
    std::os::unix::fs::symlink(if timed { "timed" } else { "plain" }, &new)
        .and_then(|()| std::fs::rename(&new, &bin))
        .context("choosing plugins")
}

/// Time that all timed plugins took so far.
pub(crate) fn taken(base: &Path) -> Duration {
    let text = std::fs::read_to_string(base.join(NOTES)).unwrap_or_default();
    Duration::from_nanos(text.lines().filter_map(|line| line.parse::<u64>().ok()).sum())
}

fn link(from: &Path, to: &Path) -> Result<()> {
    std::os::unix::fs::symlink(from, to).with_context(|| format!("linking {}", to.display()))
}
