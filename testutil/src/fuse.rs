//! A file system that never answers: a FUSE server that mounts, tells what its root is, and then leaves everybody waiting who looks
//! for something in it. As with a dead NFS server, who waits can not be killed until the connection ends (the value is dropped).
//!
//! It speaks the raw protocol of <https://docs.kernel.org/filesystems/fuse/index.html>, as little as a mount needs.

use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, poll};

use crate::host::TestHost;

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const INIT: u32 = 26;
const BATCH_FORGET: u32 = 42;
/// Every request begins with so many bytes.
const HEADER_BYTES: usize = 40;
/// Largest request that the kernel is told to send.
const BUFFER_BYTES: usize = 128 << 10;
const NO_SUCH_CALL: i32 = -38;
/// Years: the root is asked for once.
const VALID_SECONDS: u64 = 1 << 30;

/// A mounted file system that does not answer.
pub struct HungMount {
    path: PathBuf,
    waiting: Arc<AtomicUsize>,
    // Its end ends the server.
    stop: Option<PipeWriter>,
    server: Option<JoinHandle<()>>,
}

impl HungMount {
    /// Mounts it at `path`, a directory that is made, in the host's mount namespace.
    ///
    /// # Errors
    /// There is no /dev/fuse, or it can not be mounted.
    pub fn new(host: &TestHost, path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
        let device = File::options().read(true).write(true).open("/dev/fuse").context("opening /dev/fuse")?;
        let mut mount = host.command("mount");
        mount.args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=40000,user_id=0,group_id=0,allow_other", "hung"]);
        let output = mount.arg(path).stdin(Stdio::from(device.try_clone()?)).output().context("starting mount")?;
        ensure!(output.status.success(), "mounting with FUSE: {}", String::from_utf8_lossy(&output.stderr));
        let waiting = Arc::new(AtomicUsize::new(0));
        let (stopped, stop) = std::io::pipe().context("making a pipe")?;
        let seen = Arc::clone(&waiting);
        let server = std::thread::spawn(move || serve(device, &stopped, &seen));
        Ok(Self { path: path.to_owned(), waiting, stop: Some(stop), server: Some(server) })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many have asked and wait for ever.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }
}

impl Drop for HungMount {
    /// Closes the device, and with it the connection: all who wait get an error.
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// Ends with the pipe or with the connection, and closes the device.
fn serve(mut device: File, stopped: &PipeReader, waiting: &AtomicUsize) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let mut ready = [PollFd::new(&device, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        let polled = poll(&mut ready, None);
        if polled.is_err() || !ready[1].revents().is_empty() {
            return;
        }
        let Ok(length) = device.read(&mut buffer) else { return };
        let Some(request) = buffer.get(..length).filter(|request| request.len() >= HEADER_BYTES) else { return };
        let word =
            |at: usize| request.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes);
        let unique = request.get(8..16).unwrap_or_default();
        let answer = match word(4) {
            INIT => reply(unique, 0, &init()),
            GETATTR => reply(unique, 0, &root()),
            FORGET | BATCH_FORGET => continue,
            LOOKUP => {
                waiting.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            _ => reply(unique, NO_SUCH_CALL, &[]),
        };
        if device.write_all(&answer).is_err() {
            return;
        }
    }
}

fn reply(unique: &[u8], error: i32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    [&length.to_ne_bytes(), error.to_ne_bytes().as_slice(), unique, body].concat()
}

/// `fuse_init_out`, version 7.31.
fn init() -> Vec<u8> {
    let words: [u32; 4] = [7, 31, 0, 0];
    let mut body: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    body.extend([16_u16, 12].iter().flat_map(|half| half.to_ne_bytes()));
    body.extend([4096_u32, 1].iter().flat_map(|word| word.to_ne_bytes()));
    body.resize(64, 0);
    body
}

/// `fuse_attr_out` of a directory.
fn root() -> Vec<u8> {
    let mut body = [VALID_SECONDS.to_ne_bytes().as_slice(), &[0; 8], &1_u64.to_ne_bytes()].concat();
    // Size, blocks, three times and their nanoseconds.
    body.resize(body.len() + 5 * 8 + 3 * 4, 0);
    body.extend([0o040_755_u32, 2, 0, 0, 0, 4096, 0].iter().flat_map(|word| word.to_ne_bytes()));
    body
}
