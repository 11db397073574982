//! What can go wrong with a pod's network.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use podwright_types::SandboxId;

use crate::config::Prefix;
use crate::request::Protocol;

/// An operation on a pod's network that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CniError {
    /// A setting that can not be used.
    #[error("reading the network settings: {key} = {value:?}: {expected}")]
    Config {
        /// Key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A file of ours.
    #[error("{operation} {}", path.display())]
    File {
        /// What was done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The kernel refused a change of the network.
    #[error("{operation} {object}{hint}")]
    Kernel {
        /// What was done.
        operation: &'static str,
        /// To what.
        object: String,
        /// What to do about it, after a colon; may be empty.
        hint: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Every address is taken.
    #[error(
        "finding an address for pod sandbox {sandbox}: all of {pool} are in use; remove pods or configure a larger pool"
    )]
    PoolFull {
        /// For which pod.
        sandbox: SandboxId,
        /// The pool.
        pool: Prefix,
    },
    /// The embedded network has no pool.
    #[error("choosing a pool for the embedded network: {reason}; configure one")]
    NoPool {
        /// Why.
        reason: String,
    },
    /// The host's port leads to another pod.
    #[error(
        "mapping host port {host_port}/{protocol} of {} to pod sandbox {sandbox}: pod sandbox {holder} has it; stop that pod or use another port",
        host_ip.map_or_else(|| "all addresses".to_owned(), |ip| ip.to_string())
    )]
    PortTaken {
        /// Who wanted it.
        sandbox: SandboxId,
        /// Who has it.
        holder: SandboxId,
        /// Protocol.
        protocol: Protocol,
        /// Port.
        host_port: u16,
        /// Address of the host.
        host_ip: Option<IpAddr>,
    },
    /// The request can not be carried out as it is.
    #[error("connecting pod sandbox {sandbox}: {reason}")]
    Request {
        /// For which pod.
        sandbox: SandboxId,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no usable conflist.
    #[error("loading a CNI network: {reason}")]
    NoNetwork {
        /// Why.
        reason: String,
    },
    /// A plugin said no.
    #[error("CNI {command} by plugin {plugin} of network {network}: {message} (code {code}){details}")]
    Plugin {
        /// ADD, DEL, ...
        command: &'static str,
        /// Type of the plugin.
        plugin: String,
        /// Name of the network.
        network: String,
        /// Its error code; 0 when it gave none.
        code: u64,
        /// Its words.
        message: String,
        /// More of its words, after a colon; may be empty.
        details: String,
    },
    /// A plugin could not be run, or its answer not be read.
    #[error("CNI {command} by plugin {plugin} of network {network}: {problem}")]
    Run {
        /// ADD, DEL, ...
        command: &'static str,
        /// Type of the plugin.
        plugin: String,
        /// Name of the network.
        network: String,
        /// What went wrong.
        problem: String,
    },
    /// A plugin took too long and was killed.
    #[error("CNI {command} by plugin {plugin} of network {network}: no answer within {limit:?}; it was killed")]
    Timeout {
        /// ADD, DEL, ...
        command: &'static str,
        /// Type of the plugin.
        plugin: String,
        /// Name of the network.
        network: String,
        /// The limit.
        limit: Duration,
    },
    /// The thread that changes the host's network is gone.
    #[error("changing the host's network: its thread ended; restart the daemon")]
    HostGone,
}
