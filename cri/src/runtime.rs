//! `RuntimeService`: each RPC in its span, handed to the module that serves it.

mod checkpoints;
mod containers;
mod events;
mod node;
mod sandboxes;
mod stats;
mod streams;

use podwright_cri_api::v1;
use podwright_cri_api::v1::runtime_service_server::RuntimeService;
use tonic::{Request, Response, Status};

use crate::chunks::Messages;
use crate::later::not_yet;
use crate::observe::{About, Weight, rpc};
use crate::service::Cri;

#[tonic::async_trait]
impl RuntimeService for Cri {
    type StreamPodSandboxesStream = Messages<v1::StreamPodSandboxesResponse>;
    type StreamContainersStream = Messages<v1::StreamContainersResponse>;
    type StreamContainerStatsStream = Messages<v1::StreamContainerStatsResponse>;
    type StreamPodSandboxStatsStream = Messages<v1::StreamPodSandboxStatsResponse>;
    type StreamPodSandboxMetricsStream = Messages<v1::StreamPodSandboxMetricsResponse>;
    type GetContainerEventsStream = Messages<v1::ContainerEventResponse>;

    async fn version(&self, _request: Request<v1::VersionRequest>) -> Result<Response<v1::VersionResponse>, Status> {
        rpc("Version", Weight::Polling, About::default(), node::version(self)).await
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        let request = request.into_inner();
        rpc("Status", Weight::Polling, About::default(), node::status(self, &request)).await
    }

    async fn runtime_config(
        &self,
        _request: Request<v1::RuntimeConfigRequest>,
    ) -> Result<Response<v1::RuntimeConfigResponse>, Status> {
        rpc("RuntimeConfig", Weight::Polling, About::default(), node::runtime_config(self)).await
    }

