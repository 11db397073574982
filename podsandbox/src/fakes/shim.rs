//! The shims of the fake world.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use async_trait::async_trait;
use oci_spec::runtime::{Process, Spec};
use podwright_types::{ContainerId, ExecId, SandboxId};
use tokio::sync::mpsc;

use super::World;
use crate::model::ResolvedUser;
use crate::ports::{
    ContainerReport, CreatePod, ExecExit, ExecRequest, GivenFds, PodCreated, PortError, ProcessEnd, Shim, ShimEvent,
    ShimState, StartContainer, StartFailure, Started,
};
use crate::session::TerminalSize;
use crate::util::{lock, now_nanos};

/// What one fake shim has.
pub(super) struct ShimWorld {
    pid: i32,
    pod: Option<Pod>,
    containers: BTreeMap<ContainerId, Member>,
    execs: BTreeMap<ExecId, ContainerId>,
    listeners: Vec<mpsc::Sender<ShimEvent>>,
    held_open: Vec<OwnedFd>,
}

struct Pod {
    network: bool,
    pause_pid: Option<i32>,
}

struct Member {
    report: ContainerReport,
    program: String,
    cgroup: String,
    /// Open until its end.
    clients: Vec<GivenFds>,
}

impl ShimWorld {
    pub(super) fn new(pid: i32) -> Self {
        Self {
            pid,
            pod: None,
            containers: BTreeMap::new(),
            execs: BTreeMap::new(),
            listeners: Vec::new(),
            held_open: Vec::new(),
        }
    }

    pub(super) fn listen(&mut self, listener: mpsc::Sender<ShimEvent>) {
        self.listeners.push(listener);
    }

    pub(super) fn tell(&self, event: &ShimEvent) {
        for listener in &self.listeners {
            // A listener that went away needs no news.
            drop(listener.try_send(event.clone()));
        }
    }

    pub(super) fn end(&mut self, id: &ContainerId, code: i32) {
        let end = ProcessEnd { code, at_nanos: now_nanos(), oom_killed: false };
        if let Some(member) = self.containers.get_mut(id)
            && member.report.end.is_none()
        {
            member.report.end = Some(end.clone());
            member.clients.clear();
            self.tell(&ShimEvent::ContainerExited(id.clone(), end));
        }
    }

    fn end_exec(&mut self, exec: &ExecId, code: i32) {
        if let Some(container) = self.execs.remove(exec) {
            let end = ProcessEnd { code, at_nanos: now_nanos(), oom_killed: false };
            self.tell(&ShimEvent::ExecExited(ExecExit { container, exec: exec.clone(), end }));
        }
    }

    fn pod(&self) -> Option<PodCreated> {
        let pod = self.pod.as_ref()?;
        let netns = File::open("/proc/self/ns/net").ok().filter(|_| pod.network).map(OwnedFd::from);
        Some(PodCreated { pause_pid: pod.pause_pid, netns })
    }

    fn start(&mut self, request: &StartContainer, program: &str) -> Started {
        if let Some(member) = self.containers.get(&request.container) {
            return member.report.started.clone();
        }
        let started = Started {
            pid: i32::try_from(self.containers.len()).unwrap_or_default() + 1000,
            started_at_nanos: now_nanos(),
            user: ResolvedUser { uid: 1, gid: 2, supplemental_groups: vec![2, 3] },
        };
        let report = ContainerReport { container: request.container.clone(), started: started.clone(), end: None };
        let member =
            Member { report, program: program.into(), cgroup: request.cgroup.path.clone(), clients: Vec::new() };
        self.containers.insert(request.container.clone(), member);
        match program {
            "true" => self.end(&request.container, 0),
            "false" => self.end(&request.container, 1),
            _ => {}
        }
        started
    }
}

/// A connection to one.
pub(super) struct FakeShim {
    pub(super) world: World,
    pub(super) sandbox: SandboxId,
}

impl FakeShim {
    fn with<T>(&self, method: &str, work: impl FnOnce(&mut ShimWorld) -> T) -> Result<T, PortError> {
        self.world.call(method, self.sandbox.as_str())?;
        self.world.with_shim(&self.sandbox, work)
    }
}

fn first(args: Option<&Vec<String>>) -> String {
    args.and_then(|args| args.first()).cloned().unwrap_or_default()
}

#[async_trait]
impl Shim for FakeShim {
    fn pid(&self) -> i32 {
        lock(&self.world.state).shims.get(&self.sandbox).map_or(0, |shim| shim.pid)
    }

    async fn state(&self) -> Result<ShimState, PortError> {
        self.world.with_shim(&self.sandbox, |shim| ShimState {
            pid: shim.pid,
            pod: shim.pod(),
            containers: shim.containers.values().map(|member| member.report.clone()).collect(),
            execs: shim.execs.iter().map(|(exec, container)| (container.clone(), exec.clone())).collect(),
        })
    }

    async fn create_pod(&self, request: &CreatePod) -> Result<PodCreated, PortError> {
        self.with("shim.create_pod", |shim| {
            shim.pod = Some(Pod { network: request.network, pause_pid: request.pid.then_some(shim.pid + 1) });
            shim.pod().ok_or_else(|| PortError::Failed("there is no pod".into()))
        })?
    }

