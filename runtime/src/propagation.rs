//! Whether a mount of the host can do what a container's mount asks of it: only a shared one takes part in propagation. Asked
//! of a private one the kernel says nothing, and a volume that is mounted later would never show up in the container.

use std::path::Path;

use podwright_sys::Propagation;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::error::{Failure, Step};

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Refuses a source whose mount can not propagate as `wanted`. In the host's mount namespace.
pub(crate) fn check(source: &Path, wanted: Propagation) -> Result<(), Failure> {
    if matches!(wanted, Propagation::Private | Propagation::Unbindable) {
        return Ok(());
    }
    let what = || source.display();
    let status = statx(CWD, source, AtFlags::empty(), StatxFlags::MNT_ID).step("look at", what)?;
    let table = std::fs::read_to_string(MOUNTINFO).step("read", || MOUNTINFO)?;
    let (place, peers) = entry(&table, status.stx_mnt_id).unwrap_or(("/", Peers::default()));
    let works = peers.shared || (peers.slave && wanted == Propagation::Slave);
    if works {
        return Ok(());
    }
    let reason = format!(
        "its mount on {place} is not shared, so nothing would propagate; run mount --make-rshared {place} on the node"
    );
    Err(Failure::because("set the propagation of", what(), reason))
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Peers {
    shared: bool,
    slave: bool,
}

/// Mount point and optional fields of a mount, as proc_pid_mountinfo(5) says.
fn entry(table: &str, id: u64) -> Option<(&str, Peers)> {
    table.lines().find_map(|line| {
        let mut fields = line.split(' ');
        if fields.next()?.parse::<u64>().ok()? != id {
            return None;
        }
        let place = fields.nth(3)?;
        let optional: Vec<&str> = fields.skip(1).take_while(|field| *field != "-").collect();
        let any = |prefix: &str| optional.iter().any(|field| field.starts_with(prefix));
        Some((place, Peers { shared: any("shared:"), slave: any("master:") }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_peers() {
        let table = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                     22 21 0:5 / /a rw shared:2 master:1 - tmpfs shared:x rw\n\
                     221 21 0:6 / /b rw - tmpfs master:x rw\n";
        assert_eq!(entry(table, 21), Some(("/", Peers { shared: true, slave: false })));
        assert_eq!(entry(table, 22), Some(("/a", Peers { shared: true, slave: true })));
        assert_eq!(entry(table, 221), Some(("/b", Peers::default())));
        assert_eq!(entry(table, 2), None);
    }
}
