//! [`Statistics`] by the files of cgroups, the counters of the pods' links and walks through the writable layers. Nothing is
//! polled and nothing is kept open: what is asked for is read then, side by side.

mod details;
mod layers;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use podwright_cgroups::{Cgroup, Hierarchy, Reader, Stats, expand_slice, systemd_path};
use podwright_cni::{Counts, LinkTraffic, Networks, TrafficRequest};
use podwright_podsandbox::model::{
    CgroupUsage, FilesystemSize, LinkUsage, MemoryUsage, NetworkUsage, Pressure, Stall, SwapUsage, Traffic,
};
use podwright_podsandbox::ports::{
    ContainerReading, ContainerSubject, NetworkKind, ReadReply, ReadRequest, SandboxReading, SandboxSubject, Statistics,
};

use layers::Layers;

/// Tasks that read cgroups for one answer at most; their files never hang.
const READERS: usize = 4;
/// Cgroups for which another task is worth its start.
const PER_READER: usize = 24;
/// Cgroups that a task takes at a time.
const PORTION: usize = 4;

/// What is used on this host.
pub(crate) struct HostStatistics {
    networks: Networks,
    files: Arc<Files>,
    layers: Layers,
}

/// What readers share.
struct Files {
    hierarchy: Hierarchy,
    page_sizes: Vec<String>,
}

/// What was read of a cgroup: of a container, or of a pod.
enum Reading {
    Container(ContainerReading),
    Pod(Option<CgroupUsage>),
}

impl HostStatistics {
    /// `layers` is the directory that holds the writable layers.
    pub(crate) fn new(hierarchy: Hierarchy, networks: Networks, layers: PathBuf) -> Self {
        let files = Arc::new(Files { hierarchy, page_sizes: details::page_sizes() });
        Self { networks, files, layers: Layers::new(layers) }
    }

    /// The traffic of pods, in order.
    async fn traffic(&self, sandboxes: &[SandboxSubject]) -> Vec<Option<NetworkUsage>> {
        let requests: Vec<_> = sandboxes.iter().filter_map(traffic_request).collect();
        let at_nanos = now_nanos();
        let mut found = self.networks.traffic(&requests).await.into_iter();
        let usage = |links: Vec<LinkTraffic>| NetworkUsage { at_nanos, links: links.into_iter().map(link).collect() };
        let of_pod = |pod: &SandboxSubject| pod.network.as_ref().and_then(|_| found.next().flatten()).map(usage);
        sandboxes.iter().map(of_pod).collect()
    }

    /// Everything that cgroups tell: containers, then sandboxes, in order.
    async fn cgroups(&self, request: &Arc<ReadRequest>, filesystem: FilesystemSize) -> Vec<Option<Reading>> {
        let count = request.containers.len() + request.sandboxes.len();
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let readers = (count / PER_READER + 1).min(cpus).min(READERS);
        let (next, filesystem) = (Arc::new(AtomicUsize::new(0)), Arc::new(filesystem));
        let tasks = (0..readers).map(|_| {
            let (files, request, next, filesystem) =
                (self.files.clone(), request.clone(), next.clone(), filesystem.clone());
            tokio::task::spawn_blocking(move || files.portions(&request, &next, &filesystem))
        });
        let mut readings: Vec<Option<Reading>> = std::iter::repeat_with(|| None).take(count).collect();
        for task in tasks.collect::<Vec<_>>() {
            for (index, reading) in task.await.unwrap_or_default() {
                if let Some(slot) = readings.get_mut(index) {
                    *slot = Some(reading);
                }
            }
        }
        readings
    }
}

#[async_trait]
impl Statistics for HostStatistics {
    async fn read(&self, request: ReadRequest) -> ReadReply {
        let request = Arc::new(request);
        let counts = self.layers.begin(&request);
        let filesystem = if request.details { self.layers.filesystem().await } else { FilesystemSize::default() };
        let traffic = self.traffic(&request.sandboxes).await;
        let mut readings = self.cgroups(&request, filesystem).await;
        layers::finish(counts).await;
        let pods = readings.split_off(request.containers.len().min(readings.len()));
        let container = |reading| match reading {
            Some(Reading::Container(reading)) => reading,
            Some(Reading::Pod(_)) | None => ContainerReading::default(),
        };
        let sandbox = |(reading, network)| match reading {
            Some(Reading::Pod(usage)) => SandboxReading { usage, network },
            Some(Reading::Container(_)) | None => SandboxReading { usage: None, network },
        };
        ReadReply {
            containers: readings.into_iter().map(container).collect(),
            sandboxes: pods.into_iter().zip(traffic).map(sandbox).collect(),
        }
    }
}