    async fn start_container(&self, request: &StartContainer) -> Result<Started, PortError> {
        let spec: Spec = serde_json::from_str(&request.spec).map_err(|e| PortError::Invalid(e.to_string()))?;
        let program = first(spec.process().as_ref().and_then(|process| process.args().as_ref()));
        match program.as_str() {
            "missing" => {
                return Err(PortError::Start(StartFailure::ProgramNotFound, "exec \"missing\": not found".into()));
            }
            "forbidden" => {
                return Err(PortError::Start(StartFailure::ProgramNotExecutable, "exec \"forbidden\": denied".into()));
            }
            _ => {}
        }
        let started = self.with("shim.start_container", |shim| shim.start(request, &program))?;
        lock(&self.world.state).cgroups.insert(request.cgroup.path.clone());
        Ok(started)
    }

    async fn exec(&self, request: ExecRequest) -> Result<i32, PortError> {
        let process: Process = serde_json::from_str(&request.process).map_err(|e| PortError::Invalid(e.to_string()))?;
        let args = process.args().clone().unwrap_or_default();
        let exec = request.exec.clone();
        self.with("shim.exec", |shim| shim.execs.insert(exec.clone(), request.container.clone()))?;
        let (world, sandbox) = (self.world.clone(), self.sandbox.clone());
        let print = move |out: Option<OwnedFd>, bytes: Vec<u8>| {
            if let Some(out) = out {
                // Whoever stopped reading is served.
                drop(File::from(out).write_all(&bytes));
            }
        };
        let rest = args.get(1).cloned().unwrap_or_default();
        let stdout = request.fds.stdout;
        match first(Some(&args)).as_str() {
            "sleep" => return Ok(1),
            "hang" => {
                while self.world.with_shim(&self.sandbox, |shim| shim.execs.contains_key(&exec))? {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                return Err(PortError::Failed("it was killed before it began".into()));
            }
            "daemon" => {
                self.world.with_shim(&self.sandbox, |shim| shim.held_open.extend(stdout))?;
                self.world.with_shim(&self.sandbox, |shim| shim.end_exec(&exec, 0))?;
            }
            "flood" => {
                let bytes = vec![b'x'; rest.parse().unwrap_or_default()];
                tokio::task::spawn_blocking(move || {
                    print(stdout, bytes);
                    drop(world.with_shim(&sandbox, |shim| shim.end_exec(&exec, 0)));
                });
            }
            "false" => self.world.with_shim(&self.sandbox, |shim| shim.end_exec(&exec, 1))?,
            "cat" => {
                let stdin = request.fds.stdin;
                tokio::task::spawn_blocking(move || {
                    if let (Some(stdin), Some(stdout)) = (stdin, stdout) {
                        drop(std::io::copy(&mut File::from(stdin), &mut File::from(stdout)));
                    }
                    drop(world.with_shim(&sandbox, |shim| shim.end_exec(&exec, 0)));
                });
            }
            _ => {
                print(stdout, format!("{rest}\n").into_bytes());
                self.world.with_shim(&self.sandbox, |shim| shim.end_exec(&exec, 0))?;
            }
        }
        Ok(1)
    }

    async fn signal_container(&self, container: &ContainerId, signal: i32, _all: bool) -> Result<(), PortError> {
        self.with("shim.signal_container", |shim| {
            let Some(member) = shim.containers.get(container) else { return };
            let ends = match member.program.as_str() {
                "immortal" => false,
                "stubborn" => signal == 9,
                _ => true,
            };
            if ends {
                shim.end(container, 128 + signal);
            }
        })
    }

    async fn kill_exec(&self, _: &ContainerId, exec: &ExecId) -> Result<(), PortError> {
        self.with("shim.kill_exec", |shim| shim.end_exec(exec, 137))
    }

    async fn attach(&self, container: &ContainerId, fds: GivenFds) -> Result<(), PortError> {
        self.with("shim.attach", |shim| {
            let member = shim.containers.get_mut(container).filter(|member| member.report.end.is_none());
            let member = member.ok_or_else(|| PortError::NotFound("its streams have ended".into()))?;
            member.clients.push(fds);
            Ok(())
        })?
    }

    async fn resize(&self, _: &ContainerId, exec: Option<&ExecId>, size: TerminalSize) -> Result<(), PortError> {
        let whose = if exec.is_some() { "exec" } else { "container" };
        self.world.call("shim.resize", &format!("{whose} {}x{}", size.columns, size.rows))
    }

    async fn update_container(&self, _: &ContainerId, resources: &str) -> Result<(), PortError> {
        self.world.call("shim.update_container", resources)
    }

    async fn reopen_log(&self, container: &ContainerId) -> Result<(), PortError> {
        self.world.call("shim.reopen_log", container.as_str())
    }

    async fn delete_container(&self, container: &ContainerId) -> Result<(), PortError> {
        if lock(&self.world.state).failing.contains("shim.dies") {
            self.world.kill_shim(&self.sandbox);
        }
        let member = self.with("shim.delete_container", |shim| shim.containers.remove(container))?;
        if let Some(member) = member {
            lock(&self.world.state).cgroups.remove(&member.cgroup);
        }
        Ok(())
    }

    async fn shutdown(&self) -> Result<(), PortError> {
        self.world.call("shim.shutdown", self.sandbox.as_str())?;
        let ended = lock(&self.world.state).shims.remove(&self.sandbox);
        if let Some(shim) = ended {
            shim.tell(&ShimEvent::ShimGone);
            let mut state = lock(&self.world.state);
            for member in shim.containers.values() {
                state.cgroups.remove(&member.cgroup);
            }
        }
        Ok(())
    }
}
