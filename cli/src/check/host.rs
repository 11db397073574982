//! What the host must have. Texts of /proc are read by functions of their own, so that every kind of host can be tried.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::{Finding, mapping};

/// The oldest kernel that is supported: Debian 12's.
const KERNEL_AT_LEAST: (u32, u32) = (6, 1);
/// From here on a root file system needs no mount in a namespace of its own.
const KERNEL_WITH_DETACHED_OVERLAY: (u32, u32) = (6, 8);
/// Controllers without which limits of pods mean nothing.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// Where the shim is installed if it is not beside the daemon.
const INSTALLED_SHIM: &str = "/usr/libexec/podwright/podwright-shim";

pub(super) fn findings(state: &Path, root: &Path) -> Vec<Finding> {
    let uname = rustix::system::uname();
    let mountinfo = read("/proc/self/mountinfo");
    vec![
        user(),
        kernel(&uname.release().to_string_lossy()),
        cgroups(&mountinfo, &read("/proc/cgroups")),
        overlay(&read("/proc/filesystems")),
        nf_tables(&[Path::new("/sys/module/nf_tables"), Path::new("/proc/sys/net/netfilter")]),
        user_namespaces(&read("/proc/sys/user/max_user_namespaces")),
        seccomp(&read("/proc/sys/kernel/seccomp/actions_avail")),
        shim(shim_path(std::env::current_exe().ok()).as_deref()),
        mapping::finding(shim_path(std::env::current_exe().ok()).as_deref(), root),
        writable("state directory", state),
        writable("root directory", root),
    ]
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn user() -> Finding {
    if rustix::process::geteuid().is_root() {
        return Finding::ok("user", "root");
    }
    Finding::warn("user", "this is not root, and the daemon must be; what follows is seen with other rights")
}

fn kernel(release: &str) -> Finding {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return Finding::warn("kernel", format!("{release:?} is no version of Linux; 6.1 or later is needed"));
    };
    if (major, minor) < KERNEL_AT_LEAST {
        return Finding::fail("kernel", format!("{release} is too old; install 6.1 or later"));
    }
    if (major, minor) < KERNEL_WITH_DETACHED_OVERLAY {
        return Finding::ok("kernel", format!("{release} (before 6.8 containers start a little slower)"));
    }
    Finding::ok("kernel", release)
}

/// `/proc/cgroups` names what v1 could have; a v2 tree names its own controllers.
fn cgroups(mountinfo: &str, v1: &str) -> Finding {
    let mounts: Vec<(&str, &str)> = mountinfo.lines().filter_map(mount).collect();
    let point_of = |kind: &str| mounts.iter().find(|(_, found)| *found == kind).map(|(point, _)| *point);
    let (version, present): (&str, Vec<String>) = match (point_of("cgroup"), point_of("cgroup2")) {
        (Some(_), _) => ("v1", enabled(v1)),
        (None, Some(point)) => {
            let text = read(&format!("{point}/cgroup.controllers"));
            ("v2", text.split_whitespace().map(str::to_owned).collect())
        }
        (None, None) => {
            return Finding::fail("cgroups", "no cgroup file system is mounted; mount cgroup2 on /sys/fs/cgroup");
        }
    };
    let missing: Vec<&str> =
        CONTROLLERS.into_iter().filter(|name| !present.iter().any(|found| found == name)).collect();
    if missing.is_empty() {
        return Finding::ok("cgroups", format!("{version} with cpu, memory and pids"));
    }
    let list = missing.join(", ");
    Finding::fail(
        "cgroups",
        format!("{version} lacks {list}; enable them on the kernel's command line (cgroup_enable=)"),
    )
}

/// Mount point and type of a line of mountinfo.
fn mount(line: &str) -> Option<(&str, &str)> {
    let (left, right) = line.split_once(" - ")?;
    Some((left.split(' ').nth(4)?, right.split(' ').next()?))
}

/// Lines `name hierarchy cgroups enabled`.
fn enabled(v1: &str) -> Vec<String> {
    let fields = v1.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter_map(|f| (f.get(3) == Some(&"1")).then(|| f.first().map(|name| (*name).to_owned()))?).collect()
}

fn overlay(filesystems: &str) -> Finding {
    if filesystems.lines().any(|line| line.split_whitespace().last() == Some("overlay")) {
        return Finding::ok("overlayfs", "present");
    }
    Finding::warn("overlayfs", "not loaded yet; if `modprobe overlay` fails, no container will start")
}