impl Files {
    /// The work of one task: what no other has taken yet.
    fn portions(
        &self,
        request: &ReadRequest,
        next: &AtomicUsize,
        filesystem: &FilesystemSize,
    ) -> Vec<(usize, Reading)> {
        let (mut reader, mut done) = (Reader::default(), Vec::new());
        let count = request.containers.len() + request.sandboxes.len();
        loop {
            let first = next.fetch_add(PORTION, Ordering::Relaxed);
            if first >= count {
                return done;
            }
            for index in first..count.min(first + PORTION) {
                done.push((index, self.one(request, index, &mut reader, filesystem)));
            }
        }
    }

    fn one(&self, request: &ReadRequest, index: usize, reader: &mut Reader, filesystem: &FilesystemSize) -> Reading {
        if let Some(container) = request.containers.get(index) {
            return Reading::Container(self.container(container, request.details, reader, filesystem));
        }
        let sandbox = request.sandboxes.get(index - request.containers.len());
        let cgroup = sandbox.and_then(|sandbox| self.cgroup(sandbox.cgroup.as_deref()?));
        Reading::Pod(cgroup.and_then(|cgroup| Some(usage(&cgroup.stats_with(reader).ok()?, None))))
    }

    fn container(
        &self,
        container: &ContainerSubject,
        with_details: bool,
        reader: &mut Reader,
        filesystem: &FilesystemSize,
    ) -> ContainerReading {
        let Some(cgroup) = container.cgroup.as_deref().and_then(|path| self.cgroup(path)) else {
            return ContainerReading::default();
        };
        // One that ends meanwhile has no cgroup any more, and then no usage.
        let Ok(stats) = cgroup.stats_with(reader) else { return ContainerReading::default() };
        let details = with_details.then(|| details::read(&cgroup, reader, &self.page_sizes, filesystem));
        let processes = cgroup.process_count(&stats).ok();
        ContainerReading { usage: Some(usage(&stats, processes)), details: details.map(Box::new) }
    }

    /// The cgroup that a path of a driver names: `/a/b`, `slice:prefix:name` or `a-b.slice`.
    fn cgroup(&self, path: &str) -> Option<Cgroup> {
        let path = if path.starts_with('/') {
            path.to_owned()
        } else if path.contains(':') {
            systemd_path(path).ok()?
        } else {
            expand_slice(path).ok()?
        };
        self.hierarchy.cgroup(&path).ok()
    }
}

fn usage(stats: &Stats, processes: Option<u64>) -> CgroupUsage {
    let memory = stats.memory.as_ref().map(|memory| MemoryUsage {
        usage_bytes: memory.usage_bytes,
        working_set_bytes: memory.working_set_bytes,
        rss_bytes: memory.rss_bytes,
        page_faults: memory.page_faults,
        major_page_faults: memory.major_page_faults,
        limit_bytes: memory.limit_bytes,
    });
    let swap =
        stats.swap.as_ref().map(|swap| SwapUsage { usage_bytes: swap.usage_bytes, limit_bytes: swap.limit_bytes });
    CgroupUsage {
        at_nanos: now_nanos(),
        cpu_nanoseconds: stats.cpu_usage_nanoseconds,
        memory,
        swap,
        threads: stats.tasks,
        processes,
        cpu_pressure: stats.cpu_pressure.map(pressure),
        memory_pressure: stats.memory_pressure.map(pressure),
        io_pressure: stats.io_pressure.map(pressure),
    }
}

fn pressure(pressure: podwright_cgroups::Pressure) -> Pressure {
    let stall = |stall: podwright_cgroups::Stall| Stall {
        total_microseconds: stall.total_microseconds,
        average_10: stall.average_10,
        average_60: stall.average_60,
        average_300: stall.average_300,
    };
    Pressure { some: stall(pressure.some), full: stall(pressure.full) }
}

fn traffic_request(sandbox: &SandboxSubject) -> Option<TrafficRequest> {
    let (kind, netns_path) = sandbox.network.clone()?;
    let kind = match kind {
        NetworkKind::Embedded => podwright_cni::NetworkKind::Embedded,
        NetworkKind::Cni => podwright_cni::NetworkKind::Cni,
    };
    Some(TrafficRequest { sandbox: sandbox.id.clone(), kind, netns_path })
}

fn link(link: LinkTraffic) -> LinkUsage {
    let counts = |counts: Counts| Traffic {
        bytes: counts.bytes,
        packets: counts.packets,
        errors: counts.errors,
        dropped: counts.dropped,
    };
    LinkUsage { received: counts(link.received), sent: counts(link.sent), name: link.name }
}

/// Nanoseconds since the epoch.
fn now_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
