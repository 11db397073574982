//! Metrics of containers and pods in the Prometheus manner, under the names and labels that kubelet's own have, so that
//! dashboards need no change. What there is stands in one table; here it becomes messages.

mod table;

use podwright_cri_api::v1;
use podwright_podsandbox::model::{
    CgroupUsage, ContainerDetails, ContainerState, ContainerStats, SandboxConfig, SandboxState, SandboxStats,
};

use table::{CONTAINERS, LINKS, Metric, Value};

/// Labels of every metric, in the order of their values.
const LABELS: [&str; 6] = ["id", "name", "image", "container", "pod", "namespace"];
/// The container to which a pod's own metrics are told to belong.
const POD: &str = "POD";

/// A running container, for the table.
pub(crate) struct Sample<'a> {
    stats: &'a ContainerStats,
    usage: &'a CgroupUsage,
    details: &'a ContainerDetails,
    started_at_nanos: i64,
    now_seconds: u64,
}

/// What there is.
pub(crate) fn descriptors() -> Vec<v1::MetricDescriptor> {
    CONTAINERS.iter().map(descriptor).chain(LINKS.iter().map(descriptor)).collect()
}

fn descriptor<F>(metric: &Metric<F>) -> v1::MetricDescriptor {
    v1::MetricDescriptor {
        name: metric.name.to_owned(),
        help: metric.help.to_owned(),
        label_keys: LABELS.iter().chain(metric.labels).map(|label| (*label).to_owned()).collect(),
    }
}

/// The metrics of a pod; `None` if it is not ready.
pub(crate) fn of_sandbox(stats: &SandboxStats, now_seconds: u64) -> Option<v1::PodSandboxMetrics> {
    if stats.sandbox.state != SandboxState::Ready {
        return None;
    }
    let config = &stats.sandbox.config;
    let id = stats.sandbox.id.as_str();
    let labels = [&*config.cgroup_parent, id, "", POD, &*config.name, &*config.namespace];
    let mut metrics = Vec::new();
    for link in stats.network.iter().flat_map(|network| &network.links) {
        LINKS.iter().for_each(|metric| metric.tell((metric.values)(link), &labels, &mut metrics));
    }
    let containers = stats.containers.iter().filter_map(|container| of_container(container, config, now_seconds));
    Some(v1::PodSandboxMetrics { pod_sandbox_id: id.to_owned(), metrics, container_metrics: containers.collect() })
}

/// The metrics of a container; `None` if it does not run.
fn of_container(stats: &ContainerStats, pod: &SandboxConfig, now_seconds: u64) -> Option<v1::ContainerMetrics> {
    let ContainerState::Running { started_at_nanos, .. } = stats.container.state else { return None };
    let (usage, details) = (stats.usage.as_ref()?, stats.details.as_deref()?);
    let sample = Sample { stats, usage, details, started_at_nanos, now_seconds };
    let (id, config) = (stats.container.id.as_str(), &stats.container.config);
    let image = Some(&config.user_specified_image).filter(|image| !image.is_empty()).unwrap_or(&config.image);
    let labels = [&*details.cgroup, id, image, &*config.name, &*pod.name, &*pod.namespace];
    let mut metrics = Vec::new();
    CONTAINERS.iter().for_each(|metric| metric.tell((metric.values)(&sample), &labels, &mut metrics));
    Some(v1::ContainerMetrics { container_id: id.to_owned(), metrics })
}

impl<F> Metric<F> {
    /// Adds values of it.
    fn tell(&self, values: Vec<Value>, labels: &[&str; LABELS.len()], to: &mut Vec<v1::Metric>) {
        to.extend(values.into_iter().map(|value| v1::Metric {
            name: self.name.to_owned(),
            timestamp: value.at_nanos,
            metric_type: self.kind.into(),
            label_values: labels.iter().map(|label| (*label).to_owned()).chain(value.labels).collect(),
            value: Some(v1::UInt64Value { value: value.number }),
        }));
    }
}

#[cfg(test)]
mod tests;
