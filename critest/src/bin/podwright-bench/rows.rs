//! The rows, in the order in which they are measured.

mod burst;
mod exec;
mod idle;
mod log;
mod pull;
mod start;

use anyhow::{Context, Result};
use podwright_cri_api::v1::{ContainerConfig, NamespaceMode, NamespaceOption, PodSandboxConfig};
use podwright_critest::{Cri, Pod, container};
use tokio::task::JoinSet;

use crate::contender::Contender;
use crate::report::{Better, Report, Row};
use crate::sample::Samples;

/// Pods that are removed at the same time when nobody measures it.
const REMOVED_AT_ONCE: usize = 16;

/// A run: who is measured, how much, and what came out.
pub(crate) struct Bench {
    pub(crate) contenders: Vec<Contender>,
    pub(crate) report: Report,
    /// Pods one after the other.
    pub(crate) pods: usize,
    /// Pods of the rows at scale.
    pub(crate) many: usize,
    /// Parts of names of rows; all when empty.
    pub(crate) wanted: Vec<String>,
}

impl Bench {
    /// Measures every row.
    pub(crate) async fn run(&mut self) -> Result<()> {
        start::measure(self).await.context("measuring starts")?;
        burst::measure(self).await.context("measuring pods at once")?;
        exec::measure(self).await.context("measuring exec")?;
        idle::measure(self).await.context("measuring idle pods")?;
        log::measure(self).await.context("measuring logs")?;
        pull::measure(self).await.context("measuring pulls")
    }

    /// Whether one of these rows is to be measured.
    fn wants(&self, names: &[&str]) -> bool {
        self.wanted.is_empty() || names.iter().any(|name| self.wanted.iter().any(|part| name.contains(part.as_str())))
    }

    /// Empty samples for each contender.
    fn empty(&self) -> Vec<(String, Samples)> {
        self.contenders.iter().map(|one| (one.name.clone(), Samples::default())).collect()
    }

    /// Prints and keeps a row of those contenders that have values, if it is wanted.
    fn add(
        &mut self,
        name: &str,
        unit: &'static str,
        better: Better,
        target: Option<f64>,
        mut measured: Vec<(String, Samples)>,
    ) {
        measured.retain(|(_, samples)| samples.len() > 0);
        if self.wants(&[name]) && !measured.is_empty() {
            self.report.add(Row { name: name.into(), unit, better, target, measured });
        }
    }
}

/// What [`workload`] logs when it would end at once on SIGTERM.
const READY: &str = "ready";

/// A container as kubelet asks for it, with process ids of its own. As process 1 it ends on SIGTERM only once it says so.
fn workload(image: &str) -> ContainerConfig {
    container("main", image, &["sh", "-c", "trap 'exit 0' TERM; echo ready; sleep 100000 & wait"])
}

/// An ordinary pod, or one on the host's network.
fn pod_of(cri: &Cri, name: &str, host_network: bool) -> PodSandboxConfig {
    let mut config = cri.pod(name);
    if host_network {
        config.hostname.clear();
        let security = config.linux.get_or_insert_default().security_context.get_or_insert_default();
        security.namespace_options =
            Some(NamespaceOption { network: NamespaceMode::Node.into(), pid: 1, ..Default::default() });
    }
    config
}

/// Makes pods of one sleeping container each, some at a time.
async fn make_pods(cri: &Cri, image: &str, prefix: &str, count: usize, at_once: usize) -> Result<Vec<(Pod, String)>> {
    let mut made = Vec::with_capacity(count);
    let mut running = JoinSet::new();
    for number in 0..count {
        if running.len() >= at_once {
            made.extend(running.join_next().await.transpose()?.transpose()?);
        }
        let (mut cri, config) = (cri.clone(), container("main", image, &["sleep", "100000"]));
        let name = format!("{prefix}-{number}");
        running.spawn(async move {
            let pod = cri.run_pod_named(&name).await?;
            let id = cri.run(&pod, &config).await?;
            anyhow::Ok((pod, id))
        });
    }
    while let Some(pod) = running.join_next().await {
        made.push(pod??);
    }
    Ok(made)
}

/// Removes pods, some at a time.
async fn remove_pods(cri: &Cri, pods: Vec<(Pod, String)>, at_once: usize) -> Result<()> {
    let mut running = JoinSet::new();
    for (pod, _) in pods {
        if running.len() >= at_once {
            running.join_next().await.transpose()?.transpose()?;
        }
        let mut cri = cri.clone();
        running.spawn(async move { cri.remove_pod(&pod.id).await });
    }
    while let Some(outcome) = running.join_next().await {
        outcome??;
    }
    Ok(())
}
