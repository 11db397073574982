//! What must hold of files of devices.

use oci_spec::runtime::Spec;

use crate::apply;
use crate::document::{self, Form};

/// A file that can be read names its devices, and what it says of them can be applied or is an error.
///
/// # Panics
/// It is not so.
pub fn document(bytes: &[u8]) {
    for form in [Form::Json, Form::Yaml] {
        let Ok(document) = document::parse(bytes, form) else { continue };
        assert!(document.kind.contains('/'), "the kind {:?} has no class", document.kind);
        let edits = document.devices.iter().map(|device| &device.container_edits);
        for edits in edits.chain([&document.container_edits]) {
            // What the file asks for may not be on this machine.
            let _ = apply::apply(edits, &mut Spec::default());
        }
    }
}
