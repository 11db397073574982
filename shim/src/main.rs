//! podwright-shim: one small process per pod. It is subreaper and parent of the pod's containers; it owns their stdio,
//! terminals and exit codes, and goes on while the daemon is away.
//!
//! Its one thread waits in epoll and never does I/O that can block: logs are written by forked children ([`writer`]), and what
//! can hang on the way to a container's program hangs in that container's child. How containers are made is left to
//! `podwright-runtime`; the words between it and the daemon are those of `podwright-shim-api`.

#![forbid(unsafe_code)]

mod child;
mod connection;
mod container;
mod convert;
mod documents;
mod exec;
mod pod;
mod poller;
mod probe;
mod server;
mod shutdown;
mod startup;
mod streams;
mod timers;
mod writer;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(answer) = probe::asked() {
        return answer;
    }
    let shim = match startup::start() {
        Ok(shim) => shim,
        Err(error) => return startup::complain(&error),
    };
    match shim.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => startup::complain(&error),
    }
}
