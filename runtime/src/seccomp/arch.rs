//! The architectures that a process on this machine can use, and their system call tables.

use oci_spec::runtime::Arch;

/// One calling convention: how the kernel names it to a filter, and which number each system call has there.
pub(super) struct Table {
    /// `AUDIT_ARCH_*`.
    pub(super) audit: u32,
    /// What a profile calls it.
    pub(super) oci: Arch,
    /// Number of a system call by name.
    pub(super) number: fn(&str) -> Option<u32>,
    /// All names.
    pub(super) names: fn() -> Vec<&'static str>,
    /// Numbers at and above this belong to a foreign convention under the same audit name (x32).
    pub(super) foreign_from: Option<u32>,
}

macro_rules! table {
    ($module:ident, $audit:expr, $oci:expr, $foreign:expr) => {
        Table {
            audit: $audit,
            oci: $oci,
            number: |name| name.parse::<syscalls::$module::Sysno>().ok().and_then(|s| u32::try_from(s.id()).ok()),
            names: || syscalls::$module::Sysno::iter().map(|s| s.name()).collect(),
            foreign_from: $foreign,
        }
    };
}

/// The native table first, then those of the 32-bit programs that the kernel may run too.
#[cfg(target_arch = "x86_64")]
pub(super) const TABLES: &[Table] = &[
    table!(x86_64, 0xc000_003e, Arch::ScmpArchX86_64, Some(0x4000_0000)),
    table!(x86, 0x4000_0003, Arch::ScmpArchX86, None),
];

/// The native table first, then those of the 32-bit programs that the kernel may run too.
#[cfg(target_arch = "aarch64")]
pub(super) const TABLES: &[Table] =
    &[table!(aarch64, 0xc000_00b7, Arch::ScmpArchAarch64, None), table!(arm, 0x4000_0028, Arch::ScmpArchArm, None)];

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("seccomp: add the system call table of this architecture");

/// Name of this machine's architecture in a profile.
pub(super) const NATIVE_NAME: &str =
    if cfg!(target_arch = "x86_64") { "SCMP_ARCH_X86_64" } else { "SCMP_ARCH_AARCH64" };
