//! From the model to messages: what the runtime tells.

mod config_json;
mod container;
mod image;
mod info;
mod resources;
mod sandbox;
mod stats;

pub(crate) use container::{container_item, container_status};
pub(crate) use image::{image, image_info};
pub(crate) use info::{container_info, sandbox_info};
pub(crate) use sandbox::{sandbox_item, sandbox_status};
pub(crate) use stats::{container_stats, sandbox_stats};

use podwright_cri_api::v1;
use podwright_podsandbox::model::{IdMapping, NamespaceMode};

/// The mode of a namespace.
pub(crate) fn namespace_mode(mode: &NamespaceMode) -> v1::NamespaceMode {
    match mode {
        NamespaceMode::Pod => v1::NamespaceMode::Pod,
        NamespaceMode::Container => v1::NamespaceMode::Container,
        NamespaceMode::Node => v1::NamespaceMode::Node,
        NamespaceMode::Target(_) => v1::NamespaceMode::Target,
    }
}

/// Mappings of ids.
pub(crate) fn id_mappings(mappings: &[IdMapping]) -> Vec<v1::IdMapping> {
    let convert = |m: &IdMapping| v1::IdMapping { host_id: m.host_id, container_id: m.container_id, length: m.length };
    mappings.iter().map(convert).collect()
}

#[cfg(test)]
mod tests;
