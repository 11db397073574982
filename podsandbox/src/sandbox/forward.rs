//! Connections to ports inside of a pod.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::Sandbox;
use crate::error::EngineError;
use crate::ladder::Climb;

/// Longest wait for a connection; it leads to this host, so it is quick or it hangs.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// A connection into a pod. Its socket keeps the pod's network namespace, so whoever holds it lets go when the pod ends.
#[derive(Debug)]
pub struct PodConnection {
    /// The bytes.
    pub stream: TcpStream,
    /// Tells when to let go.
    pub pod: PodEnd,
}

/// Tells that a pod has ended.
pub struct PodEnd(Arc<Sandbox>);

impl PodEnd {
    /// Returns when the pod is not ready any more. Cancel safe.
    pub async fn ended(&self) {
        self.0.until_not_ready().await;
    }
}

impl std::fmt::Debug for PodEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PodEnd").field(&self.0.id).finish()
    }
}

/// Connects to a port on the loopback of a pod.
pub(crate) async fn connect(sandbox: Arc<Sandbox>, port: u16) -> Result<PodConnection, EngineError> {
    let what = format!("connect to port {port} of {}", sandbox.describe());
    let late = |_| Err(EngineError::TimedOut(format!("no answer within {} s", CONNECT_LIMIT.as_secs())));
    let connected = tokio::time::timeout(CONNECT_LIMIT, reach(&sandbox, port)).await;
    let stream = connected.unwrap_or_else(late).map_err(|e| e.within(what))?;
    Ok(PodConnection { stream, pod: PodEnd(sandbox) })
}

async fn reach(sandbox: &Sandbox, port: u16) -> Result<TcpStream, EngineError> {
    let shim = sandbox.ready_shim("reach its shim")?;
    let mut netns = None;
    if !sandbox.host_network() {
        let pod = shim.state().await?.pod;
        let found = pod.and_then(|pod| pod.netns);
        let absent = || EngineError::Unavailable("its network namespace is gone; make a new sandbox".into());
        netns = Some(found.ok_or_else(absent)?);
    }
    Ok(sandbox.shared.ports.network.connect(netns, port).await?)
}
