//! From root to what the process may be: resource limits, ids, capabilities, no_new_privs and the system call filter, in the
//! order that the kernel demands.

use std::fs::File;
use std::io::Write as _;

use oci_spec::runtime::{Capabilities, LinuxCapabilities, PosixRlimit, PosixRlimitType, Process};
use podwright_sys::Errno;
use rustix::fs::{Gid, Mode, Uid};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::error::{Failure, Step};
use crate::message::User;
use crate::seccomp::Filter;

/// Mask of a process that asks for none.
const DEFAULT_UMASK: u32 = 0o022;

/// Takes privileges away. After this nothing but the program is left.
pub(crate) fn drop_to(process: &Process, user: &User, filter: Option<&Filter>) -> Result<(), Failure> {
    let what = || "the process";
    // What the daemon lacks can not be given; a privileged container gets all that is there.
    let held = capabilities(None).step("read the capabilities of", what)?.permitted;
    let wanted = Wanted::of(process.capabilities().as_ref(), held)?;
    limit_bounding_set(wanted.bounding)?;
    set_keep_capabilities(true).step("keep the capabilities of", what)?;
    switch_user(user)?;
    let full = CapabilitySets { effective: held, permitted: held, inheritable: CapabilitySet::empty() };
    set_capabilities(None, full).step("restore the capabilities of", what)?;
    umask(Mode::from_raw_mode(process.user().umask().unwrap_or(DEFAULT_UMASK)));
    let no_new_privileges = process.no_new_privileges().unwrap_or(false);
    if no_new_privileges {
        set_no_new_privs(true).step("set no_new_privs of", what)?;
    } else {
        // Without no_new_privs a filter takes CAP_SYS_ADMIN, which goes with the next step.
        install(filter)?;
    }
    wanted.set()?;
    if no_new_privileges { install(filter) } else { Ok(()) }
}

fn install(filter: Option<&Filter>) -> Result<(), Failure> {
    filter.map_or(Ok(()), |filter| filter.install().step("install", || "the seccomp filter"))
}

fn switch_user(user: &User) -> Result<(), Failure> {
    let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    set_thread_groups(&groups).step("set the supplementary groups", || format!("{:?}", user.groups))?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    set_thread_res_gid(gid, gid, gid).step("become the group", || user.gid)?;
    set_thread_res_uid(uid, uid, uid).step("become the user", || user.uid)
}

/// The five sets, cut to what is held.
struct Wanted {
    bounding: CapabilitySet,
    effective: CapabilitySet,
    permitted: CapabilitySet,
    inheritable: CapabilitySet,
    ambient: CapabilitySet,
}

impl Wanted {
    fn of(asked: Option<&LinuxCapabilities>, held: CapabilitySet) -> Result<Self, Failure> {
        let cut = |set: &Option<Capabilities>| bits(set.as_ref()).map(|bits| bits & held);
        let Some(asked) = asked else {
            let none = CapabilitySet::empty();
            return Ok(Self { bounding: none, effective: none, permitted: none, inheritable: none, ambient: none });
        };
        let (permitted, inheritable) = (cut(asked.permitted())?, cut(asked.inheritable())?);
        Ok(Self {
            bounding: cut(asked.bounding())?,
            effective: cut(asked.effective())? & permitted,
            permitted,
            inheritable,
            ambient: cut(asked.ambient())? & permitted & inheritable,
        })
    }

    fn set(&self) -> Result<(), Failure> {
        let sets =
            CapabilitySets { effective: self.effective, permitted: self.permitted, inheritable: self.inheritable };
        set_capabilities(None, sets).step("set the capabilities of", || "the process")?;
        // A kernel without ambient capabilities has none to clear.
        let _ = clear_ambient_capability_set();
        for capability in self.ambient.iter() {
            configure_capability_in_ambient_set(capability, true)
                .step("raise the ambient capability", || name(capability))?;
        }
        Ok(())
    }
}

fn name(capability: CapabilitySet) -> String {
    capability.iter_names().next().map_or_else(|| format!("{:#x}", capability.bits()), |(name, _)| name.to_owned())
}

/// One that has no bit here is an error: left out, a list of what to keep would be right, one of what a program relies on wrong.
fn bits(set: Option<&Capabilities>) -> Result<CapabilitySet, Failure> {
    let bit = |capability: &oci_spec::runtime::Capability| {
        let name = capability.to_string();
        let unknown = || Failure::because("set the capability", &name, "podwright knows no number for it");
        CapabilitySet::from_name(&name).ok_or_else(unknown)
    };
    set.into_iter().flatten().map(bit).collect()
}

