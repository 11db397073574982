//! The shim's loop: who is connected, what they ask, and to whom the answers and events go.
//!
//! Owns connections and dispatch. The life of containers is in [`container`](crate::container), of execs in
//! [`exec`](crate::exec), of the pod's namespaces in [`pod`](crate::pod).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::sys::signalfd::SignalFd;
use podwright_cgroups::Hierarchy;
use podwright_shim_api::{
    Call, ContainerReport, Done, ExecReport, Failure, FailureKind, GIVEN_NETNS, GetState, HelloReply, MAX_PACKET_BYTES,
    OTHER_RUNTIMES, PROTOCOL_VERSION, RESTORE, Reply, Request, StateReply,
};
use podwright_types::SandboxId;
use prost::Message;
use rustix::io::Errno;
use rustix::net::SocketFlags;

use crate::child::{self, Ended};
use crate::connection::{Connection, Incoming};
use crate::container::Container;
use crate::exec::Exec;
use crate::pod::Pod;
use crate::poller::{Poller, Token};
use crate::shutdown::Stage;
use crate::startup::{FatalError, step};
use crate::timers::{Timer, Timers};

/// Most connections at once: a daemon, the one before it, and tools.
const MAX_CONNECTIONS: usize = 16;
/// How long after a start the memory that it took is given back. Execs that follow one another would only ask for it again.
const TRIM_AFTER: Duration = Duration::from_millis(250);
/// What one page of the state may fill of a packet, so that the longest report still fits.
const PAGE_BYTES: usize = MAX_PACKET_BYTES / 2;

/// Askers that wait for one thing; more are refused.
const MAX_WAITERS: usize = 32;

/// Who gets an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    connection: u32,
    request: u64,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is answered.
    Answer(Reply, Vec<OwnedFd>),
    /// The asker was put down and gets the answer later.
    Later,
}

impl Outcome {
    /// Nothing more to say.
    pub(crate) fn done() -> Self {
        Self::Answer(Reply::Done(Done {}), Vec::new())
    }
}

/// All that the shim is.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) sandbox: SandboxId,
    pub(crate) hierarchy: Hierarchy,
    pub(crate) poller: Poller,
    pub(crate) timers: Timers,
    pub(crate) pod: Pod,
    pub(crate) containers: Vec<Container>,
    pub(crate) execs: Vec<Exec>,
    pub(crate) stage: Stage,
    pub(crate) directory: OwnedFd,
    listener: OwnedFd,
    signals: SignalFd,
    connections: Vec<Connection>,
    last_serial: u32,
    /// Given up for a moment when no descriptor is left, so that a connection can be taken and refused.
    spare: Option<OwnedFd>,
}

impl Server {
    pub(crate) fn new(
        sandbox: SandboxId,
        listener: OwnedFd,
        directory: OwnedFd,
        signals: SignalFd,
        hierarchy: Hierarchy,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        poller.add(&listener, Token::Listener)?;
        poller.add(&signals, Token::Signals)?;
        let mut timers = Timers::default();
        timers.set(Timer::Trim, TRIM_AFTER);
        Ok(Self {
            sandbox,
            hierarchy,
            poller,
            timers,
            pod: Pod::default(),
            containers: Vec::new(),
            execs: Vec::new(),
            stage: Stage::Serving,
            directory,
            listener,
            signals,
            connections: Vec::new(),
            last_serial: 0,
            spare: spare(),
        })
    }

    /// Serves until a shutdown is done.
    pub(crate) fn run(mut self) -> Result<(), FatalError> {
        while !matches!(self.stage, Stage::Over) {
            let ready = self.poller.wait(self.timers.next()).map_err(step("wait for events"))?;
            ready.into_iter().for_each(|token| self.act(token));
            self.timers.due().into_iter().for_each(|timer| self.look_again(timer));
        }
        Ok(())
    }

    /// A number that names one thing for the life of this shim.
    pub(crate) fn new_serial(&mut self) -> u32 {
        self.last_serial += 1;
        self.last_serial
    }

    fn act(&mut self, token: Token) {
        match token {
            Token::Listener => self.accept(),
            Token::Signals => self.children_ended(),
            Token::Connection(serial) => self.serve(serial),
            Token::Start(serial) => self.start_progressed(serial),
            Token::Writer(serial) => self.writer_spoke(serial),
        }
    }

    fn look_again(&mut self, timer: Timer) {
        match timer {
            Timer::Container(serial) => self.settle_container(serial),
            Timer::Exec(serial) => self.settle_exec(serial),
            Timer::Pause => self.pause_is_late(),
            Timer::Shutdown => self.settle_shutdown(),
            Timer::Trim => podwright_sys::trim_heap(),
        }
    }

