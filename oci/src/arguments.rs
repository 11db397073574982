//! The command line, with the flags that podman, conmon, containerd's shim and people pass to an OCI runtime.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// An OCI runtime.
#[derive(Debug, Parser)]
#[command(name = "podwright-oci", version, about = "Podwright's OCI runtime", args_override_self = true)]
pub(crate) struct Arguments {
    /// Where the state of containers is kept.
    #[arg(long, default_value = "/run/podwright-oci")]
    pub(crate) root: PathBuf,
    /// File that errors and warnings are appended to; stderr if none is given.
    #[arg(long)]
    pub(crate) log: Option<PathBuf>,
    /// How they are written there.
    #[arg(long, default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Accepted; there is no more to tell.
    #[arg(long)]
    pub(crate) debug: bool,
    /// cgroupsPath is slice:prefix:name, and systemd makes the cgroup.
    #[arg(long)]
    pub(crate) systemd_cgroup: bool,
    /// Accepted and ignored; checkpoints are not supported.
    #[arg(long)]
    pub(crate) criu: Option<PathBuf>,
    /// Anything but `false` and `auto` is refused: podwright-oci needs root.
    #[arg(long, default_value = "auto", value_parser = ["false", "auto"])]
    pub(crate) rootless: String,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How messages are written to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line, as runc has it.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a container; its program waits for `start`.
    Create(CreateOptions),
    /// Let the program of a container run.
    Start {
        /// Container.
        id: String,
    },
    /// Create, start, wait, delete.
    Run(RunOptions),
    /// Print a container's state.
    State {
        /// Container.
        id: String,
    },
    /// Send a signal to a container's first process.
    Kill(KillOptions),
    /// Remove a stopped container.
    Delete {
        /// Kill it first; none is success.
        #[arg(short, long)]
        force: bool,
        /// Container.
        id: String,
    },
    /// Run another process in a container.
    Exec(ExecOptions),
    /// List containers.
    #[command(visible_alias = "ls")]
    List(ListOptions),
    /// List a container's processes.
    Ps(PsOptions),
    /// Print what a container uses.
    Events(EventsOptions),
    /// Change a container's limits.
    Update(UpdateOptions),
    /// Freeze all processes of a container.
    Pause {
        /// Container.
        id: String,
    },
    /// Thaw them.
    #[command(visible_alias = "unpause")]
    Resume {
        /// Container.
        id: String,
    },
    /// Print what this runtime can do.
    Features,
    /// Write a config.json to start from.
    Spec {
        /// Directory to write it to.
        #[arg(short, long)]
        bundle: Option<PathBuf>,
        /// Refused: podwright-oci needs root.
        #[arg(long)]
        rootless: bool,
    },
    /// Not supported.
    Checkpoint {
        /// Ignored.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Not supported.
    Restore {
        /// Ignored.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

/// Of create and run.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct CreateOptions {
    /// Directory with config.json.
    #[arg(short, long, default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// Unix socket that the master of the terminal is sent to.
    #[arg(long)]
    pub(crate) console_socket: Option<PathBuf>,
    /// File that the pid is written to.
    #[arg(long)]
    pub(crate) pid_file: Option<PathBuf>,
    /// Accepted: the root is changed by pivot_root always.
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Keep the caller's session keyring.
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
    /// How many descriptors beside the standard streams the program gets.
    #[arg(long, default_value_t = 0)]
    pub(crate) preserve_fds: u16,
    /// Name of the container, unique below --root.
    pub(crate) id: String,
}

/// Of run.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct RunOptions {
    #[command(flatten)]
    pub(crate) create: CreateOptions,
    /// Do not wait for the end.
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Do not delete it at its end.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Accepted: there is no subreaper to leave out.
    #[arg(long)]
    pub(crate) no_subreaper: bool,
}

/// Of kill.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct KillOptions {
    /// To all processes of the container.
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Container.
    pub(crate) id: String,
    /// Name or number.
    #[arg(default_value = "SIGTERM")]
    pub(crate) signal: String,
}

