//! One drop-in file: `[runtime]` with the type of a handler, its program and how it is run.

use std::path::PathBuf;

use serde::Deserialize;

/// Most arguments before each command, and the longest of them in bytes.
const MAX_OPTIONS: usize = 64;
const MAX_OPTION_BYTES: usize = 4096;
/// How long a command of a runtime may take if its file does not say, in seconds.
const DEFAULT_DEADLINE_SECONDS: u32 = 30;
/// Longest time that a file may give a command, in seconds: a start is given up after 100 by all who wait for it.
const MAX_DEADLINE_SECONDS: u32 = 90;

/// How a runtime is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// By the OCI command line.
    Oci,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    runtime: Runtime,
}

/// A runtime as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// How it is spoken to.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Its program, absolute.
    pub path: PathBuf,
    /// Directory for its state; absent: one below the daemon's.
    #[serde(default)]
    pub root: Option<PathBuf>,
    /// Arguments before each of its commands.
    #[serde(default)]
    pub options: Vec<String>,
    /// How long one of its commands may take, in seconds.
    #[serde(default = "default_deadline")]
    pub deadline_seconds: u32,
}

fn default_deadline() -> u32 {
    DEFAULT_DEADLINE_SECONDS
}

/// Reads a file's bytes; the error is for people.
pub(crate) fn parse(bytes: &[u8]) -> Result<Runtime, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let File { runtime } = toml::from_str(text).map_err(|error| match error.span() {
        Some(span) => format!("line {}: {}", line(text, span.start), error.message()),
        None => error.message().to_owned(),
    })?;
    check(&runtime)?;
    Ok(runtime)
}

fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn check(runtime: &Runtime) -> Result<(), String> {
    let paths = [Some(&runtime.path), runtime.root.as_ref()];
    if let Some(path) = paths.into_iter().flatten().find(|path| !is_plain(path)) {
        return Err(format!("{path:?} is no absolute path, or has \"..\" or a NUL byte in it"));
    }
    if runtime.options.len() > MAX_OPTIONS {
        return Err(format!("it has {} options; up to {MAX_OPTIONS} are taken", runtime.options.len()));
    }
    if runtime.options.iter().any(|option| option.len() > MAX_OPTION_BYTES || option.contains('\0')) {
        return Err(format!("an option has more than {MAX_OPTION_BYTES} bytes, or a NUL byte"));
    }
    match runtime.deadline_seconds {
        1..=MAX_DEADLINE_SECONDS => Ok(()),
        other => Err(format!("deadline_seconds is {other}; give 1 to {MAX_DEADLINE_SECONDS}")),
    }
}

fn is_plain(path: &std::path::Path) -> bool {
    let steps = path.components().any(|part| part == std::path::Component::ParentDir);
    path.is_absolute() && !steps && !path.as_os_str().as_encoded_bytes().contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_needs_a_type_and_a_program() {
        let runtime = parse(b"[runtime]\ntype = \"oci\"\npath = \"/usr/bin/crun\"\n").unwrap();
        assert_eq!((runtime.kind, runtime.deadline_seconds), (Kind::Oci, DEFAULT_DEADLINE_SECONDS));
        let whole = "[runtime]\ntype = \"oci\"\npath = \"/r\"\nroot = \"/run/r\"\noptions = [\"--debug\"]\ndeadline_seconds = 5\n";
        let runtime = parse(whole.as_bytes()).unwrap();
        assert_eq!((runtime.options.len(), runtime.deadline_seconds), (1, 5));
    }

    #[test]
    fn what_can_not_be_right_is_told() {
        for (text, told) in [
            ("", "runtime"),
            ("[runtime]\npath = \"/x\"", "type"),
            ("[runtime]\ntype = \"oci\"\npath = \"crun\"", "no absolute path"),
            ("[runtime]\ntype = \"oci\"\npath = \"/a/../b\"", "no absolute path"),
            ("[runtime]\ntype = \"vm\"\npath = \"/x\"", "line 2"),
            ("[runtime]\ntype = \"oci\"\npath = \"/x\"\nbinary = \"/y\"", "binary"),
            ("[runtime]\ntype = \"oci\"\npath = \"/x\"\ndeadline_seconds = 0", "deadline_seconds"),
            ("[runtime]\ntype = \"oci\"\npath = \"/x\"\ndeadline_seconds = 4000", "deadline_seconds"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(told), "{text:?}: {error}");
        }
        assert!(parse(b"\xff").is_err());
    }
}
