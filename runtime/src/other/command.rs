//! One command of another runtime: executed, waited for until its deadline, and what it said of a failure.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio as Streams};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fchmod, makedev, mknodat, openat};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde::Deserialize;

use super::OtherRuntime;
use crate::error::{Failure, FailureKind, Step};
use crate::mounts::new_file_system;

/// Name of the log in the directory where a command runs.
const LOG_FILE: &str = "log.json";
/// As much of what a runtime said is looked at, from the end.
const MAX_LOG_BYTES: usize = 64 << 10;
/// As much of it is told.
const MAX_WORDS_BYTES: usize = 2048;
/// Most rounds of killing what a command left.
const MAX_KILL_ROUNDS: usize = 16;

/// The streams of a command.
pub(super) enum Output {
    /// Those of the container, which its process inherits; errors come by the log only.
    Container([Option<OwnedFd>; 3]),
    /// Nothing to read, and what it says goes to its log.
    Own,
}

/// A null device that is nobody else's: crun gives its container's user what it has as streams, and the host's must stay root's.
fn own_null() -> Result<OwnedFd, Failure> {
    let (top, what) = (new_file_system("tmpfs", "tmpfs", &["mode=700".to_owned()])?, || "a null device");
    mknodat(&top, "null", FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3)).step("make", what)?;
    let null = openat(&top, "null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).step("open", what)?;
    // Whatever the umask is.
    fchmod(&null, Mode::from_raw_mode(0o666)).step("open to all", what)?;
    Ok(null)
}

/// Runs a command in `directory`, where its log goes as well. `Err` if it failed, or did not end in time and was killed.
pub(super) fn run(
    runtime: &OtherRuntime,
    directory: &Path,
    arguments: &[&str],
    output: Output,
    limit: Duration,
) -> Result<(), Failure> {
    let verb = arguments.first().copied().unwrap_or_default();
    let what = || format!("{} {verb} (runtime handler {:?})", runtime.program.display(), runtime.name);
    let log = directory.join(LOG_FILE);
    let errors = directory.join("stderr");
    let mut command = Command::new(&runtime.program);
    command.arg("--root").arg(runtime.root()).arg("--log").arg(LOG_FILE).args(["--log-format", "json"]);
    command.args(&runtime.options).args(arguments).env_clear().current_dir(directory);
    // Programs that a runtime looks for are the host's.
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    match output {
        Output::Container(fds) => {
            let [stdin, stdout, stderr] = fds.map(|fd| fd.map_or_else(own_null, Ok));
            command.stdin(stdin?).stdout(stdout?).stderr(stderr?);
        }
        Output::Own => {
            let file = File::create(&errors).step("make", || errors.display())?;
            command.stdin(Streams::null()).stdout(Streams::null()).stderr(file);
        }
    }
    let mut child = command.spawn().step("execute", what)?;
    // It has its own copies of the streams; ours would hold the container's open.
    drop(command);
    let ended = wait(&mut child, limit);
    match ended {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => {
            let words = words(&log, &errors);
            Err(Failure { kind: kind_of(&words), ..Failure::because("run", what(), told(status, &words)) })
        }
        Ok(None) => {
            let words = words(&log, &errors);
            let said = if words.is_empty() { String::new() } else { format!("; it said: {words}") };
            let reason = format!("it did not end within {} s and was killed{said}", limit.as_secs());
            Err(Failure::because("run", what(), reason))
        }
        Err(error) => Err(Failure::io("wait for", what(), &error)),
    }
}

/// `None` if it was late, and is killed.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let until = Instant::now() + limit;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(std::io::ErrorKind::InvalidData)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        let timeout = Timespec::try_from(left).map_err(std::io::Error::other)?;
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return child.wait().map(Some),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Kills all children of the calling process but one, which is the caller's to reap. It is a subreaper: what a command left comes to it.
pub(super) fn kill_children(but: Option<Pid>) {
    for _ in 0..MAX_KILL_ROUNDS {
        let text = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        let mut any = false;
        let children = text.split_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(Pid::from_raw);
        for pid in children.filter(|pid| Some(*pid) != but) {
            any = true;
            let _ = kill_process(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        }
        if !any {
            return;
        }
    }
}

fn told(status: ExitStatus, words: &str) -> String {
    match words {
        "" => format!("it ended with {status} and said nothing"),
        words => format!("it ended with {status}; it said: {words}"),
    }
}

/// A line of the log of crun, runc and their like.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    level: String,
    msg: String,
}