    async fn update_runtime_config(
        &self,
        request: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Result<Response<v1::UpdateRuntimeConfigResponse>, Status> {
        let request = request.into_inner();
        rpc("UpdateRuntimeConfig", Weight::Acting, About::default(), node::update_runtime_config(self, request)).await
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Result<Response<v1::RunPodSandboxResponse>, Status> {
        let request = request.into_inner();
        rpc("RunPodSandbox", Weight::Acting, About::default(), sandboxes::run(self, request)).await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Result<Response<v1::StopPodSandboxResponse>, Status> {
        let request = request.into_inner();
        let id = request.pod_sandbox_id.clone();
        rpc("StopPodSandbox", Weight::Acting, About { pod: &id, ..About::default() }, sandboxes::stop(self, request))
            .await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Result<Response<v1::RemovePodSandboxResponse>, Status> {
        let request = request.into_inner();
        let id = request.pod_sandbox_id.clone();
        rpc(
            "RemovePodSandbox",
            Weight::Acting,
            About { pod: &id, ..About::default() },
            sandboxes::remove(self, request),
        )
        .await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Result<Response<v1::PodSandboxStatusResponse>, Status> {
        let request = request.into_inner();
        let id = request.pod_sandbox_id.clone();
        rpc(
            "PodSandboxStatus",
            Weight::Polling,
            About { pod: &id, ..About::default() },
            sandboxes::status(self, request),
        )
        .await
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Result<Response<v1::ListPodSandboxResponse>, Status> {
        let request = request.into_inner();
        rpc("ListPodSandbox", Weight::Polling, About::default(), sandboxes::list(self, request)).await
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<v1::UpdatePodSandboxResourcesRequest>,
    ) -> Result<Response<v1::UpdatePodSandboxResourcesResponse>, Status> {
        let request = request.into_inner();
        let id = request.pod_sandbox_id.clone();
        rpc(
            "UpdatePodSandboxResources",
            Weight::Acting,
            About { pod: &id, ..About::default() },
            sandboxes::update_resources(self, request),
        )
        .await
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Result<Response<v1::CreateContainerResponse>, Status> {
        let request = request.into_inner();
        let id = request.pod_sandbox_id.clone();
        rpc(
            "CreateContainer",
            Weight::Acting,
            About { pod: &id, ..About::default() },
            containers::create(self, request),
        )
        .await
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Result<Response<v1::StartContainerResponse>, Status> {
        let request = request.into_inner();
        let id = request.container_id.clone();
        rpc(
            "StartContainer",
            Weight::Acting,
            About { container: &id, ..About::default() },
            containers::start(self, request),
        )
        .await
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Result<Response<v1::StopContainerResponse>, Status> {
        let request = request.into_inner();
        let id = request.container_id.clone();
        rpc(
            "StopContainer",
            Weight::Acting,
            About { container: &id, ..About::default() },
            containers::stop(self, request),
        )
        .await
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Result<Response<v1::RemoveContainerResponse>, Status> {
        let request = request.into_inner();
        let id = request.container_id.clone();
        rpc(
            "RemoveContainer",
            Weight::Acting,
            About { container: &id, ..About::default() },
            containers::remove(self, request),
        )
        .await
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Result<Response<v1::ListContainersResponse>, Status> {
        let request = request.into_inner();
        rpc("ListContainers", Weight::Polling, About::default(), containers::list(self, request)).await
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Result<Response<v1::ContainerStatusResponse>, Status> {
        let request = request.into_inner();
        let id = request.container_id.clone();
        rpc(
            "ContainerStatus",
            Weight::Polling,
            About { container: &id, ..About::default() },
            containers::status(self, request),
        )
        .await
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Result<Response<v1::UpdateContainerResourcesResponse>, Status> {
        let request = request.into_inner();
        let id = request.container_id.clone();
        rpc(
            "UpdateContainerResources",
            Weight::Acting,
            About { container: &id, ..About::default() },
            containers::update_resources(self, request),
        )
        .await
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Result<Response<v1::ReopenContainerLogResponse>, Status> {
        let request = request.into_inner();
        let id = request.container_id.clone();
        rpc(
            "ReopenContainerLog",
            Weight::Acting,
            About { container: &id, ..About::default() },
            containers::reopen_log(self, request),
        )
        .await
    }

    async fn exec_sync(&self, request: Request<v1::ExecSyncRequest>) -> Result<Response<v1::ExecSyncResponse>, Status> {
        let request = request.into_inner();
        let id = request.container_id.clone();
        rpc(
            "ExecSync",
            Weight::Acting,
            About { container: &id, ..About::default() },
            containers::exec_sync(self, request),
        )
        .await
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Result<Response<v1::ExecResponse>, Status> {
        let request = request.into_inner();
        let id = request.container_id.clone();
        rpc("Exec", Weight::Acting, About { container: &id, ..About::default() }, streams::exec(self, request)).await
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Result<Response<v1::AttachResponse>, Status> {
        let request = request.into_inner();
        let id = request.container_id.clone();
        rpc("Attach", Weight::Acting, About { container: &id, ..About::default() }, streams::attach(self, request))
            .await
    }

    async fn port_forward(
        &self,
        request: Request<v1::PortForwardRequest>,
    ) -> Result<Response<v1::PortForwardResponse>, Status> {
        let request = request.into_inner();
        let id = request.pod_sandbox_id.clone();
        rpc("PortForward", Weight::Acting, About { pod: &id, ..About::default() }, streams::port_forward(self, request))
            .await
    }

    async fn container_stats(
        &self,
        request: Request<v1::ContainerStatsRequest>,
    ) -> Result<Response<v1::ContainerStatsResponse>, Status> {
        let request = request.into_inner();
        let id = request.container_id.clone();
        rpc(
            "ContainerStats",
            Weight::Polling,
            About { container: &id, ..About::default() },
            stats::container(self, request),
        )
        .await
    }

    async fn list_container_stats(
        &self,
        request: Request<v1::ListContainerStatsRequest>,
    ) -> Result<Response<v1::ListContainerStatsResponse>, Status> {
        let request = request.into_inner();
        rpc("ListContainerStats", Weight::Polling, About::default(), stats::list_containers(self, request)).await
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<v1::PodSandboxStatsRequest>,
    ) -> Result<Response<v1::PodSandboxStatsResponse>, Status> {
        let request = request.into_inner();
        let id = request.pod_sandbox_id.clone();
        rpc("PodSandboxStats", Weight::Polling, About { pod: &id, ..About::default() }, stats::sandbox(self, request))
            .await
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Result<Response<v1::ListPodSandboxStatsResponse>, Status> {
        let request = request.into_inner();
        rpc("ListPodSandboxStats", Weight::Polling, About::default(), stats::list_sandboxes(self, request)).await
    }

    async fn checkpoint_container(
        &self,
        request: Request<v1::CheckpointContainerRequest>,
    ) -> Result<Response<v1::CheckpointContainerResponse>, Status> {
        let request = request.into_inner();
        let id = request.container_id.clone();
        rpc(
            "CheckpointContainer",
            Weight::Acting,
            About { container: &id, ..About::default() },
            checkpoints::container(self, request),
        )
        .await
    }

    async fn checkpoint_pod(
        &self,
        _request: Request<v1::CheckpointPodRequest>,
    ) -> Result<Response<v1::CheckpointPodResponse>, Status> {
        rpc("CheckpointPod", Weight::Polling, About::default(), not_yet("CheckpointPod")).await
    }

    async fn restore_pod(
        &self,
        _request: Request<v1::RestorePodRequest>,
    ) -> Result<Response<v1::RestorePodResponse>, Status> {
        rpc("RestorePod", Weight::Polling, About::default(), not_yet("RestorePod")).await
    }

    async fn list_metric_descriptors(
        &self,
        _request: Request<v1::ListMetricDescriptorsRequest>,
    ) -> Result<Response<v1::ListMetricDescriptorsResponse>, Status> {
        rpc("ListMetricDescriptors", Weight::Polling, About::default(), stats::descriptors()).await
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _request: Request<v1::ListPodSandboxMetricsRequest>,
    ) -> Result<Response<v1::ListPodSandboxMetricsResponse>, Status> {
        rpc("ListPodSandboxMetrics", Weight::Polling, About::default(), stats::list_metrics(self)).await
    }

    async fn stream_pod_sandboxes(
        &self,
        request: Request<v1::StreamPodSandboxesRequest>,
    ) -> Result<Response<Self::StreamPodSandboxesStream>, Status> {
        let work = async { sandboxes::stream(self, request.into_inner()) };
        rpc("StreamPodSandboxes", Weight::Polling, About::default(), work).await
    }

    async fn stream_containers(
        &self,
        request: Request<v1::StreamContainersRequest>,
    ) -> Result<Response<Self::StreamContainersStream>, Status> {
        let work = async { containers::stream(self, request.into_inner()) };
        rpc("StreamContainers", Weight::Polling, About::default(), work).await
    }

    async fn stream_container_stats(
        &self,
        request: Request<v1::StreamContainerStatsRequest>,
    ) -> Result<Response<Self::StreamContainerStatsStream>, Status> {
        let request = request.into_inner();
        rpc("StreamContainerStats", Weight::Polling, About::default(), stats::stream_containers(self, request)).await
    }

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<v1::StreamPodSandboxStatsRequest>,
    ) -> Result<Response<Self::StreamPodSandboxStatsStream>, Status> {
        let request = request.into_inner();
        rpc("StreamPodSandboxStats", Weight::Polling, About::default(), stats::stream_sandboxes(self, request)).await
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        _request: Request<v1::StreamPodSandboxMetricsRequest>,
    ) -> Result<Response<Self::StreamPodSandboxMetricsStream>, Status> {
        rpc("StreamPodSandboxMetrics", Weight::Polling, About::default(), stats::stream_metrics(self)).await
    }

    async fn get_container_events(
        &self,
        _request: Request<v1::GetEventsRequest>,
    ) -> Result<Response<Self::GetContainerEventsStream>, Status> {
        rpc("GetContainerEvents", Weight::Polling, About::default(), async { Ok(events::follow(self)) }).await
    }
}
