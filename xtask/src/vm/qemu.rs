//! One boot of a guest, from the first line on its serial console to its power-off.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::emulator::Emulator;
use super::image::RootImage;

/// The guest prints this and the payload's exit code when the payload ends.
const EXIT_MARK: &str = "PODWRIGHT-VM-EXIT ";

/// And this when it begins.
const READY_MARK: &str = "PODWRIGHT-VM-READY";

/// No getty on the console: it would hang up the payload, which writes there.
const KERNEL_ARGUMENTS: &str =
    "root=/dev/vda rw console=ttyS0 quiet panic=-1 systemd.show_status=0 systemd.mask=serial-getty@ttyS0.service";

/// Boots and returns the payload's exit code. Disks are snapshots: nothing of a run reaches the next one.
pub(super) fn boot(
    emulator: &Emulator,
    root: &RootImage,
    kernel_arguments: &str,
    payload: &Path,
    limit_seconds: u64,
    see: impl FnMut(&str),
) -> Result<i32> {
    let drive = |path: &Path| format!("file={},if=virtio,format=raw,snapshot=on", path.display());
    let mut qemu = emulator
        .command()
        .args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "3G"])
        .arg("-kernel")
        .arg(&root.kernel)
        .arg("-initrd")
        .arg(&root.initrd)
        .args(["-append", &format!("{KERNEL_ARGUMENTS} {kernel_arguments}")])
        .args(["-drive", &drive(&root.disk), "-drive", &drive(payload)])
        .args(["-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-net", "none"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting qemu")?;
    let console = qemu.stdout.take().context("qemu has no console pipe")?;
    let outcome = watch(console, limit_seconds, see);
    if outcome.is_err() {
        qemu.kill().context("killing a guest that did not come to its end")?;
    }
    qemu.wait().context("waiting for qemu")?;
    outcome
}

fn watch(console: impl std::io::Read + Send + 'static, limit_seconds: u64, mut see: impl FnMut(&str)) -> Result<i32> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
    let start = Instant::now();
    let end = start + Duration::from_secs(limit_seconds);
    let (mut code, mut booted) = (None, false);
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) if !booted && line.contains(READY_MARK) => {
                booted = true;
                println!("vm: the boot: {} s", start.elapsed().as_secs());
            }
            Ok(line) => match exit_code(&line) {
                Some(found) => {
                    println!("vm: from power-on to the payload's end: {} s", start.elapsed().as_secs());
                    code = Some(found);
                }
                None if code.is_none() => {
                    println!("vm| {line}");
                    see(&line);
                }
                None => {}
            },
            Err(mpsc::RecvTimeoutError::Timeout) => bail!("the guest did not come to its end within {limit_seconds} s"),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return code.context("the guest ended before its payload did; see its console above");
            }
        }
    }
}

fn exit_code(line: &str) -> Option<i32> {
    line.split_once(EXIT_MARK)?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_found_behind_console_noise() {
        assert_eq!(exit_code("[    1.0] PODWRIGHT-VM-EXIT 3\r"), Some(3));
        assert_eq!(exit_code("PODWRIGHT-VM-EXIT no"), None);
    }

    #[test]
    fn a_guest_that_dies_early_is_an_error() {
        assert!(watch(&b"panic\n"[..], 5, |_| {}).is_err());
        let mut seen = Vec::new();
        let code = watch(&b"hello\nPODWRIGHT-VM-EXIT 0\n"[..], 5, |line| seen.push(line.to_owned()));
        assert_eq!((code.ok(), seen), (Some(0), vec!["hello".to_owned()]));
    }
}
