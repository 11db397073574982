//! The log file: whole lines, written in batches, kept and tried again while the disk is full.
//!
//! ```text
//! healthy ── write fails ──> failing: lines are kept up to MAX_PENDING_BYTES, then dropped and counted
//!    ^                          │ a write succeeds: first what was kept, then one line that tells what was dropped
//!    └──────────────────────────┘
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::lines::Tag;
use super::spare::Spare;
use super::stamp::{self, Stamp};

/// A batch is written when it is this long, and at the end of each wake-up.
const BATCH_BYTES: usize = 64 * 1024;
/// What is kept while nothing can be written.
const MAX_PENDING_BYTES: usize = 512 * 1024;
/// First and longest pause between two tries to write.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Of logs, as kubelet and its peers have it.
pub(super) const MODE: u32 = 0o640;

/// Which stream a line is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Standard output, and all that a terminal shows.
    Stdout,
    /// Standard error.
    Stderr,
}

#[derive(Debug)]
struct Failing {
    error: io::Error,
    pause: Duration,
    retry_at: Instant,
    dropped_lines: u64,
    dropped_bytes: u64,
}

/// An open log.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    /// Whole lines; those before `written` are on disk. It is emptied only as a whole, so that a line that was torn by a full
    /// disk can be written again to the next file.
    pending: Vec<u8>,
    written: usize,
    failing: Option<Failing>,
    /// For a rotation when no file can be made.
    spare: Spare,
}

