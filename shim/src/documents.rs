//! The OCI documents that come with requests, read as far as a shim heeds them.
//!
//! oci-spec can read them itself, but then everything that it can read is in every shim: the parts for other systems, and a
//! library of regular expressions for the one field `execCPUAffinity`. That is a fifth of the program.

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::runtime::{
    Box as Cells, Hooks, Linux, LinuxCapabilities, LinuxIOPriority, Mount, PosixRlimit, Process, Root, Scheduler, Spec,
    User,
};
use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny};

/// A container.
#[derive(Debug)]
pub(crate) struct SpecDocument(pub(crate) Spec);

/// A process in a container.
#[derive(Debug)]
pub(crate) struct ProcessDocument(pub(crate) Process);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpecFields {
    /// Only told to hooks.
    oci_version: Option<String>,
    annotations: Option<HashMap<String, String>>,
    root: Option<Root>,
    mounts: Option<Vec<Mount>>,
    process: Option<ProcessDocument>,
    hostname: Option<String>,
    domainname: Option<String>,
    hooks: Option<Hooks>,
    linux: Option<Linux>,
}

impl<'de> Deserialize<'de> for SpecDocument {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = SpecFields::deserialize(deserializer)?;
        let mut spec = Spec::default();
        spec.set_root(read.root)
            .set_mounts(read.mounts)
            .set_process(read.process.map(|process| process.0))
            .set_hostname(read.hostname)
            .set_domainname(read.domainname)
            .set_hooks(read.hooks)
            .set_annotations(read.annotations)
            .set_linux(read.linux);
        if let Some(version) = read.oci_version {
            spec.set_version(version);
        }
        Ok(Self(spec))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProcessFields {
    terminal: Option<bool>,
    console_size: Option<Cells>,
    user: User,
    args: Option<Vec<String>>,
    env: Option<Vec<String>>,
    cwd: PathBuf,
    capabilities: Option<LinuxCapabilities>,
    rlimits: Option<Vec<PosixRlimit>>,
    no_new_privileges: Option<bool>,
    apparmor_profile: Option<String>,
    oom_score_adj: Option<i32>,
    selinux_label: Option<String>,
    io_priority: Option<LinuxIOPriority>,
    scheduler: Option<Scheduler>,
    #[serde(rename = "execCPUAffinity")]
    exec_cpu_affinity: Option<IgnoredAny>,
}

impl<'de> Deserialize<'de> for ProcessDocument {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = ProcessFields::deserialize(deserializer)?;
        if read.exec_cpu_affinity.is_some() {
            return Err(D::Error::custom("process.execCPUAffinity is not supported; leave it out"));
        }
        let mut process = Process::default();
        process
            .set_terminal(read.terminal)
            .set_console_size(read.console_size)
            .set_user(read.user)
            .set_args(read.args)
            .set_env(read.env)
            .set_cwd(read.cwd)
            .set_capabilities(read.capabilities)
            .set_rlimits(read.rlimits)
            .set_no_new_privileges(read.no_new_privileges)
            .set_apparmor_profile(read.apparmor_profile)
            .set_oom_score_adj(read.oom_score_adj)
            .set_selinux_label(read.selinux_label)
            .set_io_priority(read.io_priority)
            .set_scheduler(read.scheduler);
        Ok(Self(process))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn process() -> Value {
        json!({
            "terminal": true,
            "consoleSize": {"width": 80, "height": 24},
            "user": {"uid": 1, "gid": 2, "additionalGids": [3], "umask": 18, "username": "me"},
            "args": ["a", "b"],
            "env": ["A=b"],
            "cwd": "/there",
            "capabilities": {"bounding": ["CAP_CHOWN"], "effective": [], "permitted": ["CAP_CHOWN"]},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 5, "soft": 4}],
            "noNewPrivileges": true,
            "apparmorProfile": "profile",
            "oomScoreAdj": -5,
            "selinuxLabel": "label",
            "ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": 1},
            "scheduler": {"policy": "SCHED_FIFO", "priority": 3},
        })
    }

    #[test]
    fn whatever_is_heeded_is_read_as_oci_spec_reads_it() {
        let read: ProcessDocument = serde_json::from_value(process()).unwrap();
        assert_eq!(read.0, serde_json::from_value(process()).unwrap());
        let spec = json!({
            "ociVersion": Spec::default().version(),
            "root": {"path": "rootfs", "readonly": true},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": ["ro"]}],
            "process": process(),
            "hostname": "host",
            "domainname": "domain",
            "hooks": {"poststop": [{"path": "/hook"}]},
            "linux": {
                "namespaces": [{"type": "pid"}], "maskedPaths": ["/a"], "readonlyPaths": ["/b"], "sysctl": {"a": "b"},
                "resources": {"memory": {"limit": 5}, "unified": {"a": "b"}}, "cgroupsPath": "/c",
                "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}, "timeOffsets": {"monotonic": {"secs": 1}},
            },
        });
        let read: SpecDocument = serde_json::from_value(spec.clone()).unwrap();
        assert_eq!(read.0, serde_json::from_value(spec).unwrap());
    }

    #[test]
    fn little_is_enough_and_nothing_is_made_up() {
        let little = json!({"user": {"uid": 0, "gid": 0}, "cwd": "/"});
        let read: ProcessDocument = serde_json::from_value(little.clone()).unwrap();
        assert_eq!(read.0, serde_json::from_value(little).unwrap());
        let read: SpecDocument = serde_json::from_value(json!({"ociVersion": Spec::default().version()})).unwrap();
        assert!(read.0.process().is_none() && read.0.linux().is_none() && read.0.mounts().is_none());
        assert!(read.0.root().is_none() && read.0.annotations().is_none() && read.0.hooks().is_none());
        assert!(serde_json::from_value::<ProcessDocument>(json!({"cwd": "/"})).is_err());
    }

    #[test]
    fn what_would_not_be_done_is_refused() {
        let mut asked = process();
        asked["execCPUAffinity"] = json!({"initial": "0-1"});
        let error = serde_json::from_value::<ProcessDocument>(asked).unwrap_err().to_string();
        assert!(error.contains("execCPUAffinity is not supported"), "{error}");
    }
}