/// Drops without asking first what is there: half as many calls.
/// The bits of capabilities, as /proc shows them.
pub(crate) fn mask_of(capabilities: &Capabilities) -> Result<u64, Failure> {
    bits(Some(capabilities)).map(|set| set.bits())
}

fn limit_bounding_set(keep: CapabilitySet) -> Result<(), Failure> {
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if keep.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The first number that the kernel does not know.
            Err(Errno::INVAL) => break,
            // Who may not drop can still do without what is not there.
            Err(errno) => match capability_is_in_bounding_set(capability) {
                Ok(false) => {}
                Err(Errno::INVAL) => break,
                Ok(true) | Err(_) => return Err(Failure::errno("drop the capability", name(capability), errno)),
            },
        }
    }
    Ok(())
}

/// Sets resource limits.
pub(crate) fn set_limits(limits: &[PosixRlimit]) -> Result<(), Failure> {
    for limit in limits {
        let value = |n: u64| (n != u64::MAX).then_some(n);
        let wanted = Rlimit { current: value(limit.soft()), maximum: value(limit.hard()) };
        setrlimit(resource(limit.typ()), wanted).step("set the resource limit", || limit.typ().to_string())?;
    }
    Ok(())
}

/// Raises the hard limits that are to be higher: only root of the host may do that, not one of a user namespace.
pub(crate) fn raise_limits(limits: &[PosixRlimit]) -> Result<(), Failure> {
    for limit in limits {
        let now = getrlimit(resource(limit.typ()));
        let wanted = (limit.hard() != u64::MAX).then_some(limit.hard());
        let higher = now.maximum.is_some_and(|now| wanted.is_none_or(|wanted| wanted > now));
        if higher {
            let raised = Rlimit { current: now.current, maximum: wanted };
            setrlimit(resource(limit.typ()), raised).step("raise the resource limit", || limit.typ().to_string())?;
        }
    }
    Ok(())
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}

/// Writes `oom_score_adj`, in the host's mount namespace. A value that the daemon itself may not give is told, not an error:
/// without CAP_SYS_RESOURCE no process can lower its own.
pub(crate) fn set_oom_score(value: i32) -> Result<Option<String>, Failure> {
    let path = "/proc/self/oom_score_adj";
    let written =
        File::options().write(true).open(path).and_then(|mut file| file.write_all(value.to_string().as_bytes()));
    let Err(error) = written else { return Ok(None) };
    let current: Option<i32> = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
    let refused = matches!(Errno::from_io_error(&error), Some(Errno::ACCESS | Errno::PERM));
    match current {
        Some(current) if refused && value < current => {
            Ok(Some(format!("oom_score_adj stays {current}: {value} needs CAP_SYS_RESOURCE, which the daemon lacks")))
        }
        _ => Err(Failure::io("set oom_score_adj to", value, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_of_the_specification_has_a_bit() {
        use oci_spec::runtime::Capability;
        for capability in [
            Capability::AuditControl,
            Capability::AuditRead,
            Capability::AuditWrite,
            Capability::BlockSuspend,
            Capability::Bpf,
            Capability::CheckpointRestore,
            Capability::Chown,
            Capability::DacOverride,
            Capability::DacReadSearch,
            Capability::Fowner,
            Capability::Fsetid,
            Capability::IpcLock,
            Capability::IpcOwner,
            Capability::Kill,
            Capability::Lease,
            Capability::LinuxImmutable,
            Capability::MacAdmin,
            Capability::MacOverride,
            Capability::Mknod,
            Capability::NetAdmin,
            Capability::NetBindService,
            Capability::NetBroadcast,
            Capability::NetRaw,
            Capability::Perfmon,
            Capability::Setfcap,
            Capability::Setgid,
            Capability::Setpcap,
            Capability::Setuid,
            Capability::SysAdmin,
            Capability::SysBoot,
            Capability::SysChroot,
            Capability::SysModule,
            Capability::SysNice,
            Capability::SysPacct,
            Capability::SysPtrace,
            Capability::SysRawio,
            Capability::SysResource,
            Capability::SysTime,
            Capability::SysTtyConfig,
            Capability::Syslog,
            Capability::WakeAlarm,
        ] {
            assert!(!bits(Some(&[capability].into_iter().collect())).unwrap().is_empty(), "{capability} has no bit");
        }
    }
}
