//! `NamespaceOption` to [`NamespaceModes`].

use podwright_cri_api::v1;
use podwright_podsandbox::model::{IdMapping, NamespaceMode, NamespaceModes, UserNamespace};
use podwright_types::ContainerId;

use crate::field::{self, BadField, Within as _, shown};

/// The namespaces of a sandbox. An absent message is one whose fields are all zero: everything is the pod's.
pub(crate) fn of_sandbox(options: v1::NamespaceOption) -> Result<NamespaceModes, BadField> {
    let pid = match mode("pid", options.pid)? {
        v1::NamespaceMode::Pod => NamespaceMode::Pod,
        v1::NamespaceMode::Container => NamespaceMode::Container,
        v1::NamespaceMode::Node => NamespaceMode::Node,
        v1::NamespaceMode::Target => return Err(BadField::new("pid", "TARGET is for containers, not for sandboxes")),
    };
    Ok(NamespaceModes {
        network: pod_or_node("network", options.network)?,
        pid,
        ipc: pod_or_node("ipc", options.ipc)?,
        user: options.userns_options.map(user).transpose().within("userns_options")?.flatten(),
    })
}

/// Whose process ids a container sees. The other kinds follow the sandbox.
pub(crate) fn pid_of_container(options: v1::NamespaceOption) -> Result<NamespaceMode, BadField> {
    Ok(match mode("pid", options.pid)? {
        v1::NamespaceMode::Pod => NamespaceMode::Pod,
        v1::NamespaceMode::Container => NamespaceMode::Container,
        v1::NamespaceMode::Node => NamespaceMode::Node,
        v1::NamespaceMode::Target => NamespaceMode::Target(target(&options.target_id)?),
    })
}

fn target(id: &str) -> Result<ContainerId, BadField> {
    id.parse().map_err(|cause| BadField::new("target_id", format!("{}: {cause}", shown(id))))
}

fn mode(field: &str, value: i32) -> Result<v1::NamespaceMode, BadField> {
    field::known(field, value)
}

fn pod_or_node(field: &str, value: i32) -> Result<NamespaceMode, BadField> {
    match mode(field, value)? {
        v1::NamespaceMode::Pod => Ok(NamespaceMode::Pod),
        v1::NamespaceMode::Node => Ok(NamespaceMode::Node),
        other @ (v1::NamespaceMode::Container | v1::NamespaceMode::Target) => {
            Err(BadField::new(field, format!("{} is not possible; POD and NODE are", other.as_str_name())))
        }
    }
}

fn user(options: v1::UserNamespace) -> Result<Option<UserNamespace>, BadField> {
    match mode("mode", options.mode)? {
        v1::NamespaceMode::Node if options.uids.is_empty() && options.gids.is_empty() => Ok(None),
        v1::NamespaceMode::Node => Err(BadField::new("mode", "NODE goes without mappings")),
        v1::NamespaceMode::Pod => {
            let uids = vec![only_mapping("uids", options.uids)?];
            let gids = vec![only_mapping("gids", options.gids)?];
            Ok(Some(UserNamespace { uids, gids }))
        }
        other @ (v1::NamespaceMode::Container | v1::NamespaceMode::Target) => {
            Err(BadField::new("mode", format!("{} is not possible; POD and NODE are", other.as_str_name())))
        }
    }
}

fn only_mapping(field: &str, mappings: Vec<v1::IdMapping>) -> Result<IdMapping, BadField> {
    let count = mappings.len();
    let [mapping] = <[v1::IdMapping; 1]>::try_from(mappings)
        .map_err(|_| BadField::new(field, format!("has {count} mappings; exactly one is supported")))?;
    let mapping = id_mapping(mapping).within(format_args!("{field}[0]"))?;
    if mapping.container_id != 0 {
        return Err(BadField::new(field, "does not map the id 0 of the container"));
    }
    Ok(mapping)
}

/// A range of ids that fits the range of ids.
pub(crate) fn id_mapping(mapping: v1::IdMapping) -> Result<IdMapping, BadField> {
    let v1::IdMapping { host_id, container_id, length } = mapping;
    if length == 0 {
        return Err(BadField::new("length", "is 0; a mapping has at least one id"));
    }
    if host_id.checked_add(length).is_none() || container_id.checked_add(length).is_none() {
        return Err(BadField::new("length", format!("{length} goes beyond the last id")));
    }
    Ok(IdMapping { host_id, container_id, length })
}
