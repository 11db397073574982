//! The guest's disks: a Debian root made once by debootstrap, and a payload disk made for each run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

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
    fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
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
const IMAGE_VERSION: u32 = 2;

/// Time limit of one debootstrap; on two idle cores it takes one to three minutes.
const BOOTSTRAP_SECONDS: u32 = 900;

/// Lines of a failed program's output that are shown.
const SHOWN_LINES: usize = 10;

const PACKAGES: &str = "systemd,systemd-sysv,dbus,udev,iproute2,iptables,nftables,procps,busybox-static,apparmor,sudo,ca-certificates,\
                        containernetworking-plugins,docker-registry,linux-image-cloud-amd64";

const PAYLOAD_UNIT: &str = "[Unit]
Description=Podwright payload
After=multi-user.target
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/sh -c 'mkdir -p /payload && mount -o ro /dev/vdb /payload && sh /payload/run >/dev/ttyS0 2>&1; \
echo \"PODWRIGHT-VM-EXIT $?\" >/dev/ttyS0; systemctl --no-block poweroff'
[Install]
WantedBy=multi-user.target
";

/// Makes the root image of `suite` under `target/vm`, or finds it there.
pub(super) fn ensure(target: &Path, suite: Suite) -> Result<RootImage> {
    let dir = target.join("vm").join(format!("{}-{IMAGE_VERSION}", suite.name()));
    let image = RootImage { kernel: dir.join("vmlinuz"), initrd: dir.join("initrd.img"), disk: dir.join("root.img") };
    if !dir.exists() {
        build(&dir, suite)?;
    }
    Ok(image)
}

/// A Debian with some packages in a directory, whole or not at all.
pub(super) fn debootstrap(dir: &Path, suite: Suite, packages: &str) -> Result<()> {
    let parent = dir.parent().context("the directory has no parent")?;
    fs::create_dir_all(parent)?;
    let work = tempfile::tempdir_in(parent)?;
    let root = work.path().join("root");
    bootstrap(&root, suite, packages)?;
    fs::rename(&root, dir).with_context(|| format!("moving the finished root to {}", dir.display()))
}

/// A mirror may be away for a moment, or hang: there are two tries, and each has its time.
fn bootstrap(root: &Path, suite: Suite, packages: &str) -> Result<()> {
    let once = || {
        let include = format!("--include={packages}");
        let limit = BOOTSTRAP_SECONDS.to_string();
        let mut command = Command::new("timeout");
        command.args(["-k", "10", &limit, "debootstrap", "--variant=minbase", &include, suite.name()]);
        sh(command.arg(root)).with_context(|| format!("debootstrap of {suite:?}, which needs a mirror of Debian"))
    };
    once().or_else(|error| {
        println!("vm: {error:#}\nvm: trying once more");
        fs::remove_dir_all(root).with_context(|| format!("removing {}", root.display()))?;
        once()
    })
}

/// Builds beside `dir` and renames at the end, so that an interrupted build leaves no half image behind.
fn build(dir: &Path, suite: Suite) -> Result<()> {
    let parent = dir.parent().context("the image directory has no parent")?;
    fs::create_dir_all(parent)?;
    let work = tempfile::tempdir_in(parent)?;
    let root = work.path().join("root");
    println!("vm: making a Debian {} root with debootstrap (once; about a minute)", suite.name());
    bootstrap(&root, suite, PACKAGES)?;
    configure(&root)?;
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
    fs::write(root.join("etc/fstab"), "/dev/vda / ext4 rw 0 0\n")?;
    let units = root.join("etc/systemd/system");
    fs::write(units.join("podwright-payload.service"), PAYLOAD_UNIT)?;
    fs::create_dir_all(units.join("multi-user.target.wants"))?;
    symlink("../podwright-payload.service", units.join("multi-user.target.wants/podwright-payload.service"))?;
    let archives = root.join("var/cache/apt/archives");
    for entry in fs::read_dir(&archives)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "deb") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn find_boot_file(root: &Path, prefix: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(root.join("boot"))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            return Ok(entry.path());
        }
    }
    bail!("debootstrap installed no {prefix}* under /boot; is linux-image-cloud-amd64 still in Debian?")
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

/// Runs quietly; what it printed is shown only if it failed.
fn sh(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    if output.status.success() {
        return Ok(());
    }
    let printed = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&printed);
    let tail: Vec<&str> = text.lines().rev().take(SHOWN_LINES).collect();
    bail!("{command:?} failed with {}:\n{}", output.status, tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
}
