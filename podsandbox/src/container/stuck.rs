//! Words for processes that SIGKILL did not end: which they are, and where in the kernel they wait.

use std::collections::VecDeque;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Processes of a tree that are looked at.
const MAX_SEEN: usize = 512;
/// Processes that are named.
const MAX_NAMED: usize = 3;

/// A process that lives.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Living {
    /// False sorts first: those that wait for something else than for another process.
    waits_for_others: bool,
    /// In the order of the tree, so that parents come before their children.
    place: usize,
    text: String,
}

/// Says which processes of the tree below `pid` did not end, and what they wait for.
pub(super) fn explain(pid: i32, after: Duration) -> String {
    explain_in(Path::new("/proc"), pid, after)
}

fn explain_in(proc: &Path, pid: i32, after: Duration) -> String {
    let mut living: Vec<Living> =
        tree(proc, pid).into_iter().enumerate().filter_map(|(place, pid)| look(proc, pid, place)).collect();
    living.sort();
    let named: Vec<&str> = living.iter().take(MAX_NAMED).map(|process| process.text.as_str()).collect();
    let (named, more) = match (named.is_empty(), living.len().saturating_sub(MAX_NAMED)) {
        (true, _) => (format!("process {pid}, of which /proc tells nothing"), String::new()),
        (false, 0) => (named.join(", "), String::new()),
        (false, more) => (named.join(", "), format!(" and {more} more")),
    };
    format!(
        "{named}{more} did not end within {} s after SIGKILL; the kernel holds what is in state D, often for a file system that does \
         not answer: look for one, or restart the node; the rest of the pod is given back, and this too when the kernel lets go",
        after.as_secs()
    )
}

/// A process and its descendants, parents first.
fn tree(proc: &Path, pid: i32) -> Vec<i32> {
    let (mut found, mut open) = (Vec::new(), VecDeque::from([pid]));
    while let Some(pid) = open.pop_front().filter(|_| found.len() < MAX_SEEN) {
        found.push(pid);
        let children = read_to_string(process(proc, pid).join(format!("task/{pid}/children"))).unwrap_or_default();
        open.extend(children.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
    }
    found
}

fn look(proc: &Path, pid: i32, place: usize) -> Option<Living> {
    let directory = process(proc, pid);
    let status = read_to_string(directory.join("status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map_or("unknown", str::trim);
    let (name, state) = (field("Name:"), field("State:"));
    if state.starts_with(['Z', 'X']) {
        return None;
    }
    let wait = read_to_string(directory.join("wchan")).unwrap_or_default();
    let wait = if wait.is_empty() || wait == "0" { "unknown" } else { wait.as_str() };
    // Process 1 of a namespace ends only after all others of it.
    let waits_for_others = wait.starts_with("zap_pid_ns") || !state.starts_with('D');
    Some(Living { waits_for_others, place, text: format!("process {pid} ({name}, state {state}, waiting in {wait})") })
}

fn process(proc: &Path, pid: i32) -> PathBuf {
    proc.join(pid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(proc: &Path, pid: i32, status: &str, wait: &str, children: &str) {
        let directory = process(proc, pid);
        std::fs::create_dir_all(directory.join(format!("task/{pid}"))).unwrap();
        for (name, text) in [("status", status), ("wchan", wait), (&format!("task/{pid}/children"), children)] {
            std::fs::write(directory.join(name), text).unwrap();
        }
    }

    #[test]
    fn what_holds_the_others_is_named_first_and_the_dead_are_not() {
        let proc = tempfile::tempdir().unwrap();
        put(proc.path(), 10, "Name:\tsh\nState:\tD (disk sleep)\n", "zap_pid_ns_processes", "11 12 13");
        put(proc.path(), 11, "Name:\tdone\nState:\tZ (zombie)\n", "0", "");
        put(proc.path(), 12, "Name:\tcat\nState:\tD (disk sleep)\n", "request_wait_answer", "");
        put(proc.path(), 13, "Name:\tidle\nState:\tS (sleeping)\n", "0", "14");
        put(proc.path(), 14, "Name:\tidle\nState:\tS (sleeping)\n", "0", "");
        let text = explain_in(proc.path(), 10, Duration::from_secs(10));
        assert!(
            text.starts_with("process 12 (cat, state D (disk sleep), waiting in request_wait_answer), process 10 (sh"),
            "{text}"
        );
        assert!(text.contains("waiting in unknown) and 1 more did not end within 10 s"), "{text}");
        assert!(!text.contains("process 11"), "{text}");
    }

    #[test]
    fn a_process_that_is_gone_has_words_too() {
        let proc = tempfile::tempdir().unwrap();
        assert!(explain_in(proc.path(), 7, Duration::from_secs(10)).starts_with("process 7, of which"));
    }
}
