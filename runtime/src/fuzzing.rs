//! Entry points of the fuzz targets, with what must hold whatever the bytes are. Only with the feature `fuzzing`.

use oci_spec::runtime::{Capabilities, Capability};

use crate::seccomp;

/// A user's name, a NUL, the passwd file, a NUL, the group file.
pub fn users(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    let name = parts.next().and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
    let (passwd, group) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    crate::user::fuzz(name, passwd, group);
}

/// A seccomp profile, read and compiled.
pub fn seccomp_profile(bytes: &[u8]) {
    let capabilities = Capabilities::from_iter([Capability::Chown, Capability::SysAdmin]);
    let Ok(profile) = seccomp::parse_profile(bytes, &capabilities, "6.1.0-9-amd64") else { return };
    if let Ok(filter) = seccomp::compile(&profile) {
        assert!(filter.instruction_count() <= 4096, "the kernel would refuse the filter");
    }
}

/// A container's specification: as another runtime gets it, it has nothing that only ours knows.
pub fn specification(bytes: &[u8]) {
    crate::other::fuzz_specification(bytes);
}

/// What another runtime wrote into a pid file.
pub fn pid_file(bytes: &[u8]) {
    if let Some(pid) = crate::other::parse_pid(bytes) {
        assert!(pid.as_raw_pid() > 1, "nobody, or the host's init, was taken for a container");
    }
}

/// What another runtime wrote into its log.
pub fn runtime_log(bytes: &[u8]) {
    crate::other::fuzz_log(bytes);
}
