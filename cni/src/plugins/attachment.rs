//! A pod's attachment to a network: the configuration it was made with and the result, kept until DEL succeeded; and the chain of plugins.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use podwright_types::SandboxId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::capabilities;
use super::conflist::Conflist;
use super::run::Run;
use super::version::Version;
use crate::error::CniError;
use crate::failpoints::{self, fail_point};
use crate::files;

/// Name of the pod's link.
pub(super) const POD_LINK: &str = "eth0";
/// `f_type` of a namespace that is held by a file.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// A pod on a network. Without a result it is not known how far ADD came.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Attachment {
    /// Whose it is.
    pub(super) sandbox: SandboxId,
    /// Configuration, as it was at ADD.
    pub(super) network: Conflist,
    /// Version used.
    pub(super) version: String,
    /// Path of the network namespace.
    pub(super) netns: PathBuf,
    /// `CNI_ARGS`.
    pub(super) arguments: String,
    /// What plugins may ask for.
    pub(super) offered: Map<String, Value>,
    /// Result of the chain, or of its part that succeeded.
    pub(super) result: Option<Value>,
    /// Whether ADD succeeded.
    pub(super) complete: bool,
    /// Addresses of the pod's link when DEL was first tried; `None` before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) deleting: Option<Vec<IpAddr>>,
}

/// How to run plugins.
#[derive(Debug, Clone)]
pub(super) struct Runner {
    /// Where they are.
    pub(super) bin_dirs: Vec<PathBuf>,
    /// Limit of ADD and DEL.
    pub(super) operation: Duration,
    /// Limit of the others.
    pub(super) query: Duration,
    /// What runs now.
    pub(super) running: Running,
}

/// Which plugin a pod waits for.
#[derive(Debug, Clone, Default)]
pub(super) struct Running(Arc<Mutex<HashMap<SandboxId, String>>>);

impl Running {
    /// In words; `None` if none runs for the pod.
    pub(super) fn of(&self, sandbox: &SandboxId) -> Option<String> {
        self.map().get(sandbox).cloned()
    }

    fn begin(&self, sandbox: &SandboxId, text: String) -> RunningNow<'_> {
        self.map().insert(sandbox.clone(), text);
        RunningNow { all: self, sandbox: sandbox.clone() }
    }

    fn map(&self) -> MutexGuard<'_, HashMap<SandboxId, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until it is dropped, a plugin runs.
struct RunningNow<'a> {
    all: &'a Running,
    sandbox: SandboxId,
}

impl Drop for RunningNow<'_> {
    fn drop(&mut self) {
        self.all.map().remove(&self.sandbox);
    }
}

impl Attachment {
    /// ADD by every plugin in order; keeps what the last one that succeeded returned. That is recorded each time: some plugins
    /// find what they made only by the addresses in the result, so DEL needs it even if the daemon dies before the end.
    pub(super) async fn add(&mut self, runner: &Runner, record: &Path) -> Result<(), CniError> {
        let deadline = Instant::now() + runner.operation;
        for plugin in self.network.plugins.clone() {
            let answer = self
                .run("ADD", &plugin, Some(self.netns.clone()), self.result.as_ref(), runner, deadline, runner.operation)
                .await?;
            if answer.is_object() {
                self.result = Some(answer);
                files::write(record, self, false)?;
            }
            fail_point(failpoints::ADD_RAN);
        }
        self.complete = true;
        Ok(())
    }

    /// DEL by every plugin, last first. All are tried, after one that hangs with the time of a query; the first error is
    /// returned.
    pub(super) async fn delete(&self, runner: &Runner) -> Result<(), CniError> {
        let deadline = Instant::now() + runner.operation;
        let netns = Some(self.netns.clone()).filter(|path| is_namespace(path));
        let result = self.result.as_ref().filter(|_| self.version() >= Version::WITH_CHECK);
        let mut outcome = Ok(());
        for plugin in self.network.plugins.iter().rev() {
            let deadline = deadline.max(Instant::now() + runner.query);
            let deleted = self.run("DEL", plugin, netns.clone(), result, runner, deadline, runner.operation).await;
            outcome = outcome.and(deleted.map(drop));
            fail_point(failpoints::DEL_RAN);
        }
        outcome
    }

