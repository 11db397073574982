//! Whether the host has room: on the disks, in the kernel's table of open files. Grades are functions of their own.

use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::Finding;

/// With less free than one in so many, kubelet begins to evict pods.
const FREE_ONE_IN: u64 = 10;
/// Of inodes kubelet wants less.
const FREE_INODES_ONE_IN: u64 = 20;
/// A daemon with 500 pods holds some 4,000 descriptors; with this many it never comes near.
const OPEN_FILES: u64 = 65_536;

pub(super) fn findings(state: &Path, root: &Path) -> Vec<Finding> {
    let file_nr = std::fs::read_to_string("/proc/sys/fs/file-nr").unwrap_or_default();
    let mut findings = vec![limit(getrlimit(Resource::Nofile).maximum), kernel_table(&file_nr)];
    for (subject, path) in [("space for the state", state), ("space for images and pods", root)] {
        let nearest = path.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/"));
        if let Ok(found) = rustix::fs::statvfs(nearest) {
            let bytes = (found.f_bavail.saturating_mul(found.f_frsize), found.f_blocks.saturating_mul(found.f_frsize));
            findings.push(space(subject, nearest, bytes, (found.f_favail, found.f_files)));
        }
    }
    findings
}

/// The hard limit here is what services get too, where their unit says nothing else.
fn limit(hard: Option<u64>) -> Finding {
    match hard {
        None => Finding::ok("open files", "without limit"),
        Some(most) if most >= OPEN_FILES => Finding::ok("open files", format!("up to {most} in a process")),
        Some(most) => Finding::warn(
            "open files",
            format!("up to {most} in a process; set LimitNOFILE={OPEN_FILES} for podwrightd, which needs 8 for a pod"),
        ),
    }
}

/// `used free most` of the whole kernel.
fn kernel_table(file_nr: &str) -> Finding {
    let numbers: Vec<u64> = file_nr.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    match numbers.as_slice() {
        [used, _, most] if used.saturating_mul(10) > most.saturating_mul(9) => {
            Finding::warn("kernel's open files", format!("{used} of {most}; raise sysctl fs.file-max"))
        }
        [used, _, most] => Finding::ok("kernel's open files", format!("{used} of {most}")),
        _ => Finding::warn("kernel's open files", "/proc/sys/fs/file-nr can not be read"),
    }
}

/// Free and all, of bytes and of inodes. File systems that make inodes as they need them have none to tell.
fn space(subject: &'static str, path: &Path, bytes: (u64, u64), inodes: (u64, u64)) -> Finding {
    let mebibytes = |bytes: u64| bytes >> 20;
    let text = format!(
        "{} of {} MiB and {} of {} inodes are free at {}",
        mebibytes(bytes.0),
        mebibytes(bytes.1),
        inodes.0,
        inodes.1,
        path.display()
    );
    let is_short = |(free, all): (u64, u64), one_in: u64| free < all / one_in;
    if is_short(bytes, FREE_ONE_IN) || is_short(inodes, FREE_INODES_ONE_IN) {
        return Finding::warn(subject, format!("{text}; remove what is not needed, or kubelet will evict pods"));
    }
    Finding::ok(subject, text)
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    #[test]
    fn short_things_are_warned_of() {
        assert_eq!(limit(None).grade, Grade::Ok);
        assert_eq!(limit(Some(1 << 20)).grade, Grade::Ok);
        assert!(limit(Some(1024)).text.contains("LimitNOFILE"));
        assert_eq!(kernel_table("1000\t0\t9223372036854775807\n").grade, Grade::Ok);
        assert_eq!(kernel_table("950 0 1000").grade, Grade::Warn);
        assert_eq!(kernel_table("").grade, Grade::Warn);
        let at = Path::new("/x");
        for (bytes, inodes, grade) in [
            ((50, 100), (50, 100), Grade::Ok),
            ((9, 100), (50, 100), Grade::Warn),
            ((50, 100), (4, 100), Grade::Warn),
            ((50, 100), (0, 0), Grade::Ok),
        ] {
            assert_eq!(space("d", at, bytes, inodes).grade, grade, "{bytes:?} {inodes:?}");
        }
    }
}
