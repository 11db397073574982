//! `cargo xtask check`: what must hold for every commit.

mod deny;
mod direction;
mod limits;
mod sources;

use anyhow::{Result, bail};

use crate::process::{self, step};
use crate::setup;
use crate::workspace::Workspace;

/// All checks and the unit tests.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    setup::for_tests()?;
    without_tests(workspace)?;
    step("unit tests");
    let mut tests = workspace.cargo(&["test", "--quiet", "--workspace", "--lib", "--bins"]);
    if !process::is_root() {
        println!("    not root: tests named root_ are left out");
        tests.args(["--", "--skip", "root_"]);
    }
    process::run(&mut tests)
}

/// All checks, no tests. The quick ones come first.
pub(crate) fn without_tests(workspace: &Workspace) -> Result<()> {
    step("rules of the house: file heads and lengths, unsafe code, directions of dependency, docs/limits.md");
    let mut faults = sources::faults(workspace)?;
    faults.extend(direction::faults(workspace)?);
    faults.extend(limits::faults(workspace)?);
    if !faults.is_empty() {
        bail!("{} rules are broken:\n{}", faults.len(), faults.join("\n"));
    }
    step("format");
    process::run(&mut workspace.cargo(&["fmt", "--all", "--check"]))?;
    step("lints");
    process::run(&mut workspace.cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    step("documentation");
    let mut doc = workspace.cargo(&["doc", "--quiet", "--workspace", "--no-deps"]);
    process::run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    deny::run(workspace)
}
