//! Fuzz targets: one for each parser of bytes from outside.
//!
//! Owns their list and their corpus (`corpus/<target>/`, few and small files that are replayed by this crate's tests). What must
//! hold is written beside each parser, in the `fuzzing` module of its crate. `cargo xtask fuzz` runs them under libFuzzer.

#![forbid(unsafe_code)]

mod log;
mod wire;

use podwright_types::ImageReference;

/// One target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, which is that of its corpus.
    pub name: &'static str,
    /// Takes any bytes, and panics if something is wrong.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("reference", reference),
    target("manifest", podwright_imageservice::fuzzing::manifest),
    target("image_config", podwright_imageservice::fuzzing::image_config),
    target("hosts_toml", podwright_imageservice::fuzzing::hosts_toml),
    target("encrypted_layer", podwright_imageservice::fuzzing::encrypted_layer),
    target("registries_conf", podwright_imageservice::fuzzing::registries_conf),
    target("challenge", podwright_imageservice::fuzzing::challenge),
    target("docker_config", podwright_imageservice::fuzzing::docker_config),
    target("layer", podwright_imageservice::fuzzing::layer),
    target("policy_json", podwright_imagetrust::fuzzing::policy),
    target("registries_d", podwright_imagetrust::fuzzing::registries_d),
    target("signature_payload", podwright_imagetrust::fuzzing::signature_payload),
    target("openpgp_message", podwright_imagetrust::fuzzing::openpgp_message),
    target("rekor_bundle", podwright_imagetrust::fuzzing::rekor_bundle),
    target("users", podwright_runtime::fuzzing::users),
    target("seccomp_profile", podwright_runtime::fuzzing::seccomp_profile),
    target("specification", podwright_runtime::fuzzing::specification),
    target("runtime_pid_file", podwright_runtime::fuzzing::pid_file),
    target("runtime_log", podwright_runtime::fuzzing::runtime_log),
    target("runtime_features", podwright_handlers::fuzz_features),
    target("handler_drop_in", podwright_handlers::fuzz_drop_in),
    target("conflist", podwright_cni::fuzzing::conflist),
    target("cni_result", podwright_cni::fuzzing::result),
    target("cni_attachment", podwright_cni::fuzzing::attachment),
    target("bandwidth", podwright_cni::fuzzing::bandwidth),
    target("record", podwright_podsandbox::fuzzing::record),
    target("record_body", podwright_podsandbox::fuzzing::record_body),
    target("spdy", podwright_cri::fuzzing::spdy),
    target("websocket_channel", podwright_cri::fuzzing::channel),
    target("terminal_size", podwright_cri::fuzzing::size),
    target("log_lines", log::log_lines),
    target("ttrpc_frames", podwright_ttrpc::fuzzing::frames),
    target("nri_answers", podwright_nri::fuzzing::answers),
    target("cdi_file", podwright_cdi::fuzzing::document),
    target("shim_request", wire::request),
    target("shim_packet", wire::packet),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<Target> {
    TARGETS.iter().find(|target| target.name == name).copied()
}

/// An image reference: its canonical form is the canonical form of itself.
fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(parsed) = text.parse::<ImageReference>() else { return };
    let canonical = parsed.canonical();
    let again = canonical.parse::<ImageReference>().map(|again| again.canonical());
    assert_eq!(again.as_deref(), Ok(canonical.as_str()), "the canonical form is not stable");
    assert!(!parsed.path().contains("..") && !parsed.domain().contains('/'), "a name could lead elsewhere");
}
