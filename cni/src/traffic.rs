//! Traffic of pods, counted by the kernel. An embedded pod's is that of the host's end of its link, turned round: one file tells
//! all of them. For pods of plugins, whose links may have no end here, a thread enters each namespace and ends then.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use podwright_types::SandboxId;
use tokio::sync::oneshot;

use crate::host;
use crate::request::NetworkKind;

/// Name of an embedded pod's link.
const POD_LINK: &str = "eth0";
/// The links of the thread's namespace.
const OWN_LINKS: &str = "/proc/thread-self/net/dev";
/// Size of the stack of the thread that enters.
const STACK_BYTES: usize = 128 << 10;

/// A pod whose traffic is asked for.
#[derive(Debug, Clone)]
pub struct TrafficRequest {
    /// Sandbox.
    pub sandbox: SandboxId,
    /// Its network.
    pub kind: NetworkKind,
    /// Where its namespace is pinned, for pods of plugins.
    pub netns_path: PathBuf,
}

/// What went over one link, as its namespace sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkTraffic {
    /// Name.
    pub name: String,
    /// What came in.
    pub received: Counts,
    /// What went out.
    pub sent: Counts,
}

/// Counts of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Bad packets.
    pub errors: u64,
    /// Dropped packets.
    pub dropped: u64,
}

/// The links of pods of plugins, in order; a pod that is gone has none.
pub(crate) async fn of_namespaces(paths: Vec<PathBuf>) -> Vec<Vec<LinkTraffic>> {
    if paths.is_empty() {
        return Vec::new();
    }
    let (tell, told) = oneshot::channel();
    // Who gave up needs no answer.
    let body = move || drop(tell.send(paths.iter().map(|path| entered(path).unwrap_or_default()).collect()));
    let thread = std::thread::Builder::new().name("podwright-count".into()).stack_size(STACK_BYTES).spawn(body);
    if let Err(error) = thread {
        tracing::warn!(%error, "cannot start a thread that reads the traffic of pods");
        return Vec::new();
    }
    told.await.unwrap_or_default()
}

fn entered(path: &Path) -> io::Result<Vec<LinkTraffic>> {
    host::enter(std::os::fd::AsFd::as_fd(&File::open(path)?))?;
    let mut links = parse(&std::fs::read_to_string(OWN_LINKS)?);
    links.retain(|link| link.name != "lo");
    // The specification lets a runtime name the first link, and ours is the usual name.
    links.sort_by_key(|link| link.name != POD_LINK);
    Ok(links)
}

/// The links of the caller's namespace by name.
pub(crate) fn of_host() -> io::Result<HashMap<String, LinkTraffic>> {
    let links = parse(&std::fs::read_to_string(OWN_LINKS)?);
    Ok(links.into_iter().map(|link| (link.name.clone(), link)).collect())
}

/// What a pod sees whose link ends here.
pub(crate) fn turned_round(host_end: &LinkTraffic) -> LinkTraffic {
    LinkTraffic { name: POD_LINK.to_owned(), received: host_end.sent, sent: host_end.received }
}

/// Lines `eth0: bytes packets errs drop fifo frame compressed multicast bytes packets errs drop ...`; see proc_pid_net(5).
fn parse(text: &str) -> Vec<LinkTraffic> {
    text.lines().filter_map(link).collect()
}

fn link(line: &str) -> Option<LinkTraffic> {
    // Names may have a colon.
    let (name, numbers) = line.rsplit_once(':')?;
    let mut numbers = numbers.split_ascii_whitespace().map(|number| number.parse().ok());
    let mut next = || numbers.next().flatten();
    let received = Counts { bytes: next()?, packets: next()?, errors: next()?, dropped: next()? };
    let [_fifo, _frame, _compressed, _multicast] = [next()?, next()?, next()?, next()?];
    let sent = Counts { bytes: next()?, packets: next()?, errors: next()?, dropped: next()? };
    Some(LinkTraffic { name: name.trim_start().to_owned(), received, sent })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:  100       2    0    0    0     0          0         0      100       2    0    0    0     0       0          0
a:1:  2000      20    1    2    0     0          0         0     3000      30    3    4    0     0       0          0
";

    #[test]
    fn links_are_read_with_both_directions() {
        let links = parse(SAMPLE);
        let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
        assert_eq!(names, ["lo", "a:1"]);
        let received = Counts { bytes: 2000, packets: 20, errors: 1, dropped: 2 };
        let sent = Counts { bytes: 3000, packets: 30, errors: 3, dropped: 4 };
        assert_eq!((links[1].received, links[1].sent), (received, sent));
        let pod = turned_round(&links[1]);
        assert_eq!((pod.name.as_str(), pod.received, pod.sent), ("eth0", sent, received));
    }

    #[tokio::test]
    async fn root_namespaces_are_entered_by_a_thread_that_ends() {
        let before = std::fs::read_link("/proc/self/ns/net").unwrap();
        // Ours stands for one with links, and what is gone has none.
        let found = of_namespaces(vec!["/proc/self/ns/net".into(), "/gone".into()]).await;
        assert_eq!(found.len(), 2);
        assert!(found[0].iter().all(|link| link.name != "lo") && found[1].is_empty());
        assert_eq!(std::fs::read_link("/proc/thread-self/ns/net").unwrap(), before);
    }
}
