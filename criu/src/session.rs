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

/// Largest answer.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// How much of CRIU's log is looked at for errors.
const MAX_LOG_BYTES: u64 = 4 << 20;
/// Lines of it that an error shows.
const MAX_ERROR_LINES: usize = 3;
/// A limit that CRIU would like and does not need.
const HARMLESS: &str = "rlimit:";

/// A CRIU that serves one request. Dropping it ends it.
pub(crate) struct Session {
    child: Child,
    socket: OwnedFd,
    until: Instant,
    within: Duration,
}

fn talk(step: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |cause| Error::Talk { step, cause }
}

impl Session {
    /// Starts it. The socket is its stdin; other descriptors are inherited where they are not close-on-exec.
    pub(crate) fn start(program: &Path, within: Duration) -> Result<Self, Error> {
        let (socket, theirs) = packet_pair().map_err(|errno| talk("make a socket for CRIU")(errno.into()))?;
        let mut command = Command::new(program);
        command.args(["swrk", "0"]).current_dir("/").env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|cause| Error::Missing { program: program.to_owned(), cause })?;
        Ok(Self { child, socket, until: Instant::now() + within, within })
    }

    /// Asks, hands each notice to `noticed`, and gives the answer. An error of `noticed` stops CRIU, which undoes what it did.
    pub(crate) fn ask(
        &mut self,
        kind: Kind,
        options: Options,
        noticed: &mut dyn FnMut(&Notice) -> Result<(), String>,
    ) -> Result<Response, Error> {
        self.send(&Request { kind: kind.into(), options: Some(options), notify_success: None })?;
        loop {
            let response = self.receive()?;
            if response.kind != i32::from(Kind::Notify) {
                return Ok(response);
            }
            let said = noticed(&response.notice.unwrap_or_default());
            let answer = Request { kind: Kind::Notify.into(), options: None, notify_success: Some(said.is_ok()) };
            if let Err(text) = said {
                // It may not heed the answer at every notice; whoever stops it counts on nothing having run.
                let _ = self.child.kill();
                return Err(Error::Stopped(text));
            }
            self.send(&answer)?;
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
            return Err(Error::TimedOut(self.within.as_secs()));
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
        let _ = self.child.kill();
        let _ = self.child.wait();
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
}
