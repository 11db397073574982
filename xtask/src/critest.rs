//! `cargo xtask critest`: the CRI's own validation suite against our daemon.
//!
//! Owns what has to be built and fetched for it; the run itself is the program `podwright-critest` of critest/.

pub(crate) mod parts;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::build::{self, Profile};
use crate::process::{self, step};
use crate::workspace::Workspace;

/// Names a source tree of cri-tools, as the flag does.
const CRI_TOOLS: &str = "PODWRIGHT_CRI_TOOLS";

/// Where a source tree of cri-tools has the specs of NRI.
const NRI_SPECS: &str = "pkg/validate/nri_linux.go";

/// How critest is to run.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Options {
    /// Stream over WebSocket: adds -websocket-exec, -websocket-attach and -websocket-portforward.
    #[arg(long)]
    websocket: bool,
    /// Specs that run at once.
    #[arg(long)]
    parallel: Option<u32>,
    /// Run the benchmarks and not the specs.
    #[arg(long)]
    benchmark: bool,
    /// Run the specs of NRI, too. The release that critest/go.mod pins does not have them: name a later source tree with --cri-tools.
    #[arg(long, conflicts_with = "contender")]
    nri: bool,
    /// Show everything that critest prints.
    #[arg(long)]
    verbose: bool,
    /// Another runtime in place of podwrightd: containerd (2 or newer, in PATH) with podwright-oci in place of runc.
    #[arg(long)]
    contender: Option<Contender>,
    /// A runtime handler that runs all pods: podwright-oci, or crun or runc in PATH.
    #[arg(long, conflicts_with = "contender")]
    handler: Option<String>,
    /// Time limit of all specs together.
    #[arg(long)]
    limit_seconds: Option<u64>,
    /// A source tree of cri-tools to build critest from, in place of the release that critest/go.mod pins. PODWRIGHT_CRI_TOOLS does
    /// the same.
    #[arg(long)]
    cri_tools: Option<PathBuf>,
    /// Arguments of critest, such as -ginkgo.focus TEXT.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Runtimes that run pods with a part of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Contender {
    /// containerd, with podwright-oci in place of runc.
    ContainerdPodwrightOci,
}

impl Options {
    /// A short run of containerd with podwright-oci: the life of containers, exec, attach and namespaces.
    pub(crate) fn short_of_containerd() -> Self {
        let focus = "-ginkgo.focus=basic operations on container|Streaming runtime should support exec|NamespaceOption";
        Self {
            contender: Some(Contender::ContainerdPodwrightOci),
            parallel: Some(2),
            arguments: vec![focus.to_owned()],
            ..Self::default()
        }
    }

    fn results(&self) -> &'static str {
        match self.contender {
            None => "critest/results",
            Some(Contender::ContainerdPodwrightOci) => "critest/results-of-containerd",
        }
    }

    /// Which skips are allowed.
    fn skips(&self) -> &'static str {
        match self.contender {
            None => "critest/skips.toml",
            Some(Contender::ContainerdPodwrightOci) => "critest/skips-of-containerd.toml",
        }
    }

    /// The source tree that replaces the pinned release.
    pub(crate) fn cri_tools(&self) -> Option<PathBuf> {
        self.cri_tools.clone().or_else(|| std::env::var_os(CRI_TOOLS).map(PathBuf::from))
    }

    /// As the program takes them.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let flags = [
            (self.websocket, "--websocket"),
            (self.benchmark, "--benchmark"),
            (self.nri, "--nri"),
            (self.verbose, "--verbose"),
        ];
        words.extend(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| (*flag).to_owned()));
        words.extend(self.parallel.map(|count| format!("--parallel={count}")));
        words.extend(
            self.contender.map(|Contender::ContainerdPodwrightOci| "--contender=containerd-podwright-oci".into()),
        );
        words.extend(self.handler.as_ref().map(|name| format!("--handler={name}")));
        words.extend(self.limit_seconds.map(|seconds| format!("--limit-seconds={seconds}")));
        if !self.arguments.is_empty() {
            words.push("--".into());
            words.extend(self.arguments.iter().cloned());
        }
        words
    }
}

/// Whether there is a containerd that is new enough for `--contender`.
pub(crate) fn has_containerd() -> bool {
    let output = Command::new("containerd").arg("--version").output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(" 2."))
        && process::installed("containerd-shim-runc-v2")
}

/// Everything that a run needs, built and fetched.
pub(crate) struct Kit {
    /// critest and ginkgo.
    pub(crate) programs: PathBuf,
    /// What the images are made of.
    pub(crate) parts: PathBuf,
    /// The program that runs critest.
    pub(crate) runner: PathBuf,
    /// critest/skips.toml.
    pub(crate) skips: PathBuf,
}

impl Kit {
    /// Builds and fetches it.
    pub(crate) fn ensure(workspace: &Workspace, cri_tools: Option<&Path>) -> Result<Self> {
        let programs = build::critest(workspace, cri_tools)?;
        let parts = parts::ensure(workspace).context("gathering what critest's images are made of")?;
        step("building the runner of critest");
        let runner = build::harness(workspace, "podwright-critest", Profile::Dev)?;
        Ok(Self { programs, parts, runner, skips: workspace.root.join("critest/skips.toml") })
    }
}

/// A command that runs critest; the daemon must be built.
pub(crate) fn command(workspace: &Workspace, options: &Options) -> Result<Command> {
    let tree = options.cri_tools();
    ensure!(
        !options.nri || tree.as_ref().is_some_and(|tree| tree.join(NRI_SPECS).is_file()),
        "the specs of NRI came after the release of cri-tools that critest/go.mod pins; name a source tree that has {NRI_SPECS} with \
         --cri-tools or {CRI_TOOLS}"
    );
    let kit = Kit::ensure(workspace, tree.as_deref())?;
    let mut command = Command::new(kit.runner);
    command.arg("--programs").arg(kit.programs).arg("--parts").arg(kit.parts);
    command.arg("--output").arg(workspace.target.join(options.results()));
    let skips = workspace.root.join(options.skips());
    command.arg("--skips").arg(skips).args(options.words()).env("PODWRIGHT_BIN_DIR", Profile::Dev.output(workspace));
    Ok(command)
}
