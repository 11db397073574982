//! The loop of a log writer: streams in, log and clients out, orders from the shim.
//!
//! It ends when all streams have ended and no stdin is kept open, or when it was told to finish.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::client::{Client, Patience};
use super::confined::confine;
use super::control::{ClientFds, Order, Report};
use super::input::Input;
use super::lines::Lines;
use super::log::{Log, Stream};
use super::stamp;

/// Read from a stream at once; a pipe holds as much.
const READ_BYTES: usize = 64 * 1024;
/// After this long without anything to do, buffers are given back.
const IDLE: Duration = Duration::from_secs(5);
/// After the last process ended, the kernel still moves what it wrote to its terminal; so long is waited for that.
const TERMINAL_GRACE: Duration = Duration::from_millis(300);
/// Told to finish, streams that still give more (somebody outside writes to them) are read no longer than this.
const LONGEST_FINISH: Duration = Duration::from_secs(1);
/// How long the last lines are tried to be written to a full disk.
const LAST_WRITE: Duration = Duration::from_secs(1);
/// Most clients at once; more are refused by closing their streams. The engine counts too, and refuses earlier and with words.
const MAX_CLIENTS: usize = 256;

/// What a log writer is made for.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Socket to the shim.
    pub(crate) control: OwnedFd,
    /// Read ends of stdout and stderr. A terminal that comes by [`Order::Terminal`] replaces them and the input.
    pub(crate) outputs: [Option<OwnedFd>; 2],
    /// Write end of stdin.
    pub(crate) input: Option<OwnedFd>,
    /// Close stdin after the first client.
    pub(crate) stdin_once: bool,
    /// Where to log to.
    pub(crate) log: Option<PathBuf>,
    /// A client from the start, which must lose nothing.
    pub(crate) client: Option<ClientFds>,
}

/// Does all that a log writer does. The first report tells whether the log could be opened; with `false`, that was all.
pub(crate) fn run(plan: Plan) -> bool {
    let opened = confine().and_then(|()| plan.log.map(Log::open).transpose());
    let (report, log) = match opened {
        Ok(log) => (Report::of(&Ok(())), Some(log)),
        Err(error) => (Report::of(&Err(error)), None),
    };
    report.send(&plan.control);
    let Some(log) = log else { return false };
    let [stdout, stderr] = plan.outputs;
    let task = Task {
        control: Some(plan.control),
        outputs: [Output::new(Stream::Stdout, stdout), Output::new(Stream::Stderr, stderr)],
        terminal: false,
        input: Input::new(plan.input),
        stdin_once: plan.stdin_once,
        log,
        clients: plan.client.map(|fds| Client::new(fds, Patience::Wait)).into_iter().collect(),
        buffer: Vec::new(),
        finish_at: None,
    };
    task.serve();
    true
}

struct Output {
    stream: Stream,
    fd: Option<OwnedFd>,
    lines: Lines,
}

impl Output {
    fn new(stream: Stream, fd: Option<OwnedFd>) -> Self {
        let fd = fd.filter(|fd| rustix::io::ioctl_fionbio(fd, true).is_ok());
        Self { stream, fd, lines: Lines::default() }
    }
}

/// What a descriptor in the poll set stands for.
#[derive(Debug, Clone, Copy)]
enum Ready {
    Control,
    Output(usize),
    Input,
    ClientInput(usize),
    ClientOutput(usize),
}

struct Task {
    control: Option<OwnedFd>,
    outputs: [Output; 2],
    terminal: bool,
    input: Input,
    stdin_once: bool,
    log: Option<Log>,
    clients: Vec<Client>,
    buffer: Vec<u8>,
    /// Told to finish: streams that give nothing more at this time are taken as ended.
    finish_at: Option<Instant>,
}

impl Task {
    fn serve(mut self) {
        // After the answer that the start waits for.
        self.log.iter_mut().for_each(Log::keep_spare);
        while !self.is_done() {
            match self.wait() {
                Ok(ready) if ready.is_empty() => self.idle(),
                Ok(ready) => ready.into_iter().for_each(|ready| self.act(ready)),
                // Without poll there is no way to go on; the end of this process ends the streams.
                Err(_) => break,
            }
            self.forget_clients();
            if self.finish_at.is_some_and(|at| at + LONGEST_FINISH <= Instant::now()) {
                self.end_streams();
            }
            if let Some(log) = &mut self.log {
                log.flush();
            }
        }
        self.write_last_lines();
    }

