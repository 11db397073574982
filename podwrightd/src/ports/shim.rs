//! [`Shim`] over a connection: every call converted, sent, its answer converted.

mod convert;

use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;

use async_trait::async_trait;
use podwright_podsandbox::ports::{
    CgroupPlacement, CreatePod, ExecRequest, GivenFds, PodCreated, PortError, Shim, ShimState, StartContainer,
    StartFailure, Started,
};
use podwright_podsandbox::session::TerminalSize;
use podwright_shim_api as api;
use podwright_shim_api::client::{Client, ClientError, StreamFds};
use podwright_types::{ContainerId, ExecId};

use super::{CgroupDriver, failed_with, whole_text};
pub(super) use convert::event;

/// A shim with a connection to it.
pub(super) struct ConnectedShim {
    client: Client,
    driver: CgroupDriver,
}

impl ConnectedShim {
    pub(super) fn new(client: Client, driver: CgroupDriver) -> Self {
        Self { client, driver }
    }

    fn has(&self, feature: &str) -> bool {
        self.client.hello().features.iter().any(|known| known == feature)
    }

    /// Puts a process that waits where it belongs.
    async fn place(&self, to: Option<&CgroupPlacement>, pid: i32, spec: Option<&str>) -> Result<(), String> {
        match to {
            Some(to) => self.driver.place(&to.path, pid, spec).await.map_err(|error| error.to_string()),
            None => api::client::no_placing(pid).await,
        }
    }
}

/// The engine's sort of a failed call.
pub(super) fn client_error(doing: &str, error: &ClientError) -> PortError {
    let text = format!("{doing}: {}", whole_text(error));
    match error {
        ClientError::Refused { failure } => refused(failure, text),
        ClientError::Gone { .. } => PortError::Unavailable(text),
        ClientError::TimedOut { .. } => PortError::TimedOut(text),
        ClientError::Io { source, .. } => failed_with(source.raw_os_error(), text),
        ClientError::Protocol { .. } => PortError::Failed(text),
    }
}

fn refused(failure: &api::Failure, text: String) -> PortError {
    match failure.kind() {
        api::FailureKind::NotFound => PortError::NotFound(text),
        api::FailureKind::Invalid => PortError::Invalid(text),
        api::FailureKind::TimedOut => PortError::TimedOut(text),
        api::FailureKind::ProgramNotFound => PortError::Start(StartFailure::ProgramNotFound, text),
        api::FailureKind::ProgramNotExecutable => PortError::Start(StartFailure::ProgramNotExecutable, text),
        api::FailureKind::Setup => match podwright_sys::exhaustion_remedy(failure.errno) {
            // A start that failed so ends as every other; only the answer differs.
            Some(remedy) => PortError::Exhausted(format!("{text}; {remedy}")),
            None => PortError::Start(StartFailure::Setup, text),
        },
        api::FailureKind::Busy => PortError::Unavailable(text),
        api::FailureKind::Exhausted => PortError::Exhausted(text),
        api::FailureKind::Unsupported | api::FailureKind::Other => failed_with(Some(failure.errno), text),
    }
}

#[async_trait]
impl Shim for ConnectedShim {
    fn pid(&self) -> i32 {
        self.client.hello().pid
    }

    async fn state(&self) -> Result<ShimState, PortError> {
        let (state, netns) = self.client.state().await.map_err(|e| client_error("ask the shim for its state", &e))?;
        convert::state(state, netns).map_err(PortError::Failed)
    }

    async fn create_pod(&self, request: &CreatePod) -> Result<PodCreated, PortError> {
        let netns = request.netns.as_ref().map(|netns| netns.as_fd());
        if netns.is_some() && !self.has(api::GIVEN_NETNS) {
            let text = "the shim is older than podwrightd; install both of one release and start podwrightd again";
            return Err(PortError::Failed(text.to_owned()));
        }
        let place = |pid| self.place(request.pause_cgroup.as_ref(), pid, None);
        let created = self.client.create_pod(convert::create_pod(request), netns, place).await;
        let (created, netns) = created.map_err(|e| client_error("make the pod's namespaces", &e))?;
        Ok(convert::pod_created(&created, netns))
    }

