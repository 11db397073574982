//! One `criu swrk` process: a request, notices on the way, an answer, all within a deadline.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use podwright_sys::{packet_pair, receive_packet, send_packet};
use prost::Message as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::Error;
use crate::message::{Kind, Notice, Options, Request, Response};
use crate::network::PATH;

/// Largest answer.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// How much of CRIU's log is looked at for errors.
const MAX_LOG_BYTES: u64 = 4 << 20;
/// Lines of it that an error shows.
const MAX_ERROR_LINES: usize = 3;
/// For CRIU to undo what it did and to answer, once it is to end or has all that it needs.
pub(crate) const GRACE: Duration = Duration::from_secs(30);
/// The notice whose answer CRIU does not heed: it lets packets through again.
const UNLOCK: &str = "network-unlock";
/// The notice after which it lets the processes of a dump go on.
pub(crate) const LAST: &str = "post-dump";
/// A limit that CRIU would like and does not need.
const HARMLESS: &str = "rlimit:";

/// A CRIU that serves one request. Dropping it ends it.
pub(crate) struct Session {
    child: Child,
    socket: OwnedFd,
    until: Instant,
    within: Duration,
    /// What it gets to undo; none if it is killed at the first trouble.
    grace: Option<Duration>,
    /// It said that it has begun.
    has_begun: bool,
    /// It was done, one way or the other.
    has_answered: bool,
}

fn talk(step: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |cause| Error::Talk { step, cause }
}

impl Session {
    /// Starts it. The socket is its stdin; other descriptors are inherited where they are not close-on-exec.
    pub(crate) fn start(program: &Path, within: Duration) -> Result<Self, Error> {
        let (socket, theirs) = packet_pair().map_err(|errno| talk("make a socket for CRIU")(errno.into()))?;
        let mut command = Command::new(program);
        command.args(["swrk", "0"]).current_dir("/").env_clear().env("PATH", PATH);
        command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|cause| Error::Missing { program: program.to_owned(), cause })?;
        let until = Instant::now() + within;
        Ok(Self { child, socket, until, within, grace: None, has_begun: false, has_answered: false })
    }

    /// At an error of `noticed`, and at the deadline, it is told no and waited for, for this long at a time: it undoes what it did. For
    /// requests in which CRIU heeds the answer. One that has not begun has nothing to undo and is killed as ever.
    pub(crate) fn gently(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// Ends it. Whether it began and could not end what it did.
    pub(crate) fn end(mut self) -> bool {
        self.kill();
        self.has_begun && !self.has_answered
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks, hands each notice to `noticed`, and gives the answer. An error of `noticed` stops CRIU.
    pub(crate) fn ask(
        &mut self,
        kind: Kind,
        options: Options,
        noticed: &mut dyn FnMut(&Notice) -> Result<(), String>,
    ) -> Result<Response, Error> {
        self.send(&Request { kind: kind.into(), options: Some(options), notify_success: None })?;
        let mut trouble = None;
        loop {
            let response = match (self.receive(), self.grace.filter(|_| self.has_begun)) {
                (Ok(response), _) => response,
                (Err(error @ Error::TimedOut(..)), Some(grace)) if trouble.is_none() => {
                    trouble = Some(error);
                    self.until = Instant::now() + grace;
                    continue;
                }
                (Err(error), _) => return Err(trouble.unwrap_or(error)),
            };
            if response.kind != i32::from(Kind::Notify) {
                self.has_answered = true;
                return trouble.map_or(Ok(response), Err);
            }
            self.has_begun = true;
            let notice = response.notice.unwrap_or_default();
            if trouble.is_none()
                && let Err(text) = noticed(&notice)
            {
                let Some(grace) = self.grace else {
                    // It may not heed the answer at every notice; whoever stops it counts on nothing having run.
                    self.kill();
                    return Err(Error::Stopped(text));
                };
                trouble = Some(Error::Stopped(text));
                self.until = Instant::now() + grace;
            }
            if let Some(grace) = self.grace.filter(|_| notice.script.as_deref() == Some(LAST)) {
                // What took its time here is not taken from what CRIU has for its answer.
                self.until = self.until.max(Instant::now() + grace);
            }
            let go_on = trouble.is_none() || notice.script.as_deref() == Some(UNLOCK);
            let answer = Request { kind: Kind::Notify.into(), options: None, notify_success: Some(go_on) };
            if let Err(error) = self.send(&answer) {
                return Err(trouble.unwrap_or(error));
            }
        }
    }

    fn send(&self, request: &Request) -> Result<(), Error> {
        send_packet(&self.socket, &request.encode_to_vec(), &[]).map_err(|errno| talk("ask CRIU")(errno.into()))
    }

    fn receive(&mut self) -> Result<Response, Error> {
        let left = self.until.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let ready = retry(|| poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timeout)));
        if ready.map_err(|errno| talk("wait for CRIU")(errno.into()))? == 0 {
            return Err(Error::TimedOut(self.within.as_secs(), String::new()));
        }
        let mut buffer = vec![0; MAX_ANSWER_BYTES];
        let received =
            receive_packet(self.socket.as_fd(), &mut buffer).map_err(|errno| talk("hear from CRIU")(errno.into()))?;
        if received.length == 0 {
            return Err(Error::Ended(String::new()));
        }
        let bytes = buffer.get(..received.length).unwrap_or_default();
        Response::decode(bytes).map_err(|error| talk("understand CRIU")(io::Error::other(error)))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.kill();
    }
}

