//! The command line: flags, and how they go over the file.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{CgroupDriverChoice, Config, ConfigError, ListenAddress, LogFormat, LogLevel};

/// Read if it exists and no `--config` is given.
const DEFAULT_CONFIG: &str = "/etc/podwright/config.toml";

/// Podwright, a Kubernetes container runtime: serves the CRI on a unix socket.
#[derive(Debug, Parser)]
#[command(name = "podwrightd", version, max_term_width = 110)]
pub(crate) struct Cli {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Flags of the daemon.
    #[command(flatten)]
    pub daemon: DaemonFlags,
}

/// What to do instead of serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print or check a configuration.
    Config {
        /// Which of the two.
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// List the points at which this daemon can be made to kill itself.
    #[cfg(feature = "failpoints")]
    FailPoints,
}

/// What to do with a configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigAction {
    /// Print a commented file with every key at its default.
    Default,
    /// Check a file; an error points at key and line.
    Check {
        /// The file.
        file: PathBuf,
    },
}

/// Flags of the daemon. Each goes over the file.
#[derive(Debug, Default, Args)]
pub(crate) struct DaemonFlags {
    /// Configuration, TOML [default: /etc/podwright/config.toml if it exists].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Records, images and writable layers [default: /var/lib/podwright].
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Sockets and pids [default: /run/podwright].
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Where the CRI is served [default: unix:///run/podwright/podwright.sock, or podwright.sock in --state if that is given].
    #[arg(long, value_name = "unix:///SOCKET")]
    pub listen: Option<ListenAddress>,
    /// Directory with conflists; may be repeated [default: /etc/cni/net.d].
    #[arg(long, value_name = "DIR")]
    pub cni_conf_dir: Vec<PathBuf>,
    /// Directory with CNI plugins; may be repeated [default: /opt/cni/bin, /usr/lib/cni].
    #[arg(long, value_name = "DIR")]
    pub cni_bin_dir: Vec<PathBuf>,
    /// Who makes the cgroups of pods [default: auto].
    #[arg(long, value_name = "DRIVER")]
    pub cgroup_driver: Option<CgroupDriverChoice>,
    /// The shim's binary [default: beside podwrightd, then /usr/libexec/podwright/podwright-shim].
    #[arg(long, value_name = "FILE")]
    pub shim: Option<PathBuf>,
    /// Least level that is logged [default: info].
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
    /// Form of a log line [default: text].
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

impl DaemonFlags {
    /// The configuration in force: defaults, then the file, then the flags.
    ///
    /// # Errors
    /// Those of [`Config::read`] and [`Config::check`].
    pub(crate) fn resolve(self) -> Result<Config, ConfigError> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None if std::path::Path::new(DEFAULT_CONFIG).exists() => Config::read(DEFAULT_CONFIG.as_ref())?,
            None => Config::default(),
        };
        self.apply(&mut config);
        config.check()?;
        Ok(config)
    }

    fn apply(self, config: &mut Config) {
        // A daemon with a state directory of its own must not serve on another's socket.
        if let Some(state) = self.state {
            if config.listen == ListenAddress::default()
                && let Ok(listen) = format!("unix://{}/podwright.sock", state.display()).parse()
            {
                config.listen = listen;
            }
            config.state = state;
        }
        set(&mut config.root, self.root);
        set(&mut config.listen, self.listen);
        set(&mut config.shim, self.shim);
        set(&mut config.log.level, self.log_level);
        set(&mut config.log.format, self.log_format);
        set(&mut config.cgroup.driver, self.cgroup_driver);
        set(&mut config.network.cni.conf_dirs, Some(self.cni_conf_dir).filter(|dirs| !dirs.is_empty()));
        set(&mut config.network.cni.bin_dirs, Some(self.cni_bin_dir).filter(|dirs| !dirs.is_empty()));
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(arguments: &[&str]) -> DaemonFlags {
        Cli::try_parse_from(std::iter::once(&"podwrightd").chain(arguments)).unwrap().daemon
    }

    #[test]
    fn flags_go_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, "root = \"/from/file\"\nstate = \"/from/file\"\n[log]\nlevel = \"debug\"\n").unwrap();
        let path = file.to_str().unwrap();
        let config = flags(&["--config", path, "--root", "/flag", "--cni-bin-dir", "/a", "--cni-bin-dir", "/b"])
            .resolve()
            .unwrap();
        assert_eq!(config.root, PathBuf::from("/flag"));
        assert_eq!(config.state, PathBuf::from("/from/file"));
        assert_eq!(config.log.level, LogLevel::Debug);
        assert_eq!(config.network.cni.bin_dirs, [PathBuf::from("/a"), PathBuf::from("/b")]);
    }

    #[test]
    fn the_socket_follows_the_state_directory_unless_it_is_named() {
        let mut config = Config::default();
        flags(&["--state", "/s"]).apply(&mut config);
        assert_eq!(config.listen.to_string(), "unix:///s/podwright.sock");
        flags(&["--state", "/t", "--listen", "unix:///elsewhere.sock"]).apply(&mut config);
        assert_eq!(config.listen.to_string(), "unix:///elsewhere.sock");
    }

    #[test]
    fn a_named_file_must_exist() {
        let error = flags(&["--config", "/no/such/file"]).resolve().unwrap_err();
        assert!(error.to_string().contains("/no/such/file"), "{error}");
    }
}
