//! What a process in a container must not be able to do.

use podwright_runtime::SeccompChoice;
use serde_json::json;

use crate::fixture::{Fixture, Pid, finish, follow, streams};
use crate::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("root_capabilities_are_as_asked", capabilities_are_as_asked),
    ("root_what_the_daemon_lacks_is_skipped", what_the_daemon_lacks_is_skipped),
    ("root_no_new_privileges", no_new_privileges),
    ("root_devices_are_denied_by_the_cgroup", devices_are_denied_by_the_cgroup),
    ("root_the_default_filter_applies", the_default_filter_applies),
    ("root_a_filter_of_the_specification_applies", a_filter_of_the_specification_applies),
    ("root_a_profile_of_the_host_applies", a_profile_of_the_host_applies),
    ("root_what_the_host_lacks_is_an_error", what_the_host_lacks_is_an_error),
    ("root_sysctls_of_own_namespaces_only", sysctls_of_own_namespaces_only),
    ("root_limits_hold", limits_hold),
    ("root_host_pids_can_be_shared", host_pids_can_be_shared),
    ("root_the_null_device_of_the_host_can_not_be_changed", the_null_device_of_the_host_can_not_be_changed),
];

fn status(fixture: &mut Fixture, key: &str) -> u64 {
    let line = fixture.out(&format!("grep ^{key}: /proc/self/status"));
    u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
}

fn capabilities_are_as_asked() {
    let mut fixture = Fixture::new();
    let default = status(&mut fixture, "CapEff");
    assert_eq!(default, 0xa804_25fb, "{default:x}");
    assert_eq!(status(&mut fixture, "CapBnd"), default);
    assert_eq!(status(&mut fixture, "CapInh"), 0);
    fixture.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    assert_eq!(status(&mut fixture, "CapEff"), 0);
    let ambient = json!(["CAP_NET_BIND_SERVICE"]);
    for set in ["inheritable", "ambient"] {
        fixture.spec["process"]["capabilities"][set] = ambient.clone();
    }
    assert_eq!(status(&mut fixture, "CapEff"), 1 << 10);
    assert_eq!(status(&mut fixture, "CapAmb"), 1 << 10);
}

fn what_the_daemon_lacks_is_skipped() {
    let mut fixture = Fixture::new();
    let all = json!(["CAP_SYS_RESOURCE", "CAP_SYS_ADMIN", "CAP_CHOWN"]);
    for set in ["bounding", "effective", "permitted"] {
        fixture.spec["process"]["capabilities"][set] = all.clone();
    }
    let own = rustix::thread::capabilities(None).unwrap().permitted.bits();
    assert_eq!(status(&mut fixture, "CapEff"), (1 << 24 | 1 << 21 | 1) & own);
}

fn no_new_privileges() {
    let mut fixture = Fixture::new();
    assert_eq!(status(&mut fixture, "NoNewPrivs"), 0);
    fixture.spec["process"]["noNewPrivileges"] = json!(true);
    assert_eq!(status(&mut fixture, "NoNewPrivs"), 1);
    fixture.seccomp = SeccompChoice::RuntimeDefault;
    assert_eq!(status(&mut fixture, "Seccomp"), 2);
}

fn devices_are_denied_by_the_cgroup() {
    let mut fixture = Fixture::new();
    let cgroup = fixture.with_cgroup("devices");
    let resources = json!({"devices": [{"allow": false, "access": "rwm"}]});
    cgroup.apply(&serde_json::from_value(resources).unwrap()).unwrap();
    fixture.spec["linux"]["devices"] = json!([{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]);
    fixture.out("echo x > /dev/null");
    let outcome = fixture.sh("cat < /dev/kmsg");
    assert!(outcome.code != 0 && outcome.output.contains("Operation not permitted"), "{outcome:?}");
    let sleeper = fixture.sleeper();
    assert_eq!(cgroup.processes().unwrap(), [sleeper.0.pid()]);
}

fn the_default_filter_applies() {
    let mut fixture = Fixture::new();
    // With the capability for it, so that only the filter can be what refuses.
    fixture.out("unshare -U true || true");
    fixture.seccomp = SeccompChoice::RuntimeDefault;
    assert_eq!(status(&mut fixture, "Seccomp"), 2);
    let outcome = fixture.sh("unshare -U true");
    assert!(outcome.code != 0 && outcome.output.contains("not permitted"), "{outcome:?}");
    fixture.out("ls / > /dev/null; (sleep 0 & wait); id; ps; ip -o link");
}

fn a_filter_of_the_specification_applies() {
    let mut fixture = Fixture::new();
    fixture.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [{"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
    });
    let outcome = fixture.sh("mkdir /x");
    assert!(outcome.output.contains("No space left"), "{outcome:?}");
}

fn a_profile_of_the_host_applies() {
    let mut fixture = Fixture::new();
    let path = fixture.top.path().join("profile.json");
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["chdir"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        ],
    });
    std::fs::write(&path, profile.to_string()).unwrap();
    fixture.seccomp = SeccompChoice::Profile(path.clone());
    assert_ne!(fixture.sh("mkdir /x").code, 0);
    fixture.out("cd /bin");
    std::fs::write(&path, "{").unwrap();
    assert!(fixture.run().unwrap_err().text.contains("profile.json"));
    fixture.seccomp = SeccompChoice::Profile("/no/such/profile".into());
    assert!(fixture.run().unwrap_err().text.contains("/no/such/profile"));
}