/// Of exec.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct ExecOptions {
    /// File with the process, as in config.json; instead of the options for parts of it.
    #[arg(short, long)]
    pub(crate) process: Option<PathBuf>,
    /// Do not wait for the end.
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// File that the pid is written to.
    #[arg(long)]
    pub(crate) pid_file: Option<PathBuf>,
    /// Unix socket that the master of the terminal is sent to.
    #[arg(long)]
    pub(crate) console_socket: Option<PathBuf>,
    /// Give it a terminal.
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Working directory.
    #[arg(long)]
    pub(crate) cwd: Option<PathBuf>,
    /// Environment variable, NAME=VALUE.
    #[arg(short, long)]
    pub(crate) env: Vec<String>,
    /// `UID[:GID]`.
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Further group ids.
    #[arg(short = 'g', long)]
    pub(crate) additional_gids: Vec<u32>,
    /// Further capabilities.
    #[arg(short, long)]
    pub(crate) cap: Vec<String>,
    /// Process gains no privileges.
    #[arg(long)]
    pub(crate) no_new_privs: bool,
    /// SELinux label.
    #[arg(long)]
    pub(crate) process_label: Option<String>,
    /// AppArmor profile.
    #[arg(long)]
    pub(crate) apparmor: Option<String>,
    /// How many descriptors beside the standard streams the program gets.
    #[arg(long, default_value_t = 0)]
    pub(crate) preserve_fds: u16,
    /// Cgroup below the container's that the process starts in.
    #[arg(long)]
    pub(crate) cgroup: Option<String>,
    /// Into a paused container too; it runs when that is resumed.
    #[arg(long)]
    pub(crate) ignore_paused: bool,
    /// Accepted: there is no subreaper to leave out.
    #[arg(long)]
    pub(crate) no_subreaper: bool,
    /// Container.
    pub(crate) id: String,
    /// Program and arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<String>,
}

/// How a list is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Of list.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct ListOptions {
    /// Form.
    #[arg(short, long, default_value = "table")]
    pub(crate) format: ListFormat,
    /// Only ids.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Of ps.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct PsOptions {
    /// Form.
    #[arg(short, long, default_value = "table")]
    pub(crate) format: ListFormat,
    /// Container.
    pub(crate) id: String,
    /// Options of ps(1).
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<String>,
}

/// Of events.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct EventsOptions {
    /// Print once what it uses, and end.
    #[arg(long)]
    pub(crate) stats: bool,
    /// Pause between two prints, as 5s.
    #[arg(long, default_value = "5s")]
    pub(crate) interval: String,
    /// Container.
    pub(crate) id: String,
}

/// Of update.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct UpdateOptions {
    /// File with limits, as linux.resources of config.json; `-` is stdin. The other options are ignored then.
    #[arg(short, long)]
    pub(crate) resources: Option<PathBuf>,
    /// Weight of block I/O.
    #[arg(long)]
    pub(crate) blkio_weight: Option<u16>,
    /// Microseconds.
    #[arg(long)]
    pub(crate) cpu_period: Option<u64>,
    /// Microseconds of each period.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Microseconds beyond the quota.
    #[arg(long)]
    pub(crate) cpu_burst: Option<u64>,
    /// Weight.
    #[arg(long, visible_alias = "cpu-share")]
    pub(crate) cpu_shares: Option<u64>,
    /// Microseconds of real-time scheduling.
    #[arg(long)]
    pub(crate) cpu_rt_period: Option<u64>,
    /// Microseconds of each real-time period.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// CPUs, as 0-3.
    #[arg(long)]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes.
    #[arg(long)]
    pub(crate) cpuset_mems: Option<String>,
    /// 1 for idle scheduling.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) cpu_idle: Option<i64>,
    /// Ignored: the kernel has no such limit any more.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) kernel_memory: Option<String>,
    /// Ignored as well.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) kernel_memory_tcp: Option<String>,
    /// Bytes, with a suffix of k, m or g if wanted; -1 for no limit.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) memory: Option<String>,
    /// As --memory.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) memory_reservation: Option<String>,
    /// As --memory; memory and swap together.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// Processes; -1 for no limit.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Container.
    pub(crate) id: String,
}