fn nf_tables(signs: &[&Path]) -> Finding {
    if signs.iter().any(|path| path.exists()) {
        return Finding::ok("nf_tables", "present");
    }
    Finding::warn("nf_tables", "not loaded yet; if `modprobe nf_tables` fails, the embedded network can not masquerade")
}

fn user_namespaces(most: &str) -> Finding {
    match most.trim().parse::<u64>() {
        Ok(0) => Finding::warn(
            "user namespaces",
            "switched off; for pods with hostUsers: false set sysctl user.max_user_namespaces",
        ),
        Ok(most) => Finding::ok("user namespaces", format!("up to {most}")),
        Err(_) => Finding::warn("user namespaces", "the kernel has none; pods with hostUsers: false will not run"),
    }
}

fn seccomp(actions: &str) -> Finding {
    if actions.split_whitespace().any(|action| action == "errno") {
        return Finding::ok("seccomp", "filters are supported");
    }
    Finding::fail(
        "seccomp",
        "the kernel has no filters (CONFIG_SECCOMP_FILTER); RuntimeDefault can not be kept. Use another kernel",
    )
}

fn shim_path(own: Option<PathBuf>) -> Option<PathBuf> {
    let beside = own.and_then(|own| Some(own.parent()?.join("podwright-shim")));
    beside.into_iter().chain([INSTALLED_SHIM.into()]).find(|path| path.is_file())
}

fn shim(found: Option<&Path>) -> Finding {
    match found {
        Some(path) => Finding::ok("shim", path.display().to_string()),
        None => Finding::warn(
            "shim",
            format!(
                "not beside this program and not at {INSTALLED_SHIM}; install it, or name it in the daemon's configuration"
            ),
        ),
    }
}

/// A directory that is not there yet is made by the daemon, if the nearest one above can be written to.
fn writable(subject: &'static str, path: &Path) -> Finding {
    let Some(nearest) = path.ancestors().find(|above| above.exists()) else {
        return Finding::fail(subject, format!("{} can not be reached; correct the path", path.display()));
    };
    match access(nearest, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if nearest == path => Finding::ok(subject, path.display().to_string()),
        Ok(()) => Finding::ok(subject, format!("{} (not there yet)", path.display())),
        Err(errno) => {
            let cause = std::io::Error::from(errno);
            Finding::fail(
                subject,
                format!("{} can not be written to: {cause}; correct it or name another", nearest.display()),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    #[test]
    fn kernels_are_graded() {
        for (release, grade) in [
            ("6.1.0-9-amd64", Grade::Ok),
            ("6.18.2", Grade::Ok),
            ("7.0", Grade::Ok),
            ("5.15.0", Grade::Fail),
            ("rubbish", Grade::Warn),
        ] {
            assert_eq!(kernel(release).grade, grade, "{release}");
        }
    }

    #[test]
    fn cgroups_without_a_controller_fail() {
        let v1 = "30 23 0:26 / /sys/fs/cgroup/cpu rw shared:1 - cgroup cgroup rw,cpu\n";
        let all = "#subsys_name hierarchy num_cgroups enabled\ncpu 1 1 1\nmemory 2 1 1\npids 3 1 1\n";
        assert_eq!(cgroups(v1, all).grade, Grade::Ok);
        let without = cgroups(v1, &all.replace("memory 2 1 1", "memory 2 1 0"));
        assert!(without.grade == Grade::Fail && without.text.contains("memory"), "{without:?}");
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.controllers"), "cpuset cpu io memory pids\n").unwrap();
        let v2 = format!("30 23 0:26 / {} rw - cgroup2 cgroup2 rw\n", dir.path().display());
        assert!(cgroups(&v2, "").text.contains("v2"));
        assert_eq!(cgroups("", "").grade, Grade::Fail);
    }

    #[test]
    fn the_rest_is_graded() {
        assert_eq!(overlay("nodev\toverlay\n").grade, Grade::Ok);
        assert_eq!(overlay("\text4\n").grade, Grade::Warn);
        assert_eq!(seccomp("kill_process errno allow\n").grade, Grade::Ok);
        assert_eq!(seccomp("").grade, Grade::Fail);
        assert_eq!(user_namespaces("0\n").grade, Grade::Warn);
        assert_eq!(nf_tables(&[Path::new("/no/such")]).grade, Grade::Warn);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(writable("d", dir.path()).grade, Grade::Ok);
        assert!(writable("d", &dir.path().join("a/b")).text.contains("not there yet"));
        fs::write(dir.path().join("podwright-shim"), "").unwrap();
        assert_eq!(shim(shim_path(Some(dir.path().join("podwright"))).as_deref()).grade, Grade::Ok);
    }
}
