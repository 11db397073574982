//! This program as a CNI plugin: it runs the real one and notes how long that took, so that a runtime's own time is known.
//!
//! What this program itself takes, from being executed to being waited for, is no runtime's time either: it is measured beforehand.
//!
//! A copy of this program stands under each plugin's name in a directory `timed`; the real ones are in `plain` beside it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The file of the notes, beside the directories.
const NOTES: &str = "took";
/// Runs of a plugin that does nothing, to know what the wrapper takes.
const TRIES: usize = 31;

/// What the wrapper takes of each run, beside the plugin.
static WRAPPING: OnceLock<Duration> = OnceLock::new();

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
    if WRAPPING.get().is_none() {
        let took = wrapping(base, &own).context("measuring the wrapper around plugins")?;
        let _ = WRAPPING.set(took);
    }
    use_plugins(base, false)
}

/// The median of what `true` takes longer when it is wrapped.
fn wrapping(base: &Path, own: &Path) -> Result<Duration> {
    const NAME: &str = "true";
    let wrapped = base.join("timed").join(NAME);
    link(Path::new("/bin/true"), &base.join("plain").join(NAME))?;
    link(own, &wrapped)?;
    let mut taken = Vec::with_capacity(TRIES);
    for _ in 0..TRIES {
        let (before, start) = (noted(base).0, Instant::now());
        Command::new(&wrapped).env("CNI_COMMAND", "VERSION").status().context("running it")?;
        taken.push(start.elapsed().saturating_sub(noted(base).0.saturating_sub(before)));
    }
    taken.sort_unstable();
    taken.get(TRIES / 2).copied().context("nothing was measured")
}

/// Lets the runtime, whose directory of plugins is `bin`, use the timed ones or the plain ones.
pub(crate) fn use_plugins(base: &Path, timed: bool) -> Result<()> {
    let (bin, new) = (base.join("bin"), base.join("bin.new"));
    std::os::unix::fs::symlink(if timed { "timed" } else { "plain" }, &new)
        .and_then(|()| std::fs::rename(&new, &bin))
        .context("choosing plugins")
}

/// Time that all timed plugins, and the wrapper around them, took so far.
pub(crate) fn taken(base: &Path) -> Duration {
    let (took, runs) = noted(base);
    took + WRAPPING.get().copied().unwrap_or_default() * runs
}

/// What plugins took, and how many ran.
fn noted(base: &Path) -> (Duration, u32) {
    let text = std::fs::read_to_string(base.join(NOTES)).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.parse::<u64>().ok());
    lines.fold((Duration::ZERO, 0), |(sum, runs), nanos| (sum + Duration::from_nanos(nanos), runs + 1))
}

fn link(from: &Path, to: &Path) -> Result<()> {
    std::os::unix::fs::symlink(from, to).with_context(|| format!("linking {}", to.display()))
}
