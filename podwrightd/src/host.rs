//! What the CRI front end asks of the daemon: facts of the node, the network.

pub(crate) mod apparmor;
pub(crate) mod features;
pub(crate) mod selinux;

use async_trait::async_trait;
use podwright_cni::Networks;
use podwright_cri::{CgroupDriver, HandlersReport, Host, NetworkReport, NodeInfo};
use serde_json::Value;

use crate::config::Config;
use crate::handlers::RuntimeHandlers;
use crate::ports::whole_text;

/// The node, as this daemon sees it.
pub(crate) struct Node {
    info: NodeInfo,
    networks: Networks,
    handlers: RuntimeHandlers,
}

impl Node {
    pub(crate) fn new(
        config: &Config,
        cgroup_driver: CgroupDriver,
        networks: Networks,
        handlers: RuntimeHandlers,
        user_namespaces: bool,
    ) -> Self {
        let info = NodeInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cgroup_driver,
            // mount_setattr with AT_RECURSIVE is older than the oldest kernel we run on.
            recursive_read_only_mounts: true,
            user_namespaces,
            config: serde_json::to_value(config).unwrap_or(Value::Null),
        };
        Self { info, networks, handlers }
    }
}

#[async_trait]
impl Host for Node {
    fn info(&self) -> &NodeInfo {
        &self.info
    }

    async fn set_pod_cidrs(&self, cidrs: Vec<String>) -> Result<(), String> {
        self.networks.set_pod_cidrs(&cidrs).await.map_err(|error| whole_text(&error))
    }

    fn network_report(&self) -> NetworkReport {
        let info = self.networks.info();
        let last_load_status = info.problem.clone().unwrap_or_else(|| "OK".to_owned());
        NetworkReport { config: serde_json::to_value(&info).unwrap_or(Value::Null), last_load_status }
    }

    async fn handlers(&self) -> HandlersReport {
        self.handlers.report().await
    }
}
