//! The rows, in the order in which they are measured.

mod bundle;
mod burst;
mod exec;
mod floors;
mod hung;
mod idle;
mod log;
mod pull;
mod scale;
mod size;
mod start;
mod stream;

use std::time::Instant;

use anyhow::Result;
use podwright_cri_api::v1::{ContainerConfig, NamespaceMode, NamespaceOption, PodSandboxConfig};
use podwright_critest::{Cri, Pod, container};
use tokio::task::JoinSet;

use crate::contender::Contender;
use crate::lane::{Lanes, Part};
use crate::report::{Report, Row};

/// Pods that are removed at the same time when nobody measures it.
const REMOVED_AT_ONCE: usize = 16;
/// Where a row is about ourselves only.
const OURS: usize = 0;

/// A run: who is measured, how much, and what came out.
pub(crate) struct Bench {
    pub(crate) contenders: Vec<Contender>,
    pub(crate) report: Report,
    /// Pods one after the other.
    pub(crate) pods: usize,
    /// Idle pods of the rows that compare.
    pub(crate) many: usize,
    /// Idle pods of the rows of density.
    pub(crate) density: usize,
    /// Parts of names of rows; all when empty.
    pub(crate) wanted: Vec<String>,
    pub(crate) started: Instant,
}

impl Bench {
    /// Measures every row. What fails is said in the rows.
    pub(crate) async fn run(&mut self) {
        start::measure(self).await;
        burst::measure(self).await;
        exec::measure(self).await;
        bundle::measure(self).await;
        stream::measure(self).await;
        log::measure(self).await;
        pull::measure(self).await;
        idle::measure(self).await;
        size::measure(self).await;
        hung::measure(self).await;
        scale::measure(self).await;
        floors::measure(self).await;
    }

    /// Whether one of these rows is to be measured.
    fn wants(&self, names: &[&str]) -> bool {
        self.wanted.is_empty() || names.iter().any(|name| self.wanted.iter().any(|part| name.contains(part.as_str())))
    }

    /// Begins a part of the run, and says so.
    fn part(&self, what: &str) -> Part {
        let seconds = self.started.elapsed().as_secs();
        println!("-- {:02}:{:02} {what}", seconds / 60, seconds % 60);
        Part::of(self.names())
    }

    /// Empty lanes, one for each contender.
    fn lanes(&self) -> Lanes {
        Lanes::of(self.names())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.contenders.iter().map(|one| one.name.as_str())
    }

    /// Prints and keeps a row that has values, if it is wanted.
    fn add(&mut self, row: Row) {
        if self.wants(&[&row.name]) && !row.is_empty() {
            self.report.add(row);
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
