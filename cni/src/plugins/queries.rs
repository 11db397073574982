//! Commands about a network as a whole: VERSION, STATUS and GC.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::attachment::{POD_LINK, Runner, configuration};
use super::conflist::Conflist;
use super::run::{self, Run};
use super::version::Version;
use crate::error::CniError;

/// When a plugin's file was written, and the versions that it said it speaks.
type Answer = (Option<SystemTime>, Vec<String>);

/// Versions that plugins said they speak: one answer for each file.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    known: Mutex<HashMap<PathBuf, Answer>>,
}

impl Spoken {
    /// The highest version of the list that all its plugins speak. Plugins are asked only where there is a choice.
    pub(super) async fn choose(&self, network: &Conflist, runner: &Runner) -> String {
        let mut choice = network.versions.clone();
        if choice.len() > 1 {
            for plugin in &network.plugins {
                let spoken = self.ask(network, Conflist::type_of(plugin), runner).await;
                // The error of one that can not be asked comes with ADD.
                choice.retain(|version| spoken.is_empty() || spoken.contains(version));
            }
        }
        choice.into_iter().next().unwrap_or_else(|| network.version().to_string())
    }

    async fn ask(&self, network: &Conflist, plugin: &str, runner: &Runner) -> Vec<String> {
        let Some(path) = run::find(&runner.bin_dirs, plugin) else { return Vec::new() };
        let modified = path.metadata().and_then(|metadata| metadata.modified()).ok();
        if let Some(spoken) = self.known(&path, modified) {
            return spoken;
        }
        let stdin = json!({"cniVersion": Version::WITH_STATUS.to_string()});
        let answer = query("VERSION", network, plugin, stdin, runner).await.unwrap_or_default();
        let listed = answer.get("supportedVersions").and_then(Value::as_array).into_iter().flatten();
        let spoken: Vec<String> = listed.filter_map(Value::as_str).map(str::to_owned).collect();
        self.remember(path, modified, spoken.clone());
        spoken
    }

    fn known(&self, path: &Path, modified: Option<SystemTime>) -> Option<Vec<String>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(path).filter(|(at, _)| *at == modified).map(|(_, spoken)| spoken.clone())
    }

    /// What the file said before it was replaced is forgotten.
    fn remember(&self, path: PathBuf, modified: Option<SystemTime>, spoken: Vec<String>) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(path, (modified, spoken));
    }
}

/// Asks every plugin whether it can serve ADD.
pub(super) async fn status(network: &Conflist, version: &str, runner: &Runner) -> Result<(), CniError> {
    for plugin in &network.plugins {
        let stdin = Value::Object(configuration(plugin, &network.name, version));
        query("STATUS", network, Conflist::type_of(plugin), stdin, runner).await?;
    }
    Ok(())
}

/// Tells every plugin which attachments there are, so that it frees what belongs to others. All are told; the first error is returned.
pub(super) async fn collect(
    network: &Conflist,
    version: &str,
    valid: &[String],
    runner: &Runner,
) -> Result<(), CniError> {
    let attachments: Vec<Value> = valid.iter().map(|id| json!({"containerID": id, "ifname": POD_LINK})).collect();
    let mut outcome = Ok(());
    for plugin in &network.plugins {
        let mut stdin = configuration(plugin, &network.name, version);
        stdin.insert("cni.dev/valid-attachments".to_owned(), Value::Array(attachments.clone()));
        let collected = query("GC", network, Conflist::type_of(plugin), Value::Object(stdin), runner).await;
        outcome = outcome.and(collected.map(drop));
    }
    outcome
}

async fn query(
    command: &'static str,
    network: &Conflist,
    plugin: &str,
    stdin: Value,
    runner: &Runner,
) -> Result<Value, CniError> {
    let (deadline, limit) = (Instant::now() + runner.query, runner.query);
    Run {
        command,
        plugin,
        network: &network.name,
        bin_dirs: &runner.bin_dirs,
        environment: Vec::new(),
        stdin,
        deadline,
        limit,
    }
    .run()
    .await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_plugin_that_is_replaced_again_and_again_is_remembered_once() {
        let (spoken, path) = (Spoken::default(), Path::new("/opt/cni/bin/bridge"));
        for seconds in 0..100 {
            let written = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(spoken.known(path, written), None, "another file");
            spoken.remember(path.to_owned(), written, vec![seconds.to_string()]);
            assert_eq!(spoken.known(path, written), Some(vec![seconds.to_string()]));
        }
        assert_eq!(spoken.known.lock().unwrap().len(), 1);
    }
}