/// What a runtime said of its failure: the errors of its log, else its stderr.
fn words(log: &Path, errors: &Path) -> String {
    let mut texts = errors_of(&tail(log));
    if texts.is_empty() {
        texts.push(tail(errors).trim().to_owned());
    }
    let text = texts.join("; ");
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let end = (0..=MAX_WORDS_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default().trim().to_owned()
}

/// The errors of a log: JSON documents one after another, on one line each or on several. From what is none on, it is told as it is.
fn errors_of(log: &str) -> Vec<String> {
    let mut lines = serde_json::Deserializer::from_str(log).into_iter::<Line>();
    let mut errors = Vec::new();
    let mut read = 0;
    while let Some(Ok(line)) = lines.next() {
        read = lines.byte_offset();
        if matches!(line.level.as_str(), "error" | "fatal" | "panic" | "") {
            errors.push(line.msg.trim().to_owned());
        }
    }
    errors.push(log.get(read..).unwrap_or_default().trim().to_owned());
    errors.retain(|text| !text.is_empty());
    errors
}

/// For the fuzz target: reads a log.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    let log = String::from_utf8_lossy(bytes);
    assert!(errors_of(&log).iter().all(|text| !text.is_empty()), "an error without words");
}

fn tail(path: &Path) -> String {
    use std::io::Seek;
    use std::os::unix::fs::OpenOptionsExt;
    // The runtime may have put anything there.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let Ok(mut file) = File::options().read(true).custom_flags(flags).open(path) else { return String::new() };
    let Ok(meta) = file.metadata() else { return String::new() };
    if !meta.is_file() {
        return String::new();
    }
    let _ = file.seek(std::io::SeekFrom::Start(meta.len().saturating_sub(MAX_LOG_BYTES as u64)));
    let mut bytes = Vec::new();
    let _ = file.take(MAX_LOG_BYTES as u64).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether it was the program that could not be executed, as crun and runc word it.
fn kind_of(words: &str) -> FailureKind {
    let has = |word: &str| words.contains(word);
    match () {
        () if has("executable file") && has("not found") => FailureKind::ProgramNotFound,
        () if has("exec") && has("no such file or directory") && !has("mount") => FailureKind::ProgramNotFound,
        () if has("exec") && has("permission denied") => FailureKind::ProgramNotExecutable,
        () => FailureKind::Setup,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_log_are_told_and_rubbish_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let (log, errors) = (directory.path().join("log"), directory.path().join("stderr"));
        assert_eq!(words(&log, &errors), "");
        std::fs::write(&errors, "on stderr\u{1b}[0m\n").unwrap();
        assert_eq!(words(&log, &errors), "on stderr [0m");
        let lines = "{\"level\":\"warning\",\"msg\":\"w\"}\n{\"level\":\"error\",\"msg\":\"no such\"}\nplain\n";
        std::fs::write(&log, lines).unwrap();
        assert_eq!(words(&log, &errors), "no such; plain");
        assert_eq!(errors_of("{\n \"msg\": \"on lines\",\n \"level\": \"error\"\n}\n"), ["on lines"]);
        std::fs::write(&log, vec![b'x'; 1 << 20]).unwrap();
        assert_eq!(words(&log, &errors).len(), MAX_WORDS_BYTES);
    }

    #[test]
    fn programs_that_are_missing_are_told_apart() {
        for (words, kind) in [
            ("exec: \"x\": executable file not found in $PATH", FailureKind::ProgramNotFound),
            ("executable file `x` not found in $PATH: No such file or directory", FailureKind::ProgramNotFound),
            ("exec /x: permission denied", FailureKind::ProgramNotExecutable),
            ("mount /a: no such file or directory", FailureKind::Setup),
        ] {
            assert_eq!(kind_of(words), kind, "{words}");
        }
    }
}
