//! `ImageService`.

mod local;
mod pull;

use podwright_cri_api::v1;
use podwright_cri_api::v1::image_service_server::ImageService;
use tonic::{Request, Response, Status};

use crate::observe::{About, Weight, rpc};
use crate::service::Cri;

/// The image that a request names.
fn named(spec: Option<&v1::ImageSpec>) -> About<'_> {
    About { image: spec.map_or("", |spec| &spec.image), ..About::default() }
}

#[tonic::async_trait]
impl ImageService for Cri {
    type StreamImagesStream = crate::chunks::Messages<v1::StreamImagesResponse>;

    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        let work = async { local::list(self, request.into_inner()) };
        rpc("ListImages", Weight::Polling, About::default(), work).await
    }

    async fn stream_images(
        &self,
        request: Request<v1::StreamImagesRequest>,
    ) -> Result<Response<Self::StreamImagesStream>, Status> {
        let work = async { local::stream(self, request.into_inner()) };
        rpc("StreamImages", Weight::Polling, About::default(), work).await
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Result<Response<v1::ImageStatusResponse>, Status> {
        let spec = request.get_ref().image.clone();
        let work = async { local::status(self, request.into_inner()) };
        rpc("ImageStatus", Weight::Polling, named(spec.as_ref()), work).await
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Result<Response<v1::PullImageResponse>, Status> {
        let spec = request.get_ref().image.clone();
        rpc("PullImage", Weight::Acting, named(spec.as_ref()), pull::pull(self, request.into_inner())).await
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Result<Response<v1::RemoveImageResponse>, Status> {
        let spec = request.get_ref().image.clone();
        rpc("RemoveImage", Weight::Acting, named(spec.as_ref()), local::remove(self, request.into_inner())).await
    }

    async fn image_fs_info(
        &self,
        _request: Request<v1::ImageFsInfoRequest>,
    ) -> Result<Response<v1::ImageFsInfoResponse>, Status> {
        rpc("ImageFsInfo", Weight::Polling, About::default(), local::fs_info(self)).await
    }
}
