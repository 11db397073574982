//! Building what runs: the daemon, the static shim, and the Go programs that critest/go.mod pins; collected in one directory.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::process::{self, step};
use crate::workspace::Workspace;

/// What is passed on to a harness, which alone knows its flags and their defaults.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// Arguments of the harness, such as --seed 1; --help shows them all.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Arguments {
    /// These words.
    pub(crate) fn of(words: &[&str]) -> Self {
        Self { arguments: words.iter().map(OsString::from).collect() }
    }

    /// As they were given.
    pub(crate) fn words(&self) -> &[OsString] {
        &self.arguments
    }
}

/// How the daemon is built. The shim is always optimised: it is measured in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
    /// As `Dev`, with fail points in the daemon: for the kill loop alone.
    Chaos,
}

impl Profile {
    fn cargo_dir(self) -> &'static str {
        match self {
            Self::Dev | Self::Chaos => "debug",
            Self::Release => "release",
        }
    }

    /// Where the results go.
    pub(crate) fn output(self, workspace: &Workspace) -> PathBuf {
        workspace.target.join(match self {
            Self::Dev => "podwright",
            Self::Release => "podwright-release",
            Self::Chaos => "podwright-chaos",
        })
    }
}

/// Names the file that tells for which go.mod and go.sum the tools were built.
const TOOLS_STAMP: &str = "built-for";
/// An NRI plugin for tests, below critest/.
const NRI_PLUGIN_SOURCE: &str = "fixtures/nri-plugin/main.go";

/// `cargo xtask build`.
pub(crate) fn run(workspace: &Workspace, profile: Profile) -> Result<()> {
    daemon(workspace, profile)?;
    tools(workspace, profile)?;
    println!("built into {}", profile.output(workspace).display());
    Ok(())
}

/// Daemon and shim.
pub(crate) fn daemon(workspace: &Workspace, profile: Profile) -> Result<()> {
    step("building podwrightd and podwright");
    let mut command = workspace.cargo(&["build", "--quiet", "--package", "podwrightd", "--package", "podwright-cli"]);
    match profile {
        Profile::Dev => {}
        Profile::Release => drop(command.arg("--release")),
        Profile::Chaos => drop(command.args(["--features", "podwrightd/failpoints"])),
    }
    process::run(&mut command)?;
    collect_daemon(workspace, profile)
}

/// The whole workspace with its tests in one go: features are resolved once, so that the tests build nothing twice.
pub(crate) fn everything_for_tests(workspace: &Workspace) -> Result<()> {
    step("building the workspace and its tests");
    process::run(&mut workspace.cargo(&["build", "--quiet", "--workspace", "--all-targets"]))?;
    collect_daemon(workspace, Profile::Dev)?;
    tools(workspace, Profile::Dev)
}

/// A program of critest/src/bin, built with our profile or optimised, and its path.
pub(crate) fn harness(workspace: &Workspace, name: &str, profile: Profile) -> Result<PathBuf> {
    let mut command = workspace.cargo(&["build", "--quiet", "--package", "podwright-critest", "--bin", name]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    process::run(&mut command)?;
    Ok(workspace.target.join(profile.cargo_dir()).join(name))
}

/// The same as a command that finds the daemon of `programs`, which must be built.
pub(crate) fn harness_command(
    workspace: &Workspace,
    name: &str,
    profile: Profile,
    programs: Profile,
) -> Result<Command> {
    let mut command = Command::new(harness(workspace, name, profile)?);
    command.env("PODWRIGHT_BIN_DIR", programs.output(workspace));
    Ok(command)
}

fn collect_daemon(workspace: &Workspace, profile: Profile) -> Result<()> {
    let programs = static_programs(workspace)?;
    let built = workspace.target.join(profile.cargo_dir());
    let output = profile.output(workspace);
    fs::create_dir_all(&output).with_context(|| format!("making {}", output.display()))?;
    for program in ["podwrightd", "podwright"] {
        place(&built.join(program), &output.join(program))?;
    }
    STATIC.iter().try_for_each(|program| place(&programs.join(program), &output.join(program)))
}

/// Programs that look up no names, and are started often or stay for long.
const STATIC: [&str; 2] = ["podwright-shim", "podwright-oci"];

const STATIC_FLAGS: &str = "-C target-feature=+crt-static -C force-unwind-tables=no";
/// A bitmap (DT_RELR) in place of 24 bytes for each relocation: 85 KiB less in the shim.
const PACKED_RELOCATIONS: &str = " -C link-arg=-Wl,--pack-dyn-relocs=relr";
/// The first C library whose static programs read them, as major and minor version.
const FIRST_WITH_PACKED: (u32, u32) = (2, 36);

/// Whether the C library of this machine, which goes into static programs, reads packed relocations.
fn reads_packed_relocations() -> bool {
    let Ok(output) = Command::new("getconf").arg("GNU_LIBC_VERSION").output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.trim().strip_prefix("glibc ").and_then(|version| version.split_once('.'));
    let number = |text: &str| text.split('.').next().and_then(|text| text.parse().ok());
    version.and_then(|(major, minor)| Some((number(major)?, number(minor)?))).is_some_and(|of| of >= FIRST_WITH_PACKED)
}

/// Builds them static, and without tables for unwinding: a panic ends them. A `--target` of its own keeps the flags away from all
/// other builds. Returns their directory.
fn static_programs(workspace: &Workspace) -> Result<PathBuf> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let relocations = if reads_packed_relocations() { PACKED_RELOCATIONS } else { "" };
    for program in STATIC {
        step(&format!("building {program}, static"));
        // One by one: in one go each would get the features that the others ask of a common crate.
        let words = ["build", "--quiet", "--package", program, "--profile", "shim", "--target", &triple];
        let mut command = workspace.cargo(&words);
        process::run(command.env("RUSTFLAGS", format!("{STATIC_FLAGS}{relocations}")))?;
    }
    Ok(workspace.target.join(triple).join("shim"))
}

