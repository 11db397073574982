//! Running other programs, with errors that say which one failed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Says what comes next.
pub(crate) fn step(text: &str) {
    println!("==> {text}");
}

/// Runs to the end, with our own output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{} failed with {status}", shown(command));
    Ok(())
}

/// Runs to the end and returns standard output.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command.stderr(std::process::Stdio::inherit()).output();
    let output = output.with_context(|| format!("starting {command:?}"))?;
    ensure!(output.status.success(), "{} failed with {}", shown(command), output.status);
    String::from_utf8(output.stdout).with_context(|| format!("{} printed no text", shown(command)))
}

/// Whether a program of this name is in PATH or the usual places for administrators.
pub(crate) fn installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/go/bin"].map(Into::into))
        .any(|dir| dir.join(name).is_file())
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    Path::new("/proc/self").metadata().is_ok_and(|meta| meta.uid() == 0)
}

/// Refuses to go on without root.
pub(crate) fn ensure_root(what: &str) -> Result<()> {
    ensure!(is_root(), "{what} needs root, for namespaces, mounts and cgroups; run it by sudo or in a VM");
    Ok(())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