    fn is_done(&self) -> bool {
        let streams_ended = self.outputs.iter().all(|output| output.fd.is_none());
        let input_wanted = !self.input.is_closed() && self.control.is_some() && self.finish_at.is_none();
        let held_back = self.clients.iter().any(Client::holds_back);
        streams_ended && !input_wanted && !held_back
    }

    fn wait(&self) -> io::Result<Vec<Ready>> {
        let mut set: Vec<(Ready, BorrowedFd<'_>, PollFlags)> = Vec::with_capacity(8);
        if let Some(control) = &self.control {
            set.push((Ready::Control, control.as_fd(), PollFlags::IN));
        }
        if !self.clients.iter().any(Client::holds_back) {
            for (index, output) in self.outputs.iter().enumerate() {
                if let Some(fd) = &output.fd {
                    set.push((Ready::Output(index), fd.as_fd(), PollFlags::IN));
                }
            }
        }
        if let Some(fd) = self.input.blocked_on() {
            set.push((Ready::Input, fd.as_fd(), PollFlags::OUT));
        }
        for (index, client) in self.clients.iter().enumerate() {
            if let Some(fd) = client.stdin.as_ref().filter(|_| self.input.wants_more() || self.input.is_closed()) {
                set.push((Ready::ClientInput(index), fd.as_fd(), PollFlags::IN));
            }
            // Without a flag to wait for, poll still tells when nobody reads any more.
            let ready = Ready::ClientOutput(index);
            set.extend(client.blocked_on().map(|fd| (ready, fd.as_fd(), PollFlags::OUT)));
            set.extend(client.idle_outputs().map(|fd| (ready, fd.as_fd(), PollFlags::empty())));
        }
        let mut fds: Vec<_> = set.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        match poll(&mut fds, self.timeout().as_ref()) {
            Ok(_) | Err(Errno::INTR) => (),
            Err(error) => return Err(error.into()),
        }
        let ready = set.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(ready.map(|((ready, _, _), _)| *ready).collect())
    }

    fn timeout(&self) -> Option<Timespec> {
        let now = Instant::now();
        let idle = (self.buffer.capacity() > 0 || self.input.can_shrink()).then_some(IDLE);
        let retry = self.log.as_ref().and_then(Log::retry_at).map(|at| at.saturating_duration_since(now));
        let finish = self.finish_at.map(|at| at.saturating_duration_since(now));
        // A finish that waits for a slow client is woken by the client.
        let finish = finish.filter(|left| !left.is_zero() || !self.clients.iter().any(Client::holds_back));
        [idle, retry, finish].into_iter().flatten().min().and_then(|left| left.try_into().ok())
    }

    fn idle(&mut self) {
        if self.finish_at.is_some_and(|at| at <= Instant::now()) {
            self.end_streams();
            return;
        }
        if self.log.as_ref().and_then(Log::retry_at).is_none() {
            self.buffer = Vec::new();
            self.input.shrink();
            self.outputs.iter_mut().for_each(|output| output.lines.shrink());
            self.log.iter_mut().for_each(Log::shrink);
            self.log.iter_mut().for_each(Log::keep_spare);
        }
    }

    fn act(&mut self, ready: Ready) {
        match ready {
            Ready::Control => self.take_order(),
            Ready::Output(index) => self.read_output(index),
            Ready::Input => self.input.pump(),
            Ready::ClientInput(index) => self.read_client(index),
            Ready::ClientOutput(index) => self.clients.get_mut(index).into_iter().for_each(Client::pump_or_drop),
        }
    }

    fn take_order(&mut self) {
        let Some(control) = &self.control else { return };
        match Order::receive(control) {
            Ok(Some(Order::Reopen)) => self.reopen(),
            Ok(Some(Order::Terminal(master))) => self.take_terminal(master),
            Ok(Some(Order::Attach(fds))) if self.clients.len() < MAX_CLIENTS => {
                self.clients.push(Client::new(fds, Patience::Drop));
            }
            Ok(Some(Order::Attach(fds))) => drop(fds),
            Ok(Some(Order::CloseStdin)) => self.close_stdin(),
            Ok(Some(Order::Finish)) => {
                let grace = if self.terminal { TERMINAL_GRACE } else { Duration::ZERO };
                self.finish_at = Some(Instant::now() + grace);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
            // The shim is gone. What the container still says is logged all the same.
            Ok(None) | Err(_) => self.control = None,
        }
    }

    /// What clients have sent before this comes before the end.
    fn close_stdin(&mut self) {
        for stdin in self.clients.iter().filter_map(|client| client.stdin.as_ref()) {
            self.input.keep_rest_of(stdin);
        }
        self.input.close();
    }

    fn reopen(&mut self) {
        // What is in the pipes now was written before the rotation, as far as anybody can tell: it goes to the old file.
        let result = self.log.as_mut().map_or(Ok(()), Log::reopen);
        if let Some(control) = &self.control {
            Report::of(&result).send(control);
        }
        self.log.iter_mut().for_each(Log::keep_spare);
    }

    fn take_terminal(&mut self, master: OwnedFd) {
        self.terminal = true;
        self.input = Input::new(master.try_clone().ok());
        self.outputs = [Output::new(Stream::Stdout, Some(master)), Output::new(Stream::Stderr, None)];
    }

    fn read_output(&mut self, index: usize) {
        let Some(output) = self.outputs.get_mut(index) else { return };
        let Some(fd) = &output.fd else { return };
        self.buffer.clear();
        self.buffer.reserve_exact(READ_BYTES);
        match rustix::io::read(fd, spare_capacity(&mut self.buffer)) {
            Ok(1..) => {
                let (stamp, stream, log) = (stamp::now(), output.stream, &mut self.log);
                self.clients.iter_mut().for_each(|client| client.send(stream, &self.buffer));
                if let Some(log) = log {
                    output.lines.push(&self.buffer, |tag, a, b| log.line(&stamp, stream, tag, [a, b]));
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => (),
            // A terminal ends with EIO.
            Ok(0) | Err(_) => self.end_stream(index),
        }
    }

    fn end_stream(&mut self, index: usize) {
        let Some(output) = self.outputs.get_mut(index) else { return };
        output.fd = None;
        if let Some(log) = &mut self.log {
            let (stamp, stream) = (stamp::now(), output.stream);
            output.lines.finish(|tag, a, b| log.line(&stamp, stream, tag, [a, b]));
        }
        if self.terminal {
            self.input = Input::default();
        }
    }

    /// Told to finish, and nothing came any more.
    fn end_streams(&mut self) {
        for index in 0..self.outputs.len() {
            if self.outputs.get(index).is_some_and(|output| output.fd.is_some()) {
                self.end_stream(index);
            }
        }
    }

    fn read_client(&mut self, index: usize) {
        let Some(client) = self.clients.get_mut(index) else { return };
        let Some(fd) = &client.stdin else { return };
        if self.input.is_closed() {
            client.stdin = None;
        } else if self.input.wants_more() && !self.input.take_from(fd) {
            client.stdin = None;
            // A terminal has no end of its own: the user types ^D.
            if self.stdin_once && !self.terminal {
                self.input.close();
            }
        }
    }

    fn forget_clients(&mut self) {
        for last in self.clients.iter().filter(|client| client.has_left()).filter_map(|client| client.stdin.as_ref()) {
            self.input.keep_last_of(last);
        }
        let input_is_full = !self.input.wants_more();
        let forgotten = |client: &Client| client.is_gone() || (input_is_full && client.has_left());
        let with_input = self.clients.iter().filter(|client| forgotten(client)).any(Client::brought_input);
        self.clients.retain(|client| !forgotten(client));
        if with_input && self.stdin_once && !self.terminal {
            self.input.close();
        }
    }

    fn write_last_lines(&mut self) {
        let Some(log) = &mut self.log else { return };
        let give_up = Instant::now() + LAST_WRITE;
        while !log.flush_now() && Instant::now() < give_up {
            std::thread::sleep(LAST_WRITE / 10);
        }
    }
}
