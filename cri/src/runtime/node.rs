//! The runtime itself: Version, Status, RuntimeConfig, UpdateRuntimeConfig.

use std::collections::BTreeMap;

use podwright_cri_api::v1;
use serde_json::json;
use tonic::Status;

use crate::field::{self, BadField, MAX_NAME_BYTES};
use crate::host::{CgroupDriver, HandlersReport};
use crate::service::Cri;
use crate::status;

/// Version of the kubelet's side of the API; it has not changed since the API exists.
const KUBELET_API_VERSION: &str = "0.1.0";
/// Version of the package that we speak.
const API_VERSION: &str = "v1";
/// Our name.
const RUNTIME_NAME: &str = "podwright";
/// Most networks in one pod CIDR list; there are two families.
const MAX_CIDRS: usize = 2;

/// Names and versions; a kubelet wants all four.
pub(super) async fn version(cri: &Cri) -> Result<v1::VersionResponse, Status> {
    Ok(v1::VersionResponse {
        version: KUBELET_API_VERSION.to_owned(),
        runtime_name: RUNTIME_NAME.to_owned(),
        runtime_version: cri.host.info().version.clone(),
        runtime_api_version: API_VERSION.to_owned(),
    })
}

/// Conditions, handlers and features.
pub(super) async fn status(cri: &Cri, request: &v1::StatusRequest) -> Result<v1::StatusResponse, Status> {
    let report = cri.host.handlers().await;
    Ok(v1::StatusResponse {
        status: Some(v1::RuntimeStatus { conditions: vec![runtime_condition(), network_condition(cri)] }),
        info: if request.verbose { info(cri, &report) } else { BTreeMap::new() },
        runtime_handlers: handlers(cri, &report),
        features: Some(v1::RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: cri.host.info().user_namespaces,
            mount_options: false,
        }),
    })
}

/// We answer, and we do so only after recovery: that is being ready.
fn runtime_condition() -> v1::RuntimeCondition {
    v1::RuntimeCondition { r#type: "RuntimeReady".to_owned(), status: true, ..Default::default() }
}

fn network_condition(cri: &Cri) -> v1::RuntimeCondition {
    let ready = cri.engine.network_ready();
    v1::RuntimeCondition {
        r#type: "NetworkReady".to_owned(),
        status: ready.is_ok(),
        reason: if ready.is_ok() { String::new() } else { "NetworkPluginNotReady".to_owned() },
        message: ready.err().unwrap_or_default(),
    }
}

/// Ours first, then the others by name.
fn handlers(cri: &Cri, report: &HandlersReport) -> Vec<v1::RuntimeHandler> {
    let others = report.handlers.iter().map(|handler| v1::RuntimeHandler {
        name: handler.name.clone(),
        features: Some(v1::RuntimeHandlerFeatures {
            recursive_read_only_mounts: handler.recursive_read_only_mounts,
            user_namespaces: handler.user_namespaces,
        }),
    });
    std::iter::once(default_handler(cri)).chain(others).collect()
}

/// The handler without a name: kubelet looks for it before it makes pods with user namespaces.
fn default_handler(cri: &Cri) -> v1::RuntimeHandler {
    let info = cri.host.info();
    v1::RuntimeHandler {
        name: String::new(),
        features: Some(v1::RuntimeHandlerFeatures {
            recursive_read_only_mounts: info.recursive_read_only_mounts,
            user_namespaces: info.user_namespaces,
        }),
    }
}

fn info(cri: &Cri, handlers: &HandlersReport) -> BTreeMap<String, String> {
    let network = cri.host.network_report();
    let text = |key: &str, value: String| (key.to_owned(), value);
    BTreeMap::from([
        text("config", cri.host.info().config.to_string()),
        text("cniconfig", network.config.to_string()),
        text("lastCNILoadStatus", json!(network.last_load_status).to_string()),
        text("brokenRuntimeHandlers", json!(handlers.problems).to_string()),
    ])
}

/// The cgroup driver, which a kubelet takes over.
pub(super) async fn runtime_config(cri: &Cri) -> Result<v1::RuntimeConfigResponse, Status> {
    let driver = match cri.host.info().cgroup_driver {
        CgroupDriver::Cgroupfs => v1::CgroupDriver::Cgroupfs,
        CgroupDriver::Systemd => v1::CgroupDriver::Systemd,
    };
    Ok(v1::RuntimeConfigResponse { linux: Some(v1::LinuxRuntimeConfiguration { cgroup_driver: driver.into() }) })
}

/// Takes the addresses for pods over.
pub(super) async fn update_runtime_config(
    cri: &Cri,
    request: v1::UpdateRuntimeConfigRequest,
) -> Result<v1::UpdateRuntimeConfigResponse, Status> {
    let config = field::required("runtime_config", request.runtime_config)?;
    let cidrs = pod_cidrs(config.network_config.unwrap_or_default().pod_cidr)?;
    cri.host.set_pod_cidrs(cidrs).await.map_err(|cause| status::network_refused(&cause))?;
    Ok(v1::UpdateRuntimeConfigResponse {})
}

fn pod_cidrs(list: String) -> Result<Vec<String>, BadField> {
    let field = "runtime_config.network_config.pod_cidr";
    let list = field::line(field, list, MAX_NAME_BYTES)?;
    let cidrs: Vec<String> = list.split(',').map(str::trim).filter(|c| !c.is_empty()).map(str::to_owned).collect();
    if cidrs.len() > MAX_CIDRS {
        return Err(BadField::new(field, format!("has {} networks; one for each family is possible", cidrs.len())));
    }
    Ok(cidrs)
}
