//! Connections to ports inside of a pod.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::Sandbox;
use crate::error::EngineError;
use crate::ladder::Climb;

/// Longest wait for a connection; it leads to this host, so it is quick or it hangs.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Connects to a port on the loopback of a pod.
pub(crate) async fn connect(sandbox: Arc<Sandbox>, port: u16) -> Result<TcpStream, EngineError> {
    let what = format!("connect to port {port} of {}", sandbox.describe());
    let late = |_| Err(EngineError::TimedOut(format!("no answer within {} s", CONNECT_LIMIT.as_secs())));
    let connected = tokio::time::timeout(CONNECT_LIMIT, reach(&sandbox, port)).await;
    connected.unwrap_or_else(late).map_err(|e| e.within(what))
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
