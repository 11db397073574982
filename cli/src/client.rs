//! Asking the daemon, with errors that say what to do.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use podwright_admin_api::SOCKET;
use podwright_admin_api::v1::admin_client::AdminClient;
use podwright_admin_api::v1::{
    CheckRequest, CheckResponse, Pod, VerifyImagesRequest, VerifyImagesResponse, VersionRequest, VersionResponse,
    WhyRequest,
};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// Longer than the daemon takes at most: for a check, its look at the host and that at the network.
const LIMIT: Duration = Duration::from_secs(60);

/// For reading all images, and fetching what is damaged.
const VERIFY_LIMIT: Duration = Duration::from_secs(6 * 3600);

async fn connect(state: &Path) -> Result<AdminClient<Channel>> {
    connect_for(state, LIMIT).await
}

async fn connect_for(state: &Path, limit: Duration) -> Result<AdminClient<Channel>> {
    let socket = state.join(SOCKET);
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))
        .with_context(|| format!("{} can not be the path of a socket", socket.display()))?
        .timeout(limit);
    let channel = endpoint.connect().await.map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        anyhow!("no podwrightd answers on {}: {cause}; start it, or name its --state directory", socket.display())
    })?;
    Ok(AdminClient::new(channel))
}

/// Which daemon answers.
pub(crate) async fn version(state: &Path) -> Result<VersionResponse> {
    Ok(connect(state).await?.version(VersionRequest {}).await.map_err(told)?.into_inner())
}

/// The pods of this name.
pub(crate) async fn why(state: &Path, pod: &str) -> Result<Vec<Pod>> {
    let request = WhyRequest { pod: pod.to_owned() };
    Ok(connect(state).await?.why(request).await.map_err(told)?.into_inner().pods)
}

/// What belongs to no record.
pub(crate) async fn leftovers(state: &Path, repair: bool) -> Result<CheckResponse> {
    Ok(connect(state).await?.check(CheckRequest { repair }).await.map_err(told)?.into_inner())
}

/// What is damaged in the image store.
pub(crate) async fn verify_images(state: &Path, repair: bool) -> Result<VerifyImagesResponse> {
    let request = VerifyImagesRequest { repair };
    let mut client = connect_for(state, VERIFY_LIMIT).await?;
    Ok(client.verify_images(request).await.map_err(told)?.into_inner())
}

/// The daemon's own words; its code says no more to a person.
#[allow(clippy::needless_pass_by_value)] // For map_err.
fn told(status: Status) -> anyhow::Error {
    anyhow!("{}", status.message())
}