fn retry(mut call: impl FnMut() -> rustix::io::Result<usize>) -> rustix::io::Result<usize> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Success, or what the answer and the log say went wrong.
pub(crate) fn judged(outcome: Result<Response, Error>, log: &Path) -> Result<Response, Error> {
    match outcome {
        Ok(response) if response.success => Ok(response),
        Ok(response) => {
            let said = response.text.filter(|text| !text.contains(HARMLESS)).map(|text| format!(": {}", text.trim()));
            let told = errors_in(log).or(said);
            let errno = response.errno.filter(|errno| *errno > 0);
            let cause = errno.map(|errno| format!(" ({})", io::Error::from_raw_os_error(errno)));
            Err(Error::Refused(format!("{}{}", told.unwrap_or_default(), cause.unwrap_or_default())))
        }
        Err(Error::Ended(_)) => Err(Error::Ended(errors_in(log).unwrap_or_default())),
        Err(error) => Err(error),
    }
}

/// The first errors of a log, which name what the later ones follow from.
fn errors_in(log: &Path) -> Option<String> {
    let mut text = Vec::new();
    File::open(log).ok()?.take(MAX_LOG_BYTES).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let errors: Vec<String> = text.lines().filter_map(error_of).take(MAX_ERROR_LINES).collect();
    (!errors.is_empty()).then(|| format!(": {}", errors.join("; ")))
}

/// `(00.112105) Error (criu/files-reg.c:1790): Can't lookup` without stamp and place.
fn error_of(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("Error (")?;
    let (_, text) = rest.split_once("): ")?;
    let text: String = text.chars().filter(|c| !c.is_control()).take(300).collect();
    (!text.contains(HARMLESS) && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_errors_of_a_log_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("dump.log");
        let lines = [
            "(00.01) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted",
            "(00.11) Error (criu/files-reg.c:1790): Can't lookup mount=24 for fd=0 path=/dev/null",
            "(00.12) Warn  (x): nothing",
            "(00.13) Error (criu/cr-dump.c:1545): Dump files (pid: 12500) failed with -1",
        ];
        std::fs::write(&log, lines.join("\n")).unwrap();
        let refused = Response { kind: 1, success: false, ..Response::default() };
        let error = judged(Ok(refused), &log).unwrap_err().to_string();
        assert_eq!(
            error,
            "CRIU refused: Can't lookup mount=24 for fd=0 path=/dev/null; Dump files (pid: 12500) failed with -1"
        );
    }

    #[test]
    fn a_missing_program_says_what_to_install() {
        let error = Session::start(Path::new("/nowhere/criu"), Duration::from_secs(1)).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("/nowhere/criu; install it"), "{error}");
    }

    #[test]
    fn one_that_says_nothing_is_killed() {
        // `sleep swrk 0` ends with an error at once; `cat` would wait: it is given nothing it can open, so it ends too.
        let mut session = Session::start(Path::new("/bin/cat"), Duration::from_secs(30)).unwrap();
        let outcome = session.ask(Kind::Dump, Options::default(), &mut |_| Ok(()));
        assert!(outcome.is_err());
    }

    /// A CRIU that tells of a step, and answers no.
    const TELLS: &str = r"#!/bin/sh
