//! What is on this host: ListImages, ImageStatus, RemoveImage, ImageFsInfo.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use podwright_cri_api::v1;
use podwright_imageservice::ImageInfo;
use tonic::Status;

use crate::chunks::{self, Messages};
use crate::field::{self, BadField, Within as _};
use crate::service::Cri;
use crate::{answer, status};

/// The reference or id that a request names.
pub(super) fn reference(spec: Option<v1::ImageSpec>) -> Result<String, BadField> {
    let spec = field::required("image", spec)?;
    field::name("image", spec.image).within("image")
}

/// Lists images; a filter without a name lists all.
pub(super) fn list(cri: &Cri, request: v1::ListImagesRequest) -> Result<v1::ListImagesResponse, Status> {
    let images = found(cri, request.filter)?.iter().map(answer::image).collect();
    chunks::whole(v1::ListImagesResponse { images }, "StreamImages")
}

/// Lists images in as many messages as it takes.
pub(super) fn stream(
    cri: &Cri,
    request: v1::StreamImagesRequest,
) -> Result<Messages<v1::StreamImagesResponse>, Status> {
    let items = found(cri, request.filter)?.into_iter().map(|image| answer::image(&image));
    Ok(chunks::stream(items, |images| v1::StreamImagesResponse { images }))
}

fn found(cri: &Cri, filter: Option<v1::ImageFilter>) -> Result<Vec<ImageInfo>, BadField> {
    let named = filter.and_then(|filter| filter.image).map(|spec| spec.image).unwrap_or_default();
    let named = field::line("filter.image.image", named, field::MAX_NAME_BYTES)?;
    Ok(cri.images.list(Some(named.as_str()).filter(|name| !name.is_empty())))
}

/// Describes an image; an absent one is no error.
pub(super) fn status(cri: &Cri, request: v1::ImageStatusRequest) -> Result<v1::ImageStatusResponse, Status> {
    let reference = reference(request.image)?;
    let Some(image) = cri.images.status(&reference) else { return Ok(v1::ImageStatusResponse::default()) };
    let info = if request.verbose { answer::image_info(&image) } else { Default::default() };
    Ok(v1::ImageStatusResponse { image: Some(answer::image(&image)), info })
}

/// Removes an image with all its names; an absent one is no error. A caller that hangs up does not stop it half-way.
pub(super) async fn remove(cri: &Cri, request: v1::RemoveImageRequest) -> Result<v1::RemoveImageResponse, Status> {
    let reference = reference(request.image)?;
    let images = cri.images.clone();
    let removal = tokio::spawn(async move { images.remove(&reference).await });
    let result = removal.await.map_err(|cause| status::lost("remove image", &cause))?;
    result.map_err(|error| status::from_image(&error))?;
    Ok(v1::RemoveImageResponse {})
}

/// Usage of images and of writable layers.
pub(super) async fn fs_info(cri: &Cri) -> Result<v1::ImageFsInfoResponse, Status> {
    let images = cri.images.fs_info();
    let written = cri.engine.layers_usage().await;
    Ok(v1::ImageFsInfoResponse {
        image_filesystems: vec![usage(&images.path, images.used_bytes, images.inodes_used)],
        container_filesystems: vec![usage(&written.directory, written.bytes, written.inodes)],
    })
}

fn usage(path: &Path, bytes: u64, inodes: u64) -> v1::FilesystemUsage {
    v1::FilesystemUsage {
        timestamp: now_nanos(),
        fs_id: Some(v1::FilesystemIdentifier { mountpoint: path.to_string_lossy().into_owned() }),
        used_bytes: Some(v1::UInt64Value { value: bytes }),
        inodes_used: Some(v1::UInt64Value { value: inodes }),
    }
}

/// Nanoseconds since the epoch.
fn now_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
