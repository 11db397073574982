//! What the fuzz targets call, with what must hold whatever the bytes are.

use std::path::PathBuf;

use serde_json::Value;

use super::attachment::{Attachment, POD_LINK};
use super::conflist::Conflist;
use super::{outcome, quantity};

/// A network configuration, as a list and as a single plugin.
pub fn conflist(bytes: &[u8]) {
    for name in ["10-a.conflist", "10-a.conf"] {
        let Ok(mut list) = Conflist::parse(PathBuf::from(name), bytes) else { continue };
        assert!(list.version().is_supported(), "a version that nobody speaks was taken");
        let _ = list.add_plugin(bytes);
        for plugin in &list.plugins {
            // It becomes a file's name in the directories of plugins.
            let kind = Conflist::type_of(plugin);
            assert!(!kind.is_empty() && !kind.contains('/') && kind != "..", "a plugin leaves its directory");
        }
        let _ = list.loaded();
    }
}

/// What a plugin printed: a result, or an error object.
pub fn result(bytes: &[u8]) {
    let _ = outcome::error_object(bytes);
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    if let Ok(addresses) = outcome::addresses(&value, POD_LINK) {
        assert!(!addresses.is_empty(), "a pod without address was taken for one with");
    }
}

/// A record of a pod's attachment.
pub fn attachment(bytes: &[u8]) {
    if let Ok(attachment) = serde_json::from_slice::<Attachment>(bytes) {
        let _ = attachment.network.version();
    }
}

/// The annotation of a bandwidth.
pub fn bandwidth(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = quantity::bits_per_second(text);
    }
}
