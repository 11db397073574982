//! Debian in a directory, made by mmdebstrap from a mirror: installed, or only unpacked. What it is for is left to the callers.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::image::Suite;

/// Time limit of one mmdebstrap; on two idle cores it takes half a minute to one minute, most of it for packages' own scripts.
const LIMIT_SECONDS: u32 = 600;

/// Lines of a failed program's output that are shown.
const SHOWN_LINES: usize = 10;

/// What no guest reads.
const LEFT_OUT: [&str; 3] = ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*"];

/// A mirror may be a snapshot, whose lists of sid count as expired after a week. Their signatures are verified all the same.
const ANY_AGE: &str = "--aptopt=Acquire::Check-Valid-Until \"false\"";

/// How far packages are brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// As on a machine: the essential packages too, and each package's scripts have run.
    Installed,
    /// Their files alone, for programs that run from the directory.
    Unpacked,
}

impl Extent {
    fn variant(self) -> &'static str {
        match self {
            Self::Installed => "--variant=essential",
            Self::Unpacked => "--variant=extract",
        }
    }
}

/// Makes `root`, which must not exist. A mirror may be away for a moment, or hang: there are two tries, and each has its time.
///
/// # Errors
/// Both failed; the error has the end of what mmdebstrap printed.
pub(super) fn bootstrap(root: &Path, suite: Suite, extent: Extent, packages: &str) -> Result<()> {
    let once = || {
        let limit = LIMIT_SECONDS.to_string();
        let mut command = Command::new("timeout");
        command.args(["-k", "10", &limit, "mmdebstrap", extent.variant(), "--format=directory", ANY_AGE]);
        command.args(LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}")));
        command.arg(format!("--include={packages}")).arg(suite.name()).arg(root);
        sh(&mut command).with_context(|| {
            format!("mmdebstrap of {suite:?}, which needs a mirror of Debian and the keys of debian-archive-keyring")
        })
    };
    once().or_else(|error| {
        println!("vm: {error:#}\nvm: trying once more");
        if root.exists() {
            fs::remove_dir_all(root).with_context(|| format!("removing {}", root.display()))?;
        }
        once()
    })
}

/// Runs quietly; what it printed is shown only if it failed.
pub(super) fn sh(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    if output.status.success() {
        return Ok(());
    }
    let printed = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&printed);
    let tail: Vec<&str> = text.lines().rev().take(SHOWN_LINES).collect();
    bail!("{command:?} failed with {}:\n{}", output.status, tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
}
