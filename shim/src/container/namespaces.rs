//! From the daemon's plan of namespaces to descriptors.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use podwright_runtime::{Namespace, Namespaces, PodUser};
use podwright_shim_api::{Failure, FailureKind, NamespaceChoice, NamespacePlan, PidChoice};

use super::{Phase, not_found};
use crate::server::Server;

/// One kind of namespace, owned for as long as the clone takes.
#[derive(Debug)]
enum Source<'pod> {
    Host,
    New,
    Pod(&'pod OwnedFd),
    Process(OwnedFd),
}

impl Source<'_> {
    fn borrow(&self) -> Namespace<'_> {
        match self {
            Self::Host => Namespace::Host,
            Self::New => Namespace::New,
            Self::Pod(fd) => Namespace::Join(fd.as_fd()),
            Self::Process(fd) => Namespace::Join(fd.as_fd()),
        }
    }
}

/// The namespaces of one container.
#[derive(Debug)]
pub(crate) struct Joined<'pod> {
    network: Source<'pod>,
    ipc: Source<'pod>,
    uts: Source<'pod>,
    pid: Source<'pod>,
    user: Option<&'pod PodUser>,
    cgroup: Source<'pod>,
}

impl Joined<'_> {
    pub(super) fn borrow(&self) -> Namespaces<'_> {
        Namespaces {
            network: self.network.borrow(),
            ipc: self.ipc.borrow(),
            uts: self.uts.borrow(),
            pid: self.pid.borrow(),
            user: self.user.map(PodUser::join),
            cgroup: self.cgroup.borrow(),
        }
    }
}

impl Server {
    /// The namespaces of a new container.
    pub(super) fn namespaces_for(&self, plan: &NamespacePlan, id: &str) -> Result<Joined<'_>, Failure> {
        let pod = &self.pod.namespaces;
        let kind = |choice: NamespaceChoice, of_pod: Option<&'_ OwnedFd>, kind: &str| -> Result<_, Failure> {
            match (choice, of_pod) {
                (NamespaceChoice::Host, _) => Ok(None),
                (NamespaceChoice::Pod, Some(_)) => Ok(of_pod.map(|_| ())),
                (NamespaceChoice::Pod, None) | (NamespaceChoice::New, _) => {
                    let text = format!("the plan wants a {kind} namespace that the pod does not have");
                    Err(Failure::new(FailureKind::Invalid, "start", id, text))
                }
            }
        };
        let choose = |choice, of_pod, name| -> Result<Source<'_>, Failure> {
            let of_pod: Option<&OwnedFd> = of_pod;
            Ok(match (kind(choice, of_pod, name)?, of_pod) {
                (Some(()), Some(fd)) => Source::Pod(fd),
                _ => Source::Host,
            })
        };
        Ok(Joined {
            network: choose(plan.network(), pod.network.as_ref(), "network")?,
            ipc: choose(plan.ipc(), pod.ipc.as_ref(), "IPC")?,
            uts: choose(plan.uts(), pod.uts.as_ref(), "UTS")?,
            pid: self.pid_namespace(plan, id)?,
            user: match (plan.user(), &pod.user) {
                (NamespaceChoice::Pod, Some(user)) => Some(user),
                // Most pods have no user namespace, and then the pod's is the host's.
                (NamespaceChoice::Pod | NamespaceChoice::Host, None) => None,
                (NamespaceChoice::Host, Some(_)) | (NamespaceChoice::New, _) => {
                    let text = "the plan's user namespace is not the pod's; containers use that of their pod";
                    return Err(Failure::new(FailureKind::Invalid, "start", id, text));
                }
            },
            cgroup: match plan.cgroup() {
                NamespaceChoice::New => Source::New,
                NamespaceChoice::Pod | NamespaceChoice::Host => Source::Host,
            },
        })
    }

    fn pid_namespace(&self, plan: &NamespacePlan, id: &str) -> Result<Source<'_>, Failure> {
        let plan = plan.pid.clone().unwrap_or_default();
        match plan.choice() {
            PidChoice::Own => Ok(Source::New),
            PidChoice::Host => Ok(Source::Host),
            PidChoice::Pod => match self.pod.pause_pid() {
                Some(pid) => pid_namespace_of(pid, id),
                None => {
                    let text = "the pod has no pid namespace, or its pause process has ended; make the pod anew";
                    Err(Failure::new(FailureKind::Invalid, "start", id, text))
                }
            },
            PidChoice::Target => {
                let target = self.containers.iter().find(|container| container.id == plan.target);
                match target.ok_or_else(|| not_found("join the process ids of", &plan.target))?.phase {
                    Phase::Running(ref started) => pid_namespace_of(started.pid, id),
                    Phase::OpeningLog(..)
                    | Phase::Starting(_)
                    | Phase::Exiting(_)
                    | Phase::Exited(..)
                    | Phase::Failed(_) => {
                        let text = "the container does not run, so its process ids can not be shared";
                        Err(Failure::new(FailureKind::Invalid, "join the process ids of", &plan.target, text))
                    }
                }
            }
        }
    }
}

/// The process is our child and not reaped yet, so its pid is still its own.
fn pid_namespace_of(pid: i32, id: &str) -> Result<Source<'static>, Failure> {
    let path = format!("/proc/{pid}/ns/pid");
    let file = File::open(&path).map_err(|error| Failure::of("start", id, &error))?;
    Ok(Source::Process(file.into()))
}
