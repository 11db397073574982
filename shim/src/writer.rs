//! The log writer: a forked child for each container, which owns everything that can block on its output.
//!
//! ```text
//! container ── stdout, stderr or terminal ──> writer ──> log file
//!           <── stdin ──────────────────────  writer <─> clients that attached
//! ```
//!
//! The shim's loop tells it what to do over a socket ([`control`]). If the disk hangs, only this process hangs, and at worst
//! the container, once its pipe is full. Execs with a terminal use the same process, without a log and with one client that
//! must not lose anything. Before it takes a byte of a container it gives up what it does not need ([`confined`]).

mod client;
mod confined;
pub(crate) mod control;
mod input;
mod lines;
mod log;
mod spare;
mod stamp;
mod task;

pub(crate) use task::{Plan, run};
