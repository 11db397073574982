//! Our own RuntimeDefault profile: every system call that this build knows, less those that reach beyond a container.
//!
//! It is written as what is held back and why, so that a reader can judge it. A system call newer than our tables gets ENOSYS
//! (see `compile`). A capability that was granted opens the calls that it is for.

use std::collections::BTreeSet;

use oci_spec::runtime::{
    Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator, LinuxSyscall,
};

use super::SeccompError;
use super::arch::TABLES;

/// Calls held back unless one of the capabilities is granted.
const UNLESS: &[(&[Capability], &[&str])] = &[
    (
        &[Capability::SysAdmin],
        &[
            // Mounts and namespaces.
            "mount",
            "umount",
            "umount2",
            "pivot_root",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "move_mount",
            "open_tree",
            "open_tree_attr",
            "mount_setattr",
            "setns",
            "unshare",
            // The host's settings and its kernel's inner life.
            "sethostname",
            "setdomainname",
            "swapon",
            "swapoff",
            "quotactl",
            "quotactl_fd",
            "fanotify_init",
            "lookup_dcookie",
        ],
    ),
    (&[Capability::SysAdmin, Capability::Bpf], &["bpf"]),
    (&[Capability::SysAdmin, Capability::Perfmon], &["perf_event_open"]),
    (&[Capability::SysAdmin, Capability::Syslog], &["syslog"]),
    (&[Capability::SysModule], &["init_module", "finit_module", "delete_module", "create_module", "query_module"]),
    (&[Capability::SysBoot], &["reboot", "kexec_load", "kexec_file_load"]),
    (&[Capability::SysPacct], &["acct"]),
    (&[Capability::SysTime], &["settimeofday", "stime", "clock_settime", "clock_settime64"]),
    (&[Capability::SysRawio], &["iopl", "ioperm"]),
    (&[Capability::SysChroot], &["chroot"]),
    (&[Capability::SysTtyConfig], &["vhangup"]),
    (&[Capability::SysPtrace], &["kcmp"]),
    (&[Capability::DacReadSearch], &["open_by_handle_at"]),
    (
        &[Capability::SysNice],
        &["get_mempolicy", "set_mempolicy", "set_mempolicy_home_node", "mbind", "move_pages", "migrate_pages"],
    ),
];

/// Calls held back always.
const NEVER: &[&str] = &[
    // Keyrings have no namespaces: a container would see the node's.
    "keyctl",
    "add_key",
    "request_key",
    // Large attack surfaces that few programs need; those that do bring a profile of their own.
    "userfaultfd",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    // 16-bit and virtual-8086 mode.
    "vm86",
    "vm86old",
    // Obsolete, or never implemented.
    "_sysctl",
    "sysfs",
    "uselib",
    "ustat",
    "nfsservctl",
    "afs_syscall",
    "getpmsg",
    "putpmsg",
    "tuxcall",
    "vserver",
    "security",
    "get_kernel_syms",
    "bdflush",
];

/// Calls with rules of their own below.
const CONDITIONAL: &[&str] = &["clone", "clone3", "personality", "socket"];

/// `CLONE_NEW*`, which `clone` gets in its first argument.
const CLONE_NEW_NAMESPACES: u64 = 0x7e02_0000 | 0x80;

/// Execution domains that do not weaken the process: Linux, 32-bit uname, `UNAME26`, both, and the query.
const PERSONALITIES: &[u64] = &[0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// The profile for a process with these capabilities in its bounding set.
///
/// # Errors
/// Only if `oci-spec` refuses to build what it defines.
pub fn runtime_default(capabilities: &Capabilities) -> Result<LinuxSeccomp, SeccompError> {
    let admin = capabilities.contains(&Capability::SysAdmin);
    let mut syscalls = vec![allow(plain_names(capabilities), vec![])];
    if admin {
        syscalls.push(allow(names(&["clone", "clone3"]), vec![]));
    } else {
        let no_namespaces = argument(0, LinuxSeccompOperator::ScmpCmpMaskedEq, CLONE_NEW_NAMESPACES)?;
        syscalls.push(allow(names(&["clone"]), vec![no_namespaces]));
        // Its flags lie in memory, where a filter does not see them; after ENOSYS, C libraries use clone.
        syscalls.push(entry(
            names(&["clone3"]),
            vec![],
            LinuxSeccompAction::ScmpActErrno,
            Some(libc::ENOSYS.unsigned_abs()),
        ));
    }
    for &value in PERSONALITIES {
        syscalls.push(allow(names(&["personality"]), vec![argument(0, LinuxSeccompOperator::ScmpCmpEq, value)?]));
    }
    // AF_VSOCK reaches the hypervisor, AF_ALG the kernel's cryptography; every other family is open.
    for (operator, value) in [
        (LinuxSeccompOperator::ScmpCmpLt, AF_ALG),
        (LinuxSeccompOperator::ScmpCmpEq, AF_ALG + 1),
        (LinuxSeccompOperator::ScmpCmpGt, AF_VSOCK),
    ] {
        syscalls.push(allow(names(&["socket"]), vec![argument(0, operator, value)?]));
    }
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(libc::EPERM.unsigned_abs()))
        .set_architectures(Some(TABLES.iter().map(|table| table.oci).collect()))
        .set_syscalls(Some(syscalls));
    Ok(profile)
}

fn plain_names(capabilities: &Capabilities) -> Vec<String> {
    let mut allowed: BTreeSet<&str> = TABLES.iter().flat_map(|table| (table.names)()).collect();
    for name in NEVER.iter().chain(CONDITIONAL) {
        allowed.remove(name);
    }
    for (openers, held_back) in UNLESS {
        if !openers.iter().any(|capability| capabilities.contains(capability)) {
            held_back.iter().for_each(|name| {
                allowed.remove(name);
            });
        }
    }
    allowed.into_iter().map(str::to_owned).collect()
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|&name| name.to_owned()).collect()
}

/// With `ScmpCmpMaskedEq`, `value` is the mask and the masked argument must be 0.
fn argument(index: usize, op: LinuxSeccompOperator, value: u64) -> Result<LinuxSeccompArg, SeccompError> {
    Ok(LinuxSeccompArgBuilder::default().index(index).op(op).value(value).value_two(0u64).build()?)
}

fn allow(names: Vec<String>, arguments: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    entry(names, arguments, LinuxSeccompAction::ScmpActAllow, None)
}

fn entry(
    names: Vec<String>,
    arguments: Vec<LinuxSeccompArg>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
) -> LinuxSyscall {
    let mut entry = LinuxSyscall::default();
    entry.set_names(names).set_action(action).set_errno_ret(errno_ret);
    entry.set_args((!arguments.is_empty()).then_some(arguments));
    entry
}