    /// Takes a connection. The socket's directory keeps others out already; whoever else got there is refused.
    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = match rustix::net::accept_with(&self.listener, flags) {
            Ok(socket) => socket,
            // Left waiting, it would wake the loop again and again.
            Err(Errno::MFILE | Errno::NFILE) => return self.refuse_one(),
            Err(_) => return,
        };
        let ours = rustix::process::geteuid();
        let trusted =
            rustix::net::sockopt::socket_peercred(&socket).is_ok_and(|peer| peer.uid == ours || peer.uid.is_root());
        if !trusted || self.connections.len() >= MAX_CONNECTIONS {
            return;
        }
        let serial = self.new_serial();
        if self.poller.add(&socket, Token::Connection(serial)).is_ok() {
            self.connections.push(Connection::new(serial, socket));
        }
    }

    fn refuse_one(&mut self) {
        self.spare = None;
        drop(rustix::net::accept(&self.listener));
        self.spare = spare();
    }

    fn serve(&mut self, serial: u32) {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.serial == serial) else {
            return;
        };
        if !connection.flush() {
            return self.hang_up(serial);
        }
        match connection.receive() {
            Incoming::Nothing => self.watch_writes(serial),
            Incoming::Ended => self.hang_up(serial),
            Incoming::Request(request, fds) => {
                self.watch_writes(serial);
                self.answer_request(serial, *request, fds);
            }
        }
    }

    fn hang_up(&mut self, serial: u32) {
        if let Some(at) = self.connections.iter().position(|connection| connection.serial == serial) {
            let connection = self.connections.swap_remove(at);
            self.poller.remove(&connection);
        }
    }

    fn watch_writes(&mut self, serial: u32) {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.serial == serial) else {
            return;
        };
        let blocked = connection.is_blocked();
        if blocked != connection.awaits_room
            && self.poller.want_write(&*connection, Token::Connection(serial), blocked).is_ok()
        {
            connection.awaits_room = blocked;
        }
    }

    fn answer_request(&mut self, serial: u32, request: Request, fds: Vec<OwnedFd>) {
        let asker = Asker { connection: serial, request: request.id };
        let outcome = match request.call {
            Some(call) if self.may_ask(serial, &call) => self.handle(asker, call, fds),
            Some(_) => {
                Err(Failure::new(FailureKind::Invalid, "serve", "the request", "the first request must be Hello"))
            }
            None => {
                let text =
                    format!("this shim (protocol {PROTOCOL_VERSION}) does not know it; pods made by a newer daemon do");
                Err(Failure::new(FailureKind::Unsupported, "serve", "the request", text))
            }
        };
        match outcome {
            Ok(Outcome::Answer(reply, fds)) => self.answer(asker, reply, fds),
            Ok(Outcome::Later) => (),
            Err(failure) => self.answer(asker, Reply::Failure(failure), Vec::new()),
        }
    }

    fn may_ask(&self, serial: u32, call: &Call) -> bool {
        let greeted = self.connections.iter().any(|connection| connection.serial == serial && connection.greeted);
        greeted || matches!(call, Call::Hello(_))
    }

    fn handle(&mut self, asker: Asker, call: Call, fds: Vec<OwnedFd>) -> Result<Outcome, Failure> {
        match call {
            Call::Hello(_) => Ok(self.hello(asker)),
            Call::GetState(request) => Ok(self.state(&request)),
            Call::CreatePod(request) => self.create_pod(asker, request, fds),
            Call::StartContainer(request) => self.start_container(asker, request, fds),
            Call::Exec(request) => self.start_exec(asker, request, fds),
            Call::SignalContainer(request) => self.signal_container(&request),
            Call::KillExec(request) => self.kill_exec(&request),
            Call::ReopenLog(request) => self.reopen_log(asker, &request),
            Call::DeleteContainer(request) => self.delete_container(&request),
            Call::Shutdown(_) => self.shut_down(asker),
            Call::Release(request) => self.release(&request),
            Call::Resize(request) => self.resize(&request),
            Call::CloseStdin(request) => self.close_stdin(&request),
            Call::Attach(request) => self.attach(&request, fds),
            Call::UpdateContainer(request) => self.update_container(&request, fds),
        }
    }

    fn hello(&mut self, asker: Asker) -> Outcome {
        self.connections.iter_mut().filter(|c| c.serial == asker.connection).for_each(|c| c.greeted = true);
        let hello = HelloReply {
            version: PROTOCOL_VERSION,
            features: vec![GIVEN_NETNS.to_owned(), RESTORE.to_owned(), OTHER_RUNTIMES.to_owned()],
            pid: rustix::process::getpid().as_raw_pid(),
            sandbox: self.sandbox.to_string(),
        };
        Outcome::Answer(Reply::Hello(hello), Vec::new())
    }

    fn state(&self, request: &GetState) -> Outcome {
        let mut reply = StateReply { pid: rustix::process::getpid().as_raw_pid(), ..StateReply::default() };
        let mut fds = Vec::new();
        if *request == GetState::default()
            && let Some((pod, netns)) = self.pod.report()
        {
            reply.pod = Some(pod);
            fds.extend(netns);
        }
        if request.after.is_empty() {
            self.page_of_execs(&request.execs_after, &mut reply);
        }
        if request.execs_after.is_empty() {
            self.page_of_containers(&request.after, &mut reply);
        }
        Outcome::Answer(Reply::State(reply), fds)
    }

    /// As many execs as fill half of a page: the first containers have to fit as well.
    fn page_of_execs(&self, after: &str, reply: &mut StateReply) {
        let mut reports: Vec<ExecReport> = self.execs.iter().map(Exec::report).collect();
        reports.retain(|report| report.exec.as_str() > after);
        reports.sort_by(|a, b| a.exec.cmp(&b.exec));
        let mut bytes = 0;
        for report in reports {
            bytes += report.encoded_len();
            if bytes > PAGE_BYTES / 2 {
                reply.more_execs = true;
                return;
            }
            reply.execs.push(report);
        }
    }

    fn page_of_containers(&self, after: &str, reply: &mut StateReply) {
        let mut reports: Vec<ContainerReport> = self.containers.iter().map(Container::report).collect();
        reports.retain(|report| report.container.as_str() > after);
        reports.sort_by(|a, b| a.container.cmp(&b.container));
        for report in reports {
            if !reply.containers.is_empty() && reply.encoded_len() + report.encoded_len() > PAGE_BYTES {
                reply.more = true;
                return;
            }
            reply.containers.push(report);
        }
    }

    /// Sends an answer; an asker that is gone does not need it.
    pub(crate) fn answer(&mut self, asker: Asker, reply: Reply, fds: Vec<OwnedFd>) {
        self.send(asker.connection, asker.request, reply, fds);
    }

    /// Sends the same answer to several.
    pub(crate) fn answer_all(&mut self, askers: Vec<Asker>, reply: &Reply) {
        askers.into_iter().for_each(|asker| self.answer(asker, reply.clone(), Vec::new()));
    }

    /// Tells everybody.
    pub(crate) fn tell_all(&mut self, event: &Reply) {
        let greeted: Vec<u32> = self.connections.iter().filter(|c| c.greeted).map(|c| c.serial).collect();
        greeted.into_iter().for_each(|serial| self.send(serial, 0, event.clone(), Vec::new()));
    }

    fn send(&mut self, serial: u32, id: u64, reply: Reply, fds: Vec<OwnedFd>) {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.serial == serial) else {
            return;
        };
        if connection.send(id, reply, fds) {
            self.watch_writes(serial);
        } else {
            self.hang_up(serial);
        }
    }

    fn children_ended(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        while let Some(ended) = child::reap() {
            self.child_ended(ended);
        }
    }

    /// Orphans of the pod end here too; they are nobody's.
    fn child_ended(&mut self, ended: Ended) {
        let taken = self.container_process_ended(ended) || self.exec_process_ended(ended) || self.pause_ended(ended);
        if !taken {
            self.writer_ended(ended);
        }
        self.settle_shutdown();
    }

    fn writer_ended(&mut self, ended: Ended) {
        let is_it = |writer: &crate::streams::Writer| writer.alive && writer.process.pid == ended.pid;
        if let Some(container) = self.containers.iter_mut().find(|c| c.writer.as_ref().is_some_and(is_it)) {
            container.writer.iter_mut().for_each(|writer| writer.alive = false);
            let serial = container.serial;
            self.container_writer_ended(serial);
        } else if let Some(exec) = self.execs.iter_mut().find(|e| e.writer.as_ref().is_some_and(is_it)) {
            exec.writer.iter_mut().for_each(|writer| writer.alive = false);
            let serial = exec.serial;
            self.settle_exec(serial);
        }
    }

    fn start_progressed(&mut self, serial: u32) {
        self.timers.set(Timer::Trim, TRIM_AFTER);
        if self.containers.iter().any(|container| container.serial == serial) {
            self.container_progressed(serial);
        } else if self.execs.iter().any(|exec| exec.serial == serial) {
            self.exec_progressed(serial);
        } else {
            self.pause_progressed();
        }
    }

    fn writer_spoke(&mut self, serial: u32) {
        if self.containers.iter().any(|container| container.serial == serial) {
            self.container_writer_spoke(serial);
        } else {
            self.exec_writer_spoke(serial);
        }
    }

    /// Asks epoll to forget a descriptor that is about to be closed.
    pub(crate) fn forget(&self, fd: impl AsFd) {
        self.poller.remove(fd);
    }
}

/// Puts an asker down beside those that wait for the same.
pub(crate) fn wait_too(waiters: &mut Vec<Asker>, asker: Asker, step: &str, object: &str) -> Result<(), Failure> {
    if waiters.len() >= MAX_WAITERS {
        let text = "too many callers wait for it already; ask again later";
        return Err(Failure::new(FailureKind::Exhausted, step, object, text));
    }
    waiters.push(asker);
    Ok(())
}

fn spare() -> Option<OwnedFd> {
    rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn askers_for_one_thing_are_bounded() {
        let mut waiters = Vec::new();
        for request in 0..32 {
            wait_too(&mut waiters, Asker { connection: 1, request }, "start", "c").unwrap();
        }
        let refused = wait_too(&mut waiters, Asker { connection: 1, request: 32 }, "start", "c").unwrap_err();
        assert_eq!((refused.kind(), waiters.len()), (FailureKind::Exhausted, 32));
    }
}