    async fn start_container(&self, request: &StartContainer) -> Result<Started, PortError> {
        if request.restore.is_some() && !self.has(api::RESTORE) {
            let text = "the pod's shim can not bring processes back, as it is older than podwrightd; make the pod anew";
            return Err(PortError::Failed(text.to_owned()));
        }
        if request.handler.is_some() && !self.has(api::OTHER_RUNTIMES) {
            let text = "the shim is older than podwrightd and knows no runtime handlers; make the pod anew";
            return Err(PortError::Failed(text.to_owned()));
        }
        let place = |pid| self.place(Some(&request.cgroup), pid, Some(&request.spec));
        let started = self.client.start_container(convert::start_container(request), &request.spec, place).await;
        Ok(convert::started(started.map_err(|e| client_error("start the container", &e))?))
    }

    async fn exec(&self, request: ExecRequest) -> Result<i32, PortError> {
        let call = api::Exec {
            container: request.container.to_string(),
            exec: request.exec.to_string(),
            seccomp: Some(convert::seccomp(&request.seccomp)),
            ..api::Exec::default()
        };
        self.client.exec(call, &request.process, streams(request.fds)).await.map_err(|e| client_error("execute", &e))
    }

    async fn signal_container(&self, container: &ContainerId, signal: i32, all: bool) -> Result<(), PortError> {
        let sent = self.client.signal_container(container.as_str(), signal, all).await;
        sent.map_err(|e| client_error(&format!("send signal {signal} to container {container}"), &e))
    }

    async fn kill_exec(&self, container: &ContainerId, exec: &ExecId) -> Result<(), PortError> {
        let killed = self.client.kill_exec(container.as_str(), exec.as_str()).await;
        killed.map_err(|e| client_error(&format!("kill exec {exec} of container {container}"), &e))
    }

    async fn attach(&self, container: &ContainerId, fds: GivenFds) -> Result<(), PortError> {
        let attached = self.client.attach(container.as_str(), streams(fds)).await;
        attached.map_err(|e| client_error(&format!("attach to container {container}"), &e))
    }

    async fn resize(
        &self,
        container: &ContainerId,
        exec: Option<&ExecId>,
        size: TerminalSize,
    ) -> Result<(), PortError> {
        let call = api::Resize {
            container: container.to_string(),
            exec: exec.map(ToString::to_string).unwrap_or_default(),
            size: Some(api::TerminalSize { columns: size.columns.into(), rows: size.rows.into() }),
        };
        let resized = self.client.resize(call).await;
        resized.map_err(|e| client_error(&format!("resize a terminal of container {container}"), &e))
    }

    async fn update_container(&self, container: &ContainerId, resources: &str) -> Result<(), PortError> {
        let updated = self.client.update_container(container.as_str(), resources).await;
        updated.map_err(|e| client_error(&format!("update container {container}"), &e))?;
        self.driver.limits_changed(container, resources).await
    }

    async fn reopen_log(&self, container: &ContainerId) -> Result<(), PortError> {
        let reopened = self.client.reopen_log(container.as_str()).await;
        reopened.map_err(|e| client_error(&format!("open the log of container {container} anew"), &e))
    }

    async fn delete_container(&self, container: &ContainerId) -> Result<(), PortError> {
        let deleted = self.client.delete_container(container.as_str()).await;
        deleted.map_err(|e| client_error(&format!("delete container {container} in the shim"), &e))
    }

    async fn shutdown(&self) -> Result<(), PortError> {
        self.client.shutdown().await.map_err(|e| client_error("end the shim", &e))
    }
}

fn streams(fds: GivenFds) -> StreamFds {
    StreamFds { stdin: fds.stdin, stdout: fds.stdout, stderr: fds.stderr }
}

/// A path as bytes, for the wire.
fn path_bytes(path: &std::path::Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_of_the_shim_is_told_as_one() {
        let of = |kind| refused(&api::Failure::new(kind, "execute in", "c", "too many"), "why".to_owned());
        assert!(matches!(of(api::FailureKind::Exhausted), PortError::Exhausted(text) if text == "why"));
        assert!(matches!(of(api::FailureKind::Busy), PortError::Unavailable(text) if text == "why"));
    }
}
