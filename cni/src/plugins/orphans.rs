//! Plugins that an earlier daemon started and did not live to see the end of, and what killed plugins started themselves. One that still
//! adds would work against the DEL that is to take it back, so it is killed. One that deletes does what is wanted: it gets time
//! to end by itself, as one that is killed half-way may leave what no other DEL finds.

use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::time::Duration;

use podwright_types::SandboxId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Longest wait for the end of one that was killed.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
/// Longest wait for the end of one that deletes.
const DELETES_WITHIN: Duration = Duration::from_secs(10);
/// Most of a process's environment that is read: more than execve(2) takes. By prctl(2) any process can show all of its memory there.
const MAX_ENVIRONMENT_BYTES: u64 = 8 << 20;
/// Rounds of looking: one that was killed may have started another one meanwhile.
const ROUNDS: usize = 8;

/// Kills what runs for a sandbox, or lets it delete, and waits for its end. Blocks.
pub(super) fn end(sandbox: &SandboxId) {
    for _ in 0..ROUNDS {
        let found = running_for(sandbox);
        if found.is_empty() {
            return;
        }
        for pid in found {
            tracing::warn!(%sandbox, pid = pid.as_raw_nonzero().get(), "ending a plugin that an earlier daemon started");
            end_one(pid);
        }
    }
}

fn end_one(pid: Pid) {
    // It may have ended by itself.
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if is_told(pid.as_raw_nonzero().get(), b"CNI_COMMAND=DEL") && ends(&process, DELETES_WITHIN) {
        return;
    }
    if pidfd_send_signal(&process, Signal::KILL).is_err() {
        return;
    }
    if !ends(&process, ENDS_WITHIN) {
        tracing::warn!(
            pid = pid.as_raw_nonzero().get(),
            "a plugin of an earlier daemon does not end; DEL may come too early"
        );
    }
}

fn ends(process: &OwnedFd, limit: Duration) -> bool {
    let limit = Timespec { tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
    matches!(poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit)), Ok(1))
}

/// Processes that were told the sandbox's id as plugins are; what a plugin starts inherits that.
fn running_for(sandbox: &SandboxId) -> Vec<Pid> {
    let wanted = format!("CNI_CONTAINERID={sandbox}");
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let told = pids.filter(|pid| is_outside_of_pods(*pid) && is_told(*pid, wanted.as_bytes()));
    told.filter_map(Pid::from_raw).collect()
}

/// Whether it can be a plugin's process: those see the processes that we see. A container's process could show any environment, and let
/// us wait for memory on a file system that never answers; to ask for its namespace touches no memory of it.
fn is_outside_of_pods(pid: i32) -> bool {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    namespace("self").is_some_and(|own| namespace(&pid.to_string()) == Some(own))
}

fn is_told(pid: i32, wanted: &[u8]) -> bool {
    // That of a process that has ended is empty.
    let environment = start_of(&format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == wanted)
}

fn start_of(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_ENVIRONMENT_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_processes_of_pods_are_not_looked_at() {
        let mut id = [0xc0; 32];
        id[..4].copy_from_slice(&std::process::id().to_le_bytes());
        let sandbox = SandboxId::from_random(id);
        let told = |program: &str, arguments: &[&str]| {
            let mut command = std::process::Command::new(program);
            command.args(arguments).env("CNI_CONTAINERID", sandbox.to_string()).stdin(std::process::Stdio::piped());
            command.stdout(std::process::Stdio::piped()).spawn().unwrap()
        };
        // Each says that it is there, and is until its input ends.
        let mut in_a_pod = told("unshare", &["--pid", "--fork", "sh", "-c", "echo here; read rest"]);
        let mut plugin = told("sh", &["-c", "echo here; read rest"]);
        for child in [&mut in_a_pod, &mut plugin] {
            child.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
        }
        let found: Vec<_> = running_for(&sandbox).into_iter().map(|pid| pid.as_raw_nonzero().get()).collect();
        // unshare itself stays where we are.
        let here = [in_a_pod.id(), plugin.id()].map(|pid| i32::try_from(pid).unwrap());
        for mut child in [in_a_pod, plugin] {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(here.iter().all(|pid| found.contains(pid)), "{found:?}, and not {here:?}");
    }

    #[test]
    fn an_environment_without_end_is_read_in_part() {
        assert_eq!(start_of("/dev/zero").unwrap().len() as u64, MAX_ENVIRONMENT_BYTES);
    }
}
