//! What a kubelet says of a pod and its containers, read without its types.

use serde_json::{Value, json};

/// A pod as `/pods` has it.
#[derive(Debug, Clone)]
pub(crate) struct PodStatus(pub(crate) Value);

/// The status of a container.
#[derive(Debug, Clone)]
pub(crate) struct Status(pub(crate) Value);

impl PodStatus {
    /// Whether it runs and all its containers are ready.
    pub(crate) fn is_ready(&self) -> bool {
        let conditions = self.0["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|one| one["type"] == json!("Ready") && one["status"] == json!("True"))
    }

    /// `Pending`, `Running`, `Succeeded`, `Failed`.
    pub(crate) fn phase(&self) -> &str {
        self.0["status"]["phase"].as_str().unwrap_or_default()
    }

    /// Its first address.
    pub(crate) fn ip(&self) -> String {
        self.0["status"]["podIP"].as_str().unwrap_or_default().to_owned()
    }

    /// Its uid.
    pub(crate) fn uid(&self) -> String {
        self.0["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
    }

    /// A container's status; empty if there is none yet.
    pub(crate) fn container(&self, name: &str) -> Status {
        let all = ["initContainerStatuses", "containerStatuses"].map(|key| self.0["status"][key].as_array().cloned());
        let found = all.into_iter().flatten().flatten().find(|status| status["name"] == json!(name));
        Status(found.unwrap_or_default())
    }

    /// Each container with its id and how often it was restarted.
    pub(crate) fn lives(&self) -> Vec<(String, u64)> {
        let all = ["initContainerStatuses", "containerStatuses"].map(|key| self.0["status"][key].as_array().cloned());
        let all = all.into_iter().flatten().flatten().map(Status);
        all.map(|status| (status.id().unwrap_or_default(), status.restarts())).collect()
    }
}

impl Status {
    /// The runtime's id.
    pub(crate) fn id(&self) -> Option<String> {
        self.0["containerID"].as_str()?.split_once("://").map(|(_, id)| id.to_owned())
    }

    /// How often it was restarted.
    pub(crate) fn restarts(&self) -> u64 {
        self.0["restartCount"].as_u64().unwrap_or_default()
    }

    /// Whether it runs.
    pub(crate) fn is_running(&self) -> bool {
        self.0["state"]["running"].is_object()
    }

    /// How it ended, or ended the last time.
    pub(crate) fn ended(&self) -> Option<Value> {
        [&self.0["state"]["terminated"], &self.0["lastState"]["terminated"]]
            .into_iter()
            .find(|end| end.is_object())
            .cloned()
    }

    /// Why it waits.
    pub(crate) fn waits(&self) -> &str {
        self.0["state"]["waiting"]["reason"].as_str().unwrap_or_default()
    }
}
