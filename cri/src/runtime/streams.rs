//! Streams: Exec, Attach, PortForward. Each checks what can be checked now, and gives a URL at which the client is served.

use podwright_cri_api::v1;
use podwright_podsandbox::model::{ContainerSnapshot, ContainerState, SandboxState};
use podwright_podsandbox::session::StreamChoice;
use tonic::Status;

use super::containers::command;
use crate::field::{BadField, MAX_ITEMS};
use crate::service::Cri;
use crate::streaming::Asked;
use crate::{lookup, observe, status};

/// Executes a command with streams.
pub(super) async fn exec(cri: &Cri, request: v1::ExecRequest) -> Result<v1::ExecResponse, Status> {
    let argv = command(request.cmd)?;
    let choice = choice(request.stdin, request.stdout, request.stderr, request.tty)?;
    let container = running(cri, request.container_id)?;
    let url = url(cri, Asked::Exec { container: container.id, argv, choice })?;
    Ok(v1::ExecResponse { url })
}

/// Attaches to a container.
pub(super) async fn attach(cri: &Cri, request: v1::AttachRequest) -> Result<v1::AttachResponse, Status> {
    let choice = choice(request.stdin, request.stdout, request.stderr, request.tty)?;
    let container = running(cri, request.container_id)?;
    let url = url(cri, Asked::Attach { container: container.id, choice })?;
    Ok(v1::AttachResponse { url })
}

/// Forwards connections into a pod.
pub(super) async fn port_forward(
    cri: &Cri,
    request: v1::PortForwardRequest,
) -> Result<v1::PortForwardResponse, Status> {
    let ports = ports(&request.port)?;
    let sandbox = lookup::known_sandbox(&cri.engine, "pod_sandbox_id", request.pod_sandbox_id)?;
    match sandbox.state {
        SandboxState::Ready => {}
        SandboxState::NotReady => {
            let text = format!("forward a port of pod {}: the pod is not ready; it may have been stopped", sandbox.id);
            return Err(status::precondition(&text));
        }
    }
    let url = url(cri, Asked::Forward { sandbox: sandbox.id, ports })?;
    Ok(v1::PortForwardResponse { url })
}

fn url(cri: &Cri, asked: Asked) -> Result<String, Status> {
    cri.streaming.url(asked).map_err(|none| status::no_token(&none))
}

fn running(cri: &Cri, id: String) -> Result<ContainerSnapshot, Status> {
    let container = lookup::known_container(&cri.engine, "container_id", id)?;
    observe::note_pod(&container.sandbox);
    let is = match &container.state {
        ContainerState::Running { .. } => return Ok(container),
        ContainerState::Created => "is not started",
        ContainerState::Exited { .. } => "has ended",
        ContainerState::Unknown => "has a shim that does not answer",
    };
    Err(status::precondition(&format!("stream to container {}: it {is}; only a running one has streams", container.id)))
}

fn choice(stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Result<StreamChoice, BadField> {
    if tty && stderr {
        let problem = "is set with tty; a terminal has no error output of its own: leave one of them out";
        return Err(BadField::new("stderr", problem));
    }
    if !(stdin || stdout || stderr) {
        return Err(BadField::new("stdin, stdout, stderr", "none is set; ask for one stream at least"));
    }
    Ok(StreamChoice { stdin, stdout, stderr, tty, size: None })
}

fn ports(ports: &[i32]) -> Result<Vec<u16>, BadField> {
    if ports.len() > MAX_ITEMS {
        return Err(BadField::new("port", format!("has {} entries; at most {MAX_ITEMS} are taken", ports.len())));
    }
    let checked = ports.iter().map(|port| {
        let fits = u16::try_from(*port).ok().filter(|port| *port != 0);
        fits.ok_or_else(|| BadField::new("port", format!("{port} is no port; give 1 to 65535")))
    });
    checked.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_chosen_sensibly() {
        assert!(choice(false, true, true, true).unwrap_err().to_string().contains("stderr: is set with tty"));
        assert!(choice(false, false, false, true).unwrap_err().to_string().contains("none is set"));
        assert!(choice(true, true, false, true).unwrap().tty);
    }

    #[test]
    fn ports_are_checked() {
        assert_eq!(ports(&[80, 65535]).unwrap(), [80, 65535]);
        for bad in [0, -1, 65536] {
            assert!(ports(&[bad]).is_err(), "{bad}");
        }
    }
}
