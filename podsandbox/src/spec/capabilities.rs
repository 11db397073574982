//! The capability sets of a process.

use std::collections::HashSet;

use oci_spec::runtime::{Capability, LinuxCapabilities};

use crate::error::EngineError;
use crate::model::SecurityConfig;

/// What a container has that asks for nothing: the 14 that containerd and Docker give.
const DEFAULT: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// All that the kernel knows, in the order of their numbers.
const ALL: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// The sets of a container.
pub(super) fn capabilities(security: &SecurityConfig) -> Result<LinuxCapabilities, EngineError> {
    let (bounding, ambient) = if security.privileged {
        (held_by_daemon(), HashSet::new())
    } else {
        let changes = &security.capabilities;
        let ambient = named(&changes.ambient)?;
        let mut bounding = changed(&changes.add, &changes.drop)?;
        bounding.extend(&ambient);
        (bounding, ambient)
    };
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(bounding.clone()))
        .set_effective(Some(bounding.clone()))
        .set_permitted(Some(bounding))
        .set_inheritable(Some(ambient.clone()))
        .set_ambient(Some(ambient));
    Ok(sets)
}

/// `ALL` in either list stands first; then what is named is added or taken away.
fn changed(add: &[String], drop: &[String]) -> Result<HashSet<Capability>, EngineError> {
    let mut set: HashSet<Capability> = DEFAULT.into_iter().collect();
    if has_all(add) {
        set = held_by_daemon();
    }
    if has_all(drop) {
        set.clear();
    }
    set.extend(named(add)?);
    for capability in named(drop)? {
        set.remove(&capability);
    }
    Ok(set)
}

fn has_all(names: &[String]) -> bool {
    names.iter().any(|name| is_all(name))
}

fn is_all(name: &str) -> bool {
    name.eq_ignore_ascii_case("all")
}

fn named(names: &[String]) -> Result<HashSet<Capability>, EngineError> {
    names.iter().filter(|name| !is_all(name)).map(|name| parse(name)).collect()
}

fn parse(name: &str) -> Result<Capability, EngineError> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    ALL.into_iter().find(|capability| capability.to_string() == short).ok_or_else(|| {
        EngineError::Invalid(format!("capability {name:?}: the kernel knows none of this name; see capabilities(7)"))
    })
}

/// The daemon can not give what it does not have.
fn held_by_daemon() -> HashSet<Capability> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let held = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).map(str::trim);
    let mask = held.and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(u64::MAX);
    (0..).zip(ALL).filter(|(bit, _)| mask & (1u64 << bit) != 0).map(|(_, capability)| capability).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn names_have_many_forms() {
        for name in ["NET_ADMIN", "cap_net_admin", "CAP_NET_ADMIN", "Net_Admin"] {
            assert_eq!(parse(name).unwrap(), Capability::NetAdmin);
        }
        assert!(parse("CAP_FLY").is_err());
    }

    #[test]
    fn drop_all_then_add_leaves_what_was_added() {
        let set = changed(&strings(&["CHOWN"]), &strings(&["ALL"])).unwrap();
        assert_eq!(set, HashSet::from([Capability::Chown]));
    }

    #[test]
    fn add_all_then_drop_lacks_what_was_dropped() {
        let set = changed(&strings(&["ALL"]), &strings(&["CHOWN"])).unwrap();
        assert!(!set.contains(&Capability::Chown) && set.contains(&Capability::SysAdmin));
    }

    #[test]
    fn every_number_has_its_name() {
        for (number, name) in
            [(0, "CHOWN"), (12, "NET_ADMIN"), (21, "SYS_ADMIN"), (27, "MKNOD"), (40, "CHECKPOINT_RESTORE")]
        {
            assert_eq!(ALL[number].to_string(), name);
        }
    }

    #[test]
    fn ambient_ones_are_permitted_too() {
        let mut security = SecurityConfig::default();
        security.capabilities.ambient = strings(&["NET_ADMIN"]);
        let sets = capabilities(&security).unwrap();
        for set in [sets.ambient(), sets.inheritable(), sets.permitted(), sets.bounding(), sets.effective()] {
            assert!(set.as_ref().unwrap().contains(&Capability::NetAdmin));
        }
    }
}