/// crictl, the CNI plugins, and the NRI plugin of the tests.
fn tools(workspace: &Workspace, profile: Profile) -> Result<()> {
    let source = workspace.root.join("critest");
    let cache = workspace.target.join("tools");
    let wanted = ["go.mod", "go.sum", NRI_PLUGIN_SOURCE]
        .map(|name| fs::read_to_string(source.join(name)).unwrap_or_default())
        .concat();
    if fs::read_to_string(cache.join(TOOLS_STAMP)).unwrap_or_default() != wanted {
        build_tools(&source, &cache)?;
        fs::write(cache.join(TOOLS_STAMP), wanted).context("noting which tools are built")?;
    }
    let output = profile.output(workspace);
    fs::create_dir_all(output.join("cni")).with_context(|| format!("making {}/cni", output.display()))?;
    for entry in fs::read_dir(&cache).with_context(|| format!("listing {}", cache.display()))? {
        let path = entry?.path();
        match path.file_name().and_then(|name| name.to_str()) {
            None | Some(TOOLS_STAMP) => {}
            Some(name @ ("crictl" | "nri-plugin")) => place(&path, &output.join(name))?,
            Some(plugin) => place(&path, &output.join("cni").join(plugin))?,
        }
    }
    Ok(())
}

fn build_tools(source: &Path, cache: &Path) -> Result<()> {
    step("building crictl, the CNI plugins and the NRI plugin with what critest/go.mod pins (a minute, once)");
    let listed = process::read(&mut go(source, Modules::Pinned, &["list", "tool"]))?;
    fs::create_dir_all(cache).with_context(|| format!("making {}", cache.display()))?;
    let output = format!("{}/", cache.display());
    let own = format!("./{}", Path::new(NRI_PLUGIN_SOURCE).parent().unwrap_or(Path::new("")).display());
    let mut command = go(source, Modules::Pinned, &["build", "-ldflags", "-s -w", "-o", &output]);
    process::run(command.args(listed.lines()).arg(own))
}

/// critest and the ginkgo command that it runs specs in parallel with; returns their directory. They are built from the release that
/// critest/go.mod pins, or from a source tree of cri-tools.
pub(crate) fn critest(workspace: &Workspace, cri_tools: Option<&Path>) -> Result<PathBuf> {
    let pinned = workspace.root.join("critest");
    let (source, modules, package, directory) = match cri_tools {
        None => (pinned.as_path(), Modules::Pinned, "sigs.k8s.io/cri-tools/cmd/critest", "critest/programs"),
        Some(tree) => (tree, Modules::AsTheyAre, "./cmd/critest", "critest/programs-of-a-tree"),
    };
    let output = workspace.target.join(directory);
    fs::create_dir_all(&output).with_context(|| format!("making {}", output.display()))?;
    step(&format!(
        "building critest of {} (two minutes, once)",
        cri_tools.map_or("critest/go.mod".into(), Path::to_string_lossy)
    ));
    let at = |name: &str| output.join(name).display().to_string();
    // critest is a test binary. go itself knows when there is nothing to do.
    process::run(&mut go(source, modules, &["test", "-c", "-ldflags", "-s -w", "-o", &at("critest"), package]))?;
    process::run(&mut go(source, modules, &["build", "-o", &at("ginkgo"), "github.com/onsi/ginkgo/v2/ginkgo"]))?;
    Ok(output)
}

/// Where go takes modules from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Modules {
    /// From critest/go.mod as it stands.
    Pinned,
    /// As the source tree has it; it may have a vendor directory.
    AsTheyAre,
}

/// go, whatever the machine's defaults are, with the toolchain that go.mod names.
fn go(source: &Path, modules: Modules, words: &[&str]) -> Command {
    let flags = match modules {
        Modules::Pinned => "-mod=readonly -trimpath -buildvcs=false",
        Modules::AsTheyAre => "-trimpath -buildvcs=false",
    };
    let mut command = Command::new("go");
    command.current_dir(source).args(words).env("CGO_ENABLED", "0");
    command.env("GOFLAGS", flags).env("GOTOOLCHAIN", "auto");
    command
}

/// Copies by rename, so that a running program is not written to.
fn place(from: &Path, to: &Path) -> Result<()> {
    let temporary = to.with_extension("new");
    fs::copy(from, &temporary).with_context(|| format!("copying {} to {}", from.display(), temporary.display()))?;
    fs::rename(&temporary, to).with_context(|| format!("putting {} in place", to.display()))
}
