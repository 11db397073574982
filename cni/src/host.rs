//! The thread that changes the host's network: it owns the netlink sockets and enters pods' namespaces, so that no worker of
//! the async runtime is ever found in a foreign namespace. One thread suffices, as the kernel serves one change at a time.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::thread::LinkNameSpaceType;
use tokio::sync::{mpsc, oneshot};

use crate::conntrack::ConntrackSocket;
use crate::error::CniError;
use crate::netlink::RouteSocket;
use crate::nft::NftSocket;

/// Changes that wait for the thread.
const JOBS_QUEUED: usize = 1024;

type Job = Box<dyn FnOnce(&mut HostNet) + Send>;

/// Handle of the thread; it ends with the last handle.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    jobs: mpsc::Sender<Job>,
}

/// What the thread owns.
#[derive(Debug)]
pub(crate) struct HostNet {
    /// Links, addresses, routes and neighbours.
    pub(crate) route: RouteSocket,
    /// nf_tables.
    pub(crate) nft: NftSocket,
    /// Flows.
    pub(crate) conntrack: ConntrackSocket,
    home: File,
}

impl Host {
    /// Starts the thread in the caller's network namespace.
    pub(crate) fn start() -> Result<Self, CniError> {
        let (jobs, mut inbox) = mpsc::channel::<Job>(JOBS_QUEUED);
        let (ready, outcome) = std::sync::mpsc::sync_channel(1);
        let body = move || match HostNet::open() {
            Ok(mut net) => {
                let _ = ready.send(Ok(()));
                while let Some(job) = inbox.blocking_recv() {
                    job(&mut net);
                }
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        };
        let failed = |source| kernel("starting", "the network thread", source);
        std::thread::Builder::new().name("podwright-net".to_owned()).spawn(body).map_err(failed)?;
        outcome.recv().map_err(|_| CniError::HostGone)?.map_err(failed)?;
        Ok(Self { jobs })
    }

    /// Runs `job` on the thread, after those that came before. Once it has its place it runs to its end even if the caller gives up.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut HostNet) -> Result<T, CniError> + Send + 'static,
    ) -> Result<T, CniError> {
        let (answer, result) = oneshot::channel();
        let boxed: Job = Box::new(move |net| {
            let _ = answer.send(job(net));
        });
        self.jobs.send(boxed).await.map_err(|_| CniError::HostGone)?;
        result.await.map_err(|_| CniError::HostGone)?
    }
}

impl HostNet {
    fn open() -> io::Result<Self> {
        Ok(Self {
            route: RouteSocket::open()?,
            nft: NftSocket::open()?,
            conntrack: ConntrackSocket::open()?,
            home: File::open("/proc/thread-self/ns/net")?,
        })
    }

    /// Opens a socket inside of another network namespace; the socket keeps belonging to it.
    pub(crate) fn socket_in(&self, netns: BorrowedFd<'_>) -> io::Result<RouteSocket> {
        enter(netns)?;
        let socket = RouteSocket::open();
        let mut back = enter(self.home.as_fd());
        while back.is_err() {
            // To go on in a pod's namespace would change the wrong network. There is no known way to come here.
            tracing::error!("the network thread can not return to the host's namespace");
            std::thread::sleep(std::time::Duration::from_secs(1));
            back = enter(self.home.as_fd());
        }
        socket
    }
}

/// Joins a namespace, which must be one of networks.
pub(crate) fn enter(netns: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::thread::move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?)
}

/// Makes the error of a change that the kernel refused.
pub(crate) fn kernel(operation: &'static str, object: impl Into<String>, source: io::Error) -> CniError {
    let hint = match source.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => ": CAP_NET_ADMIN is needed",
        Some(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::PROTONOSUPPORT) => {
            ": the kernel lacks a module (veth, nf_tables, nft_nat, nft_masq, nft_fib_inet)"
        }
        _ => "",
    };
    CniError::Kernel { operation, object: object.into(), hint, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn callers_wait_while_too_many_changes_wait() {
        let (jobs, mut inbox) = mpsc::channel(JOBS_QUEUED);
        let host = Host { jobs };
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..=JOBS_QUEUED {
            let host = host.clone();
            callers.spawn(async move { host.run(|_| Ok(())).await });
        }
        drop(host);
        // On the one thread of this test: every caller has had its turn when the queue is full.
        while inbox.len() < JOBS_QUEUED {
            tokio::task::yield_now().await;
        }
        assert_eq!(inbox.max_capacity(), JOBS_QUEUED);
        let mut run = 0;
        while inbox.recv().await.is_some() {
            run += 1;
        }
        assert_eq!(run, JOBS_QUEUED + 1, "the last one came when there was a place");
    }
}
