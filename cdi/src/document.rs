//! One file: its form and what has to hold for it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{name, version};

/// Stages of hooks, as OCI names them.
pub(crate) const STAGES: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Yaml,
}

/// A file of devices.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Document {
    pub(crate) cdi_version: String,
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) devices: Vec<Device>,
    #[serde(default)]
    pub(crate) container_edits: Edits,
}

/// One device.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Device {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) container_edits: Edits,
}

/// What is changed in a container.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Edits {
    pub(crate) env: Vec<String>,
    pub(crate) device_nodes: Vec<DeviceNode>,
    pub(crate) net_devices: Vec<NetDevice>,
    pub(crate) hooks: Vec<Hook>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) intel_rdt: Option<serde_json::Value>,
    #[serde(alias = "additionalGIDs")]
    pub(crate) additional_gids: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DeviceNode {
    pub(crate) path: String,
    pub(crate) host_path: Option<String>,
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) major: Option<i64>,
    pub(crate) minor: Option<i64>,
    pub(crate) file_mode: Option<u32>,
    pub(crate) permissions: Option<String>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NetDevice {
    pub(crate) host_interface_name: String,
    #[serde(default)]
    pub(crate) name: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Hook {
    pub(crate) hook_name: String,
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) args: Vec<String>,
    #[serde(default)]
    pub(crate) env: Vec<String>,
    pub(crate) timeout: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Mount {
    pub(crate) host_path: String,
    pub(crate) container_path: String,
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    #[serde(default)]
    pub(crate) options: Vec<String>,
}

/// Reads a file and checks it.
pub(crate) fn parse(bytes: &[u8], form: Form) -> Result<Document, String> {
    let document: Document = match form {
        Form::Json => serde_json::from_slice(bytes).map_err(|error| error.to_string())?,
        Form::Yaml => serde_saphyr::from_slice(bytes).map_err(|error| error.to_string())?,
    };
    check(&document)?;
    Ok(document)
}

fn check(document: &Document) -> Result<(), String> {
    version::check(document)?;
    name::check_kind(&document.kind).map_err(|reason| format!("kind {:?}: {reason}", document.kind))?;
    if document.devices.is_empty() {
        return Err("it describes no device".to_owned());
    }
    document.container_edits.check()?;
    let mut seen = std::collections::BTreeSet::new();
    for device in &document.devices {
        let named = |reason: &dyn std::fmt::Display| format!("device {:?}: {reason}", device.name);
        name::check_device(&device.name).map_err(|reason| named(&reason))?;
        if !seen.insert(&device.name) {
            return Err(named(&"it is there twice"));
        }
        if device.container_edits == Edits::default() {
            return Err(named(&"it changes nothing in a container"));
        }
        device.container_edits.check().map_err(|reason| named(&reason))?;
    }
    Ok(())
}

impl Edits {
    fn check(&self) -> Result<(), String> {
        if let Some(variable) = self.env.iter().find(|v| v.split_once('=').is_none_or(|(name, _)| name.is_empty())) {
            return Err(format!("the environment variable {variable:?} is not NAME=value"));
        }
        self.device_nodes.iter().try_for_each(DeviceNode::check)?;
        self.hooks.iter().try_for_each(Hook::check)?;
        for mount in &self.mounts {
            absolute("the mount", &mount.container_path)?;
            if mount.host_path.is_empty() {
                return Err(format!("the mount {:?} has no hostPath", mount.container_path));
            }
        }
        match self.net_devices.iter().find(|device| device.host_interface_name.is_empty()) {
            Some(_) => Err("a network device has no hostInterfaceName".to_owned()),
            None => Ok(()),
        }
    }
}

impl DeviceNode {
    fn check(&self) -> Result<(), String> {
        absolute("the device node", &self.path)?;
        if let Some(kind) = self.kind.as_deref().filter(|kind| !["", "b", "c", "u", "p"].contains(kind)) {
            return Err(format!("the device node {:?} has the type {kind:?}; b, c, u and p are known", self.path));
        }
        let permissions = self.permissions.as_deref().unwrap_or_default();
        if permissions.chars().any(|c| !"rwm".contains(c)) {
            return Err(format!(
                "the device node {:?} has the permissions {permissions:?}; any of r, w and m are known",
                self.path
            ));
        }
        Ok(())
    }
}

impl Hook {
    fn check(&self) -> Result<(), String> {
        if !STAGES.contains(&self.hook_name.as_str()) {
            return Err(format!("the hook {:?} is of no stage; there are {}", self.hook_name, STAGES.join(", ")));
        }
        absolute("the hook", &self.path)?;
        match self.timeout {
            Some(seconds) if seconds <= 0 => Err(format!("the hook {:?} has a timeout of {seconds} s", self.path)),
            _ => Ok(()),
        }
    }
}

fn absolute(what: &str, path: &str) -> Result<(), String> {
    if path.starts_with('/') && !path.contains('\0') {
        Ok(())
    } else {
        Err(format!("{what} {path:?} is no absolute path"))
    }
}

#[cfg(test)]
mod tests;
