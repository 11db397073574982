//! PullImage.

use podwright_cri_api::v1;
use podwright_imageservice::Auth;
use tonic::Status;

use super::local::reference;
use crate::field::{self, BadField, MAX_ARGUMENT_BYTES, MAX_NAME_BYTES, Within as _};
use crate::service::Cri;
use crate::status;

/// Pulls an image. A caller that hangs up ends the pull; the store cleans up after it, and other pulls of the same layers
/// go on.
pub(super) async fn pull(cri: &Cri, request: v1::PullImageRequest) -> Result<v1::PullImageResponse, Status> {
    let reference = reference(request.image)?;
    let auth = request.auth.map(auth).transpose().within("auth")?;
    let namespace = request.sandbox_config.and_then(|config| config.metadata).unwrap_or_default().namespace;
    let namespace = field::line("namespace", namespace, MAX_NAME_BYTES).within("sandbox_config.metadata")?;
    let pulled = cri.images.pull_for(&namespace, &reference, auth, None).await;
    let pulled = pulled.map_err(|error| status::from_image(&error))?;
    tracing::info!(id = %pulled.id, reference = pulled.reference, "pulled");
    Ok(v1::PullImageResponse { image_ref: pulled.id.to_string() })
}

/// Credentials. Errors never show them.
fn auth(auth: v1::AuthConfig) -> Result<Auth, BadField> {
    let secret = |field: &str, value: String| {
        if value.len() > MAX_ARGUMENT_BYTES {
            return Err(BadField::new(field, format!("is longer than {MAX_ARGUMENT_BYTES} bytes")));
        }
        Ok(value)
    };
    Ok(Auth {
        username: secret("username", auth.username)?,
        password: secret("password", auth.password)?,
        auth: secret("auth", auth.auth)?,
        server_address: field::line("server_address", auth.server_address, MAX_NAME_BYTES)?,
        identity_token: secret("identity_token", auth.identity_token)?,
        registry_token: secret("registry_token", auth.registry_token)?,
    })
}