hear() { dd bs=65536 count=1 2>/dev/null | od -An -tx1 | tr -d ' \n'; }
tell() { printf '\010\006\020\001\052\013\012\011%s' $1 >&0; }
refuse() { printf '\010\001\020\000' >&0; }
cd ${0%/*}
hear > request
";

    fn criu(steps: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let top = tempfile::tempdir().unwrap();
        let program = top.path().join("criu");
        podwright_testutil::write_program(&program, &format!("{TELLS}{steps}\n")).unwrap();
        (top, program)
    }

    /// Every step has nine letters here, as `post-dump`.
    const NO: &str = "08061800";
    /// Long enough for a shell to begin on a busy machine.
    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn a_no_is_told_and_what_follows_is_waited_for() {
        let (top, program) = criu("tell post-dump; hear > answer; sleep 0.3; echo so > undone; refuse");
        let mut session = Session::start(&program, Duration::from_secs(60)).unwrap().gently(GRACE);
        let mut still = |notice: &Notice| {
            assert_eq!(notice.script.as_deref(), Some(LAST));
            Err("the disk is full".to_owned())
        };
        let error = session.ask(Kind::Dump, Options::default(), &mut still).unwrap_err();
        assert_eq!(error.to_string(), "the disk is full");
        assert_eq!(std::fs::read_to_string(top.path().join("answer")).unwrap(), NO);
        assert!(top.path().join("undone").exists(), "it was killed before it could undo what it did");
        assert!(!session.end(), "nothing is left to be undone");
    }

    #[test]
    fn at_the_deadline_it_is_told_no_when_it_asks_again() {
        // The second step comes after the deadline.
        let (top, program) = criu("tell pre-dump-; hear > first; sleep 5.5; tell post-dump; hear > answer; refuse");
        let mut session = Session::start(&program, SOON).unwrap().gently(GRACE);
        let error = session.ask(Kind::Dump, Options::default(), &mut |notice| match notice.script.as_deref() {
            Some(LAST) => Err("nobody is to be asked after the deadline".to_owned()),
            _ => Ok(()),
        });
        let error = error.unwrap_err();
        assert!(matches!(error, Error::TimedOut(..)), "{error}");
        assert_eq!(std::fs::read_to_string(top.path().join("answer")).unwrap(), NO);
        assert!(!session.end());
    }

    #[test]
    fn one_that_hangs_in_the_middle_is_killed_after_a_grace() {
        let (_top, program) = criu("tell pre-dump-; hear > first; exec sleep 1000");
        let mut session = Session::start(&program, SOON).unwrap().gently(Duration::from_millis(100));
        let error = session.ask(Kind::Dump, Options::default(), &mut |_| Ok(())).unwrap_err();
        assert!(matches!(error, Error::TimedOut(..)), "{error}");
        assert!(session.end(), "it may have left something");
    }

    #[test]
    fn time_that_others_took_at_the_last_step_is_not_its_own() {
        let (_top, program) = criu("tell post-dump; hear > answer; sleep 0.3; refuse");
        let mut session = Session::start(&program, SOON).unwrap().gently(GRACE);
        let outcome = session.ask(Kind::Dump, Options::default(), &mut |_| {
            std::thread::sleep(SOON);
            Ok(())
        });
        assert!(!outcome.unwrap().success);
    }
}