impl Log {
    /// Opens a log, making its directory where that is missing.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let file = open(&path)?;
        Ok(Self { path, file, pending: Vec::new(), written: 0, failing: None, spare: Spare::default() })
    }

    /// Adds a line.
    pub(super) fn line(&mut self, stamp: &Stamp, stream: Stream, tag: Tag, text: [&[u8]; 2]) {
        if let Some(failing) = &mut self.failing
            && self.pending.len() >= MAX_PENDING_BYTES
        {
            failing.dropped_lines += u64::from(tag == Tag::Full);
            failing.dropped_bytes += text.iter().map(|part| part.len() as u64).sum::<u64>();
            return;
        }
        let middle: &[u8] = match (stream, tag) {
            (Stream::Stdout, Tag::Full) => b" stdout F ",
            (Stream::Stdout, Tag::Partial) => b" stdout P ",
            (Stream::Stderr, Tag::Full) => b" stderr F ",
            (Stream::Stderr, Tag::Partial) => b" stderr P ",
        };
        for part in [stamp, middle, text[0], text[1], b"\n"] {
            self.pending.extend_from_slice(part);
        }
        if self.pending.len() >= BATCH_BYTES && self.failing.is_none() {
            self.flush();
        }
    }

    /// Writes what is there, unless a pause after a failure has not passed.
    pub(super) fn flush(&mut self) {
        if self.failing.as_ref().is_none_or(|failing| failing.retry_at <= Instant::now()) {
            self.flush_now();
        }
    }

    /// Writes what is there; true if nothing is left.
    pub(super) fn flush_now(&mut self) -> bool {
        while let Some(rest) = self.pending.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => return self.failed(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return self.failed(error),
            }
        }
        self.pending.clear();
        self.written = 0;
        match self.failing.take() {
            Some(failing) => self.recovered(&failing),
            None => true,
        }
    }

    /// When to call [`Log::flush`] although nothing new came.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.failing.as_ref().map(|failing| failing.retry_at)
    }

    /// Writes the rest of the batch to the old file and goes on in a new one of the same path. If the new one can not be opened,
    /// the old one stays.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.flush_now();
        self.file = match open(&self.path) {
            Err(error) if is_full(&error) => self.spare.place(&self.path).map_err(|_| error)?,
            opened => opened?,
        };
        // Of a line that the old file has only in part, the new one gets the whole.
        let torn = self.pending.get(..self.written).unwrap_or_default();
        self.written = torn.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.flush_now();
        Ok(())
    }

    /// Gives memory back while nothing happens.
    pub(super) fn shrink(&mut self) {
        self.pending.shrink_to_fit();
    }

    /// Sees to it that the next rotation finds room.
    pub(super) fn keep_spare(&mut self) {
        self.spare.keep(&self.path);
    }

    fn failed(&mut self, error: io::Error) -> bool {
        let (first, longest) = RETRY;
        let (pause, dropped_lines, dropped_bytes) = match self.failing.take() {
            Some(before) => ((before.pause * 2).min(longest), before.dropped_lines, before.dropped_bytes),
            None => (first, 0, 0),
        };
        self.failing = Some(Failing { error, pause, retry_at: Instant::now() + pause, dropped_lines, dropped_bytes });
        false
    }

    fn recovered(&mut self, failing: &Failing) -> bool {
        if failing.dropped_bytes == 0 {
            return true;
        }
        let text = format!(
            "podwright: {} lines ({} bytes) of this log were dropped here: the log could not be written ({})",
            failing.dropped_lines, failing.dropped_bytes, failing.error
        );
        self.line(&stamp::now(), Stream::Stderr, Tag::Full, [text.as_bytes(), b""]);
        self.flush_now()
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The last component is never followed: whoever can write to the directory of logs
/// must not choose which file the shim, as root, appends to. Nor is anything but a file taken, which might never take a byte.
fn open(path: &Path) -> io::Result<File> {
    // NONBLOCK: a FIFO without a reader is refused at once. It means nothing for a file.
    let flags = (OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::NONBLOCK).bits();
    let open = || File::options().append(true).create(true).mode(MODE).custom_flags(flags.cast_signed()).open(path);
    let opened = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            open()
        }
        result => result,
    };
    let no_file = |kind: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{} is {kind}", path.display()));
    match opened {
        Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
            Err(no_file("a FIFO, a socket or a device that is not there"))
        }
        Ok(file) if !file.metadata()?.is_file() => Err(no_file("a FIFO or a device")),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(log: &mut Log, text: &str) {
        log.line(&stamp::now(), Stream::Stdout, Tag::Full, [text.as_bytes(), b""]);
    }

    fn texts(path: &Path) -> Vec<String> {
        fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(|line| line.split(' ').skip(3).collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn lines_have_the_format_of_the_cri() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/er/0.log");
        let mut log = Log::open(path.clone()).unwrap();
        log.line(&stamp::now(), Stream::Stderr, Tag::Partial, [b"a b", b" c"]);
        assert!(log.flush_now());
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(&text[30..], " stderr P a b c\n");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
    }

    #[test]
    fn a_link_or_a_directory_is_no_log() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        assert!(Log::open(link).is_err());
        assert_eq!(Log::open(directory.path().to_owned()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        let fifo = directory.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        for is_read in [false, true] {
            let reader = OFlags::RDONLY | OFlags::NONBLOCK;
            let _reader = is_read.then(|| rustix::fs::open(&fifo, reader, rustix::fs::Mode::empty()).unwrap());
            let error = Log::open(fifo.clone()).unwrap_err();
            assert!(error.to_string().contains("is a FIFO"), "{error}");
        }
        assert!(Log::open("/dev/null".into()).unwrap_err().to_string().contains("a device"));
    }

    #[test]
    fn a_reopened_log_goes_on_in_the_new_file() {
        let directory = tempfile::tempdir().unwrap();
        let (path, old) = (directory.path().join("log"), directory.path().join("old"));
        let mut log = Log::open(path.clone()).unwrap();
        line(&mut log, "one");
        fs::rename(&path, &old).unwrap();
        log.reopen().unwrap();
        line(&mut log, "two");
        log.flush_now();
        assert_eq!((texts(&old), texts(&path)), (vec!["one".to_owned()], vec!["two".to_owned()]));
    }

    #[test]
    fn what_a_full_disk_takes_is_kept_then_counted() {
        let full = File::options().append(true).open("/dev/full").unwrap();
        let (path, spare) = ("/dev/full".into(), Spare::default());
        let mut log = Log { path, file: full, pending: Vec::new(), written: 0, failing: None, spare };
        line(&mut log, "kept");
        assert!(!log.flush_now());
        assert!(log.retry_at().is_some());
        let long = "x".repeat(10_000);
        (0..100).for_each(|_| line(&mut log, &long));
        assert!(log.pending.len() < MAX_PENDING_BYTES + 20_000);
        let directory = tempfile::tempdir().unwrap();
        log.path = directory.path().join("log");
        log.reopen().unwrap();
        let texts = texts(&log.path);
        assert_eq!(texts[0], "kept");
        assert!(texts.last().unwrap().contains("of this log were dropped here"), "{:?}", texts.last());
        let kept = texts.iter().filter(|text| **text == long).count();
        assert!(texts.last().unwrap().contains(&format!("{} lines", 100 - kept)), "{kept}");
    }
}
