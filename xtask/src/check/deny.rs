//! cargo-deny over deny.toml: banned and duplicate crates, licences, sources. Advisories are left out: their database is on GitHub, and
//! a check of a commit must not change its answer from one day to the next.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::process::{self, step};
use crate::workspace::Workspace;

/// The release that is run. Raise it together with whatever it then finds.
const VERSION: &str = "0.20.2";
const PROGRAM: &str = "cargo-deny";

pub(super) fn run(workspace: &Workspace) -> Result<()> {
    let program = installed(workspace)?;
    step("cargo-deny: banned and duplicate crates, licences, sources");
    let mut command = Command::new(program);
    command.current_dir(&workspace.root);
    process::run(command.args(["--workspace", "--log-level", "error", "check", "bans", "licenses", "sources"]))
}

/// Builds it once, below `target`. Unoptimised: that takes a minute on two cores instead of four, and it runs for two seconds.
fn installed(workspace: &Workspace) -> Result<PathBuf> {
    let place = workspace.target.join(format!("{PROGRAM}-{VERSION}"));
    let program = place.join("bin").join(PROGRAM);
    if !program.is_file() {
        step("building cargo-deny (a minute, once)");
        let mut command =
            workspace.cargo(&["install", "--quiet", "--locked", "--no-default-features", "--profile", "dev"]);
        command.arg("--root").arg(&place).args([PROGRAM, "--version", VERSION]);
        // Without a target directory it builds in a temporary one, which goes with it: half a gigabyte.
        command.env_remove("CARGO_TARGET_DIR").env("CARGO_PROFILE_DEV_DEBUG", "0");
        process::run(&mut command)?;
    }
    Ok(program)
}
