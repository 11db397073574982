//! Ending all that a shim runs. While the shim lives it is the parent of whoever loses its own, so nobody gets away from below it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// For all of them to end, however many they make meanwhile.
const DESCENDANTS_END_LIMIT: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// A look that sees nobody may have missed one that was made during it: as many in a row as this end it.
const EMPTY_LOOKS: usize = 2;

/// Kills the descendants of a process until there are none. Nothing is left if that fails but what the kernel holds.
pub(super) fn end(shim: Pid) -> Result<(), String> {
    let (give_up_at, mut empty) = (Instant::now() + DESCENDANTS_END_LIMIT, 0);
    while empty < EMPTY_LOOKS {
        let living = Table::read().map_err(|error| format!("list the processes: {error}"))?.below(shim);
        empty = if living.is_empty() { empty + 1 } else { 0 };
        // Children first: a parent's end would show them elsewhere for a moment.
        for pid in living.iter().rev() {
            kill(*pid, shim)
                .map_err(|errno| format!("kill process {}: {}", pid.as_raw_pid(), io::Error::from(errno)))?;
        }
        if let (Some(one), true) = (living.first(), Instant::now() > give_up_at) {
            let (seconds, count) = (DESCENDANTS_END_LIMIT.as_secs(), living.len());
            return Err(format!("{count} of its processes do not end within {seconds} s, as {}", one.as_raw_pid()));
        }
        if !living.is_empty() {
            std::thread::sleep(LOOK_AGAIN);
        }
    }
    Ok(())
}

/// Kills a process if it is below the shim: with the descriptor its number can not go to another, and before that it may have.
fn kill(pid: Pid, shim: Pid) -> Result<(), Errno> {
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(Errno::SRCH) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    if !is_below(pid, shim) {
        return Ok(());
    }
    match pidfd_send_signal(&handle, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn is_below(pid: Pid, shim: Pid) -> bool {
    let (mut at, mut seen) = (pid.as_raw_pid(), HashSet::new());
    while at != shim.as_raw_pid() {
        // Numbers that go round are of processes that came and went meanwhile.
        let parent = fs::read_to_string(format!("/proc/{at}/stat")).ok().and_then(|stat| parent_and_state(&stat));
        match parent {
            Some((parent, _)) if parent > 0 && seen.insert(at) => at = parent,
            Some(_) | None => return false,
        }
    }
    true
}

/// Who is whose child, of those that live.
struct Table(HashMap<i32, Vec<i32>>);

impl Table {
    fn read() -> io::Result<Self> {
        let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            if let Some((parent, state)) = parent_and_state(&stat)
                && !matches!(state, 'Z' | 'X')
            {
                children.entry(parent).or_default().push(pid);
            }
        }
        Ok(Self(children))
    }

    fn below(mut self, top: Pid) -> Vec<Pid> {
        let (mut found, mut open) = (Vec::new(), vec![top.as_raw_pid()]);
        while let Some(children) = open.pop().map(|pid| self.0.remove(&pid).unwrap_or_default()) {
            found.extend(children.iter().copied().filter_map(Pid::from_raw));
            open.extend(children);
        }
        found
    }
}

/// From `/proc/PID/stat`: a name may have anything in it, parentheses too.
fn parent_and_state(stat: &str) -> Option<(i32, char)> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn names_do_not_deceive() {
        assert_eq!(parent_and_state("7 (a) S 1 (b) D 42 7 7 0"), Some((42, 'D')));
        assert_eq!(parent_and_state("7 (sh) Z 1 7"), Some((1, 'Z')));
        assert_eq!(parent_and_state(""), None);
    }

    #[test]
    fn children_of_children_end_and_others_do_not() {
        let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
        // The top one reaps nobody until it is told to go on.
        let script = "(sleep 1001 & sleep 1002 & wait) & sleep 1003 & echo ready; read line";
        let mut top =
            Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(top.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = Pid::from_raw(i32::try_from(top.id()).unwrap()).unwrap();
        assert!(!Table::read().unwrap().below(pid).is_empty());
        end(pid).unwrap();
        assert_eq!(Table::read().unwrap().below(pid), []);
        assert!(top.try_wait().unwrap().is_none() && other.try_wait().unwrap().is_none());
        for child in [&mut top, &mut other] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
