//! The guest's disks: a Debian root made once, and a payload disk made for each run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::bootstrap::{Extent, bootstrap, sh};

/// Which Debian the guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Suite {
    /// Debian 12, kernel 6.1: the oldest kernel that Podwright supports.
    Bookworm,
    /// Debian 13, kernel 6.12.
    Trixie,
    /// Debian unstable, the newest kernel that Debian has.
    Sid,
}

impl Suite {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }
}

/// Which security module the guest's kernel asks; Debian's kernels have both, and one of them runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Lsm {
    /// Debian's own choice.
    Apparmor,
    /// With Debian's policy, enforcing.
    Selinux,
}

impl Lsm {
    fn name(self) -> &'static str {
        match self {
            Self::Apparmor => "apparmor",
            Self::Selinux => "selinux",
        }
    }

    /// What tells the kernel.
    pub(super) fn kernel_arguments(self) -> &'static str {
        match self {
            Self::Apparmor => "security=apparmor",
            Self::Selinux => "security=selinux selinux=1",
        }
    }
}

/// A root file system with what boots it.
pub(super) struct RootImage {
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
    pub(super) disk: PathBuf,
}

/// Bump when the content of the root image changes.
const IMAGE_VERSION: u32 = 3;

const PACKAGES: &str = "systemd,systemd-sysv,dbus,udev,mount,kmod,initramfs-tools,iproute2,iptables,nftables,procps,busybox-static,\
                        apparmor,sudo,ca-certificates,containernetworking-plugins,docker-registry,linux-image-cloud-amd64";

/// Beside those, where SELinux is on.
const SELINUX_PACKAGES: &str = "selinux-policy-default,policycoreutils,selinux-utils";

/// The domain that the daemon runs in, and those of the tests and the programs that they call: what the distribution's policy would have
/// to know of Podwright is not tried here, only that containers are confined.
const DAEMONS_ARE_PERMISSIVE: &str = "(typepermissive crio_t)\n(typepermissive initrc_t)\n(typepermissive mount_t)\n\
                                       (typepermissive ifconfig_t)\n(typepermissive iptables_t)\n";

const PAYLOAD_UNIT: &str = "[Unit]
Description=Podwright payload
After=multi-user.target
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/sh -c 'echo PODWRIGHT-VM-READY >/dev/ttyS0; mkdir -p /payload && mount -o ro /dev/vdb /payload && sh /payload/run >/dev/ttyS0 2>&1; \
echo \"PODWRIGHT-VM-EXIT $?\" >/dev/ttyS0; systemctl --no-block poweroff'
[Install]
WantedBy=multi-user.target
";

/// Makes the root image of `suite` under `target/vm`, or finds it there.
pub(super) fn ensure(target: &Path, suite: Suite, lsm: Lsm) -> Result<RootImage> {
    let dir = target.join("vm").join(format!("{}-{}-{IMAGE_VERSION}", suite.name(), lsm.name()));
    let image = RootImage { kernel: dir.join("vmlinuz"), initrd: dir.join("initrd.img"), disk: dir.join("root.img") };
    if !dir.exists() {
        build(&dir, suite, lsm)?;
    }
    Ok(image)
}

/// Builds beside `dir` and renames at the end, so that an interrupted build leaves no half image behind.
fn build(dir: &Path, suite: Suite, lsm: Lsm) -> Result<()> {
    let parent = dir.parent().context("the image directory has no parent")?;
    fs::create_dir_all(parent)?;
    let work = tempfile::tempdir_in(parent)?;
    let root = work.path().join("root");
    println!("vm: making a Debian {} root with mmdebstrap (once; about a minute)", suite.name());
    match lsm {
        Lsm::Apparmor => bootstrap(&root, suite, Extent::Installed, PACKAGES)?,
        Lsm::Selinux => bootstrap(&root, suite, Extent::Installed, &format!("{PACKAGES},{SELINUX_PACKAGES}"))?,
    }
    configure(&root)?;
    if lsm == Lsm::Selinux {
        label(&root).context("giving the guest's files their SELinux labels")?;
    }
    let out = work.path().join("out");
    fs::create_dir(&out)?;
    for (prefix, name) in [("vmlinuz-", "vmlinuz"), ("initrd.img-", "initrd.img")] {
        fs::copy(find_boot_file(&root, prefix)?, out.join(name))?;
    }
    sh(Command::new("mke2fs").args(["-q", "-t", "ext4", "-d"]).arg(&root).arg(out.join("root.img")).arg("4G"))?;
    fs::rename(&out, dir).with_context(|| format!("moving the finished image to {}", dir.display()))
}

fn configure(root: &Path) -> Result<()> {
    fs::write(root.join("etc/hostname"), "podwright-vm\n")?;
    // sudo complains of a name that it can not resolve, and critest takes complaints for failures.
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost podwright-vm\n::1 localhost podwright-vm\n")?;
    fs::write(root.join("etc/fstab"), "/dev/vda / ext4 rw 0 0\n")?;
    let units = root.join("etc/systemd/system");
    fs::write(units.join("podwright-payload.service"), PAYLOAD_UNIT)?;
    fs::create_dir_all(units.join("multi-user.target.wants"))?;
    symlink("../podwright-payload.service", units.join("multi-user.target.wants/podwright-payload.service"))?;
    Ok(())
}

/// SELinux on and enforcing, and every file with its label, so that the guest does not spend minutes on that at its first boot.
fn label(root: &Path) -> Result<()> {
    fs::write(root.join("etc/selinux/config"), "SELINUX=enforcing\nSELINUXTYPE=default\n")?;
    fs::write(root.join("tmp/podwright.cil"), DAEMONS_ARE_PERMISSIVE)?;
    sh(Command::new("chroot").arg(root).args(["semodule", "--noreload", "-i", "/tmp/podwright.cil"]))?;
    let contexts = "/etc/selinux/default/contexts/files/file_contexts";
    sh(Command::new("chroot").arg(root).args(["setfiles", "-F", contexts, "/"]))
}

fn find_boot_file(root: &Path, prefix: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(root.join("boot"))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            return Ok(entry.path());
        }
    }
    bail!("mmdebstrap installed no {prefix}* under /boot; is linux-image-cloud-amd64 still in Debian?")
}

/// Packs a directory into an ext4 image. The file is removed on drop.
pub(super) fn pack(payload: &Path) -> Result<tempfile::NamedTempFile> {
    let disk = tempfile::NamedTempFile::new()?;
    let mebibytes = size_bytes(payload)? / (1024 * 1024) * 5 / 4 + 64;
    sh(Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-d"])
        .arg(payload)
        .arg(disk.path())
        .arg(format!("{mebibytes}M")))?;
    Ok(disk)
}

fn size_bytes(dir: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        total += if meta.is_dir() { size_bytes(&entry.path())? } else { meta.len() };
    }
    Ok(total)
}
