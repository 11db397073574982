//! The workspace as cargo knows it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;

/// Where the sources are and where builds go.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    metadata: Value,
}

/// A crate of the workspace.
pub(crate) struct Member {
    /// Directory below the root, as ARCHITECTURE.md names it.
    pub(crate) dir: String,
    /// Root files of its library and programs.
    pub(crate) roots: Vec<PathBuf>,
    /// Names of the crates that it is built with (neither dev nor build dependencies).
    pub(crate) dependencies: Vec<String>,
    pub(crate) name: String,
}

impl Workspace {
    pub(crate) fn find() -> Result<Self> {
        let mut command = Command::new(cargo());
        command.args(["metadata", "--format-version", "1", "--manifest-path"]);
        // Set by `cargo run`: two clones with one target directory must not be taken for each other.
        let own = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        command.arg(Path::new(&own).join("../Cargo.toml"));
        let metadata: Value = serde_json::from_str(&process::read(&mut command)?).context("reading cargo metadata")?;
        let path = |key: &str| metadata.get(key).and_then(Value::as_str).map(PathBuf::from);
        let root = path("workspace_root").context("cargo metadata names no workspace_root")?;
        let target = path("target_directory").context("cargo metadata names no target_directory")?;
        Ok(Self { root, target, metadata })
    }

    /// A cargo command in the root.
    pub(crate) fn cargo(&self, words: &[&str]) -> Command {
        let mut command = Command::new(cargo());
        command.current_dir(&self.root).args(words);
        command
    }

    pub(crate) fn members(&self) -> Vec<Member> {
        self.packages()
            .filter(|package| is_null(package, "source"))
            .filter_map(|package| self.member(package))
            .collect()
    }

    fn packages(&self) -> impl Iterator<Item = &Value> {
        list(&self.metadata, "packages")
    }

    fn member(&self, package: &Value) -> Option<Member> {
        let manifest = Path::new(text(package, "manifest_path")?);
        let dir = manifest.parent()?.strip_prefix(&self.root).ok()?.to_str()?.to_owned();
        let roots = list(package, "targets")
            .filter(|target| list(target, "kind").any(|kind| kind == "lib" || kind == "bin"))
            .filter_map(|target| Some(PathBuf::from(text(target, "src_path")?)))
            .collect();
        let dependencies = list(package, "dependencies")
            .filter(|dependency| is_null(dependency, "kind"))
            .filter_map(|dependency| Some(text(dependency, "name")?.to_owned()))
            .collect();
        Some(Member { dir, roots, dependencies, name: text(package, "name")?.to_owned() })
    }
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn is_null(value: &Value, key: &str) -> bool {
    value.get(key).is_none_or(Value::is_null)
}

/// The cargo that runs us.
fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