    /// CHECK by every plugin in order, where the version and the list have it.
    pub(super) async fn check(&self, runner: &Runner) -> Result<(), CniError> {
        if self.version() < Version::WITH_CHECK || self.network.disable_check {
            return Ok(());
        }
        let deadline = Instant::now() + runner.operation;
        for plugin in &self.network.plugins {
            self.run(
                "CHECK",
                plugin,
                Some(self.netns.clone()),
                self.result.as_ref(),
                runner,
                deadline,
                runner.operation,
            )
            .await?;
        }
        Ok(())
    }

    fn version(&self) -> Version {
        self.version.parse().unwrap_or(Version::WITH_CHECK)
    }

    #[expect(clippy::too_many_arguments, reason = "one call of a plugin has so many sides")]
    async fn run(
        &self,
        command: &'static str,
        plugin: &Map<String, Value>,
        netns: Option<PathBuf>,
        result: Option<&Value>,
        runner: &Runner,
        deadline: Instant,
        limit: Duration,
    ) -> Result<Value, CniError> {
        let mut stdin = configuration(plugin, &self.network.name, &self.version);
        let wanted = capabilities::wanted(plugin, &self.offered);
        if !wanted.is_empty() {
            stdin.insert("runtimeConfig".to_owned(), Value::Object(wanted));
        }
        if let Some(result) = result {
            stdin.insert("prevResult".to_owned(), result.clone());
        }
        let netns = netns.map(|path| path.display().to_string()).unwrap_or_default();
        let environment = vec![
            ("CNI_CONTAINERID", self.sandbox.to_string()),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", POD_LINK.to_owned()),
            ("CNI_ARGS", self.arguments.clone()),
        ];
        let name = Conflist::type_of(plugin);
        let words = format!("{command} of the CNI plugin {name} of network {}", self.network.name);
        let _running = runner.running.begin(&self.sandbox, words);
        Run {
            command,
            plugin: name,
            network: &self.network.name,
            bin_dirs: &runner.bin_dirs,
            environment,
            stdin: Value::Object(stdin),
            deadline,
            limit,
        }
        .run()
        .await
    }
}

/// A plugin's configuration with the network's name and the version.
pub(super) fn configuration(plugin: &Map<String, Value>, network: &str, version: &str) -> Map<String, Value> {
    let mut configuration = plugin.clone();
    configuration.insert("name".to_owned(), network.into());
    configuration.insert("cniVersion".to_owned(), version.into());
    configuration
}

/// Whether the file still holds a namespace: plugins are told of none rather than of a wrong one.
pub(super) fn is_namespace(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type == NSFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an earlier release recorded is data: the sample is never made anew.
    #[test]
    fn attachments_of_version_1_are_read_and_written_the_same() {
        let sample = serde_json::json!({
            "sandbox": "1111111111111111111111111111111111111111111111111111111111111111",
            "network": {
                "name": "net", "path": "/etc/cni/net.d/10-net.conflist", "versions": ["1.0.0"], "disable_check": true,
                "disable_gc": true, "takes_more": true, "plugins": [{"type": "bridge", "bridge": "cni0"}],
            },
            "version": "1.0.0",
            "netns": "/run/netns/podwright-1",
            "arguments": "K8S_POD_NAME=web",
            "offered": {"portMappings": [{"hostPort": 80}]},
            "result": {"cniVersion": "1.0.0", "ips": [{"address": "10.1.2.3/24"}]},
            "complete": true,
        });
        let read: Attachment = serde_json::from_value(sample.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), sample);
    }
}