fn what_the_host_lacks_is_an_error() {
    let mut fixture = Fixture::new();
    if !std::path::Path::new("/sys/module/apparmor").exists() {
        fixture.spec["process"]["apparmorProfile"] = json!("some-profile");
        assert!(fixture.run().unwrap_err().text.contains("AppArmor"));
        fixture.spec["process"]["apparmorProfile"] = json!("unconfined");
        fixture.run().unwrap();
    }
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        fixture.spec["process"]["selinuxLabel"] = json!("a:b:c:d");
        assert!(fixture.run().unwrap_err().text.contains("SELinux"));
    }
}

fn sysctls_of_own_namespaces_only() {
    let mut fixture = Fixture::new();
    let before = std::fs::read_to_string("/proc/sys/kernel/msgmax").unwrap();
    fixture.spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "4242"});
    assert_eq!(before, std::fs::read_to_string("/proc/sys/kernel/msgmax").unwrap());
    // They are written before the namespaces are made only if that is so; read inside.
    assert_eq!(fixture.out("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax"), "1\n4242");
    assert_eq!(before, std::fs::read_to_string("/proc/sys/kernel/msgmax").unwrap());
    fixture.spec["linux"]["sysctl"] = json!({"kernel.core_pattern": "x"});
    assert!(fixture.run().unwrap_err().text.contains("kernel.core_pattern"));
}

fn limits_hold() {
    let mut fixture = Fixture::new();
    let cgroup = fixture.with_cgroup("limits");
    let resources = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}, "pids": {"limit": 5}});
    cgroup.apply(&serde_json::from_value(resources).unwrap()).unwrap();
    let outcome = fixture.sh("dd if=/dev/zero of=/dev/null bs=64M count=1");
    assert_ne!(outcome.code, 0, "{outcome:?}");
    assert!(cgroup.oom_kills().unwrap() > 0);
    let outcome = fixture.sh("for i in 1 2 3 4 5 6 7; do sleep 5 & done");
    assert!(outcome.code != 0 || outcome.output.contains("can't fork"), "{outcome:?}");
}

fn host_pids_can_be_shared() {
    let mut fixture = Fixture::new();
    fixture.pid = Pid::Host;
    let own = std::process::id();
    fixture.out(&format!("test -d /proc/{own}"));
}

/// What covers masked files and stands in for missing streams must not be a handle on the host's own node.
fn the_null_device_of_the_host_can_not_be_changed() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let before = std::fs::metadata("/dev/null").unwrap();
    let mut fixture = Fixture::new();
    let script = "for f in /proc/keys /proc/timer_list /proc/self/fd/0; do chmod 667 $f; chown 7 $f; done; \
                  cat /proc/keys /proc/timer_list; echo x > /proc/keys; cat; stat -L -c %t:%T /proc/self/fd/0";
    let started = fixture.sh(script);
    let sleeper = fixture.sleeper();
    let output = tempfile::tempfile().unwrap();
    let args = ["/bin/sh", "-c", "chmod 667 /proc/self/fd/0; chown 7 /proc/self/fd/0; cat"];
    let mut executed = fixture.exec(sleeper.0.pidfd(), &args, streams(&output));
    let followed = follow(&mut executed).unwrap();
    finish(&executed, output, followed);
    let after = std::fs::metadata("/dev/null").unwrap();
    let _ = std::fs::set_permissions("/dev/null", before.permissions());
    let _ = std::os::unix::fs::chown("/dev/null", Some(before.uid()), Some(before.gid()));
    assert_eq!(after.permissions().mode(), before.permissions().mode(), "{started:?}");
    assert_eq!(after.uid(), before.uid(), "{started:?}");
    assert!(started.output.contains("Read-only file system") && started.output.ends_with("1:3\n"), "{started:?}");
}
