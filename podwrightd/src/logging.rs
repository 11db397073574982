//! Set-up of the daemon's own log, on stderr, where systemd and a terminal read it.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::{LogConfig, LogFormat, LogLevel};

/// Libraries that log every frame and every connection; what they do shows in our own lines.
const QUIET: [&str; 8] = ["h2", "hyper", "hyper_util", "reqwest", "rustls", "tonic", "tower", "zbus"];

/// Installs the subscriber for the whole process. `RUST_LOG` goes over the level, for single modules.
///
/// # Errors
/// `RUST_LOG` can not be read, or a subscriber is installed already.
pub(crate) fn install(config: &LogConfig) -> anyhow::Result<()> {
    let level = level(config.level);
    let mut filter = EnvFilter::builder().with_default_directive(level.into()).from_env()?;
    if std::env::var_os(EnvFilter::DEFAULT_ENV).is_none() && level > LevelFilter::INFO {
        for library in QUIET {
            filter = filter.add_directive(format!("{library}=info").parse()?);
        }
    }
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    match config.format {
        LogFormat::Text => subscriber.with_ansi(ansi).try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    }
    .map_err(|error| anyhow::anyhow!("cannot set the log up: {error}"))
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
