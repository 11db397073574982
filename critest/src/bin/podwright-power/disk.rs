//! A disk whose writes are recorded: qemu's storage daemon with its blklogwrites driver, shown as a file by FUSE, and a loop device on
//! that. What the file system flushes comes to the log as a flush.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

const DISK_BYTES: u64 = 384 << 20;
const LOG_BYTES: u64 = 8 << 30;
const READY_WITHIN: Duration = Duration::from_secs(20);

/// The disk. Ends with this value.
pub(crate) struct Disk {
    daemon: Child,
    dir: PathBuf,
    /// The block device.
    pub(crate) device: String,
}

impl Disk {
    /// Makes one with an empty ext4, of which a copy is kept, and records what is written from then on.
    pub(crate) fn record(emulator: &Path, dir: &Path) -> Result<Self> {
        let (disk, log, shown) = (dir.join("disk.raw"), dir.join("log.raw"), dir.join("shown.raw"));
        for (path, bytes) in [(&disk, DISK_BYTES), (&log, LOG_BYTES), (&shown, 0)] {
            fs::File::create(path)?.set_len(bytes)?;
        }
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk))?;
        copy(&disk, &dir.join("empty.raw"))?;
        let libraries = emulator.join("usr/lib/x86_64-linux-gnu");
        let mut command = Command::new(emulator.join("usr/lib64/ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(&libraries).arg(emulator.join("usr/bin/qemu-storage-daemon"));
        command.env("QEMU_MODULE_DIR", libraries.join("qemu"));
        command.args(["--blockdev", &format!("driver=file,node-name=disk,filename={}", disk.display())]);
        command.args(["--blockdev", &format!("driver=file,node-name=log,filename={}", log.display())]);
        command.args(["--blockdev", "driver=blklogwrites,node-name=recorded,file=disk,log=log,log-sector-size=512"]);
        let export = format!("type=fuse,id=shown,node-name=recorded,mountpoint={},writable=on", shown.display());
        let mut daemon = command
            .args(["--export", &export])
            .stdin(Stdio::null())
            .spawn()
            .context("starting qemu's storage daemon")?;
        let device = match wait_for(&shown, &mut daemon).and_then(|()| attach(&shown)) {
            Ok(device) => device,
            Err(error) => {
                let _ = daemon.kill();
                let _ = daemon.wait();
                return Err(error);
            }
        };
        Ok(Self { daemon, dir: dir.to_owned(), device })
    }

    /// Ends the recording; the file system is not mounted any more.
    pub(crate) fn end(mut self) -> Result<()> {
        run(Command::new("losetup").args(["-d", &self.device]))?;
        run(Command::new("kill").args(["-TERM", &self.daemon.id().to_string()]))?;
        let status = self.daemon.wait()?;
        ensure!(status.success(), "qemu's storage daemon ended with {status}");
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if matches!(self.daemon.try_wait(), Ok(None)) {
            let _ = run(Command::new("losetup").args(["-d", &self.device]));
            let _ = self.daemon.kill();
            let _ = self.daemon.wait();
            let _ = run(Command::new("umount").arg("-l").arg(self.dir.join("shown.raw")));
        }
    }
}

fn wait_for(shown: &Path, daemon: &mut Child) -> Result<()> {
    let end = Instant::now() + READY_WITHIN;
    while fs::metadata(shown)?.len() != DISK_BYTES {
        ensure!(
            daemon.try_wait()?.is_none() && Instant::now() < end,
            "qemu's storage daemon does not show its disk; is there /dev/fuse?"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A loop device on a file.
fn attach(file: &Path) -> Result<String> {
    let output = Command::new("losetup").args(["--direct-io=on", "--find", "--show"]).arg(file).output()?;
    ensure!(output.status.success(), "losetup: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Copies a sparse file.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").arg("--sparse=always").arg(from).arg(to))
}

pub(crate) fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("starting {:?}", command.get_program()))?;
    ensure!(output.status.success(), "{:?}: {}", command.get_program(), String::from_utf8_lossy(&output.stderr));
    Ok(())
}
