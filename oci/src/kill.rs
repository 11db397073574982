//! `kill`.

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::arguments::KillOptions;
use crate::container;
use crate::store::Store;

/// Names and numbers on every architecture that Podwright is built for.
const NAMES: [(&str, i32); 34] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];
const REALTIME: (i32, i32) = (34, 64);

/// Number of a signal by number or name, with or without SIG.
pub(crate) fn number(text: &str) -> Result<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = || NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    let realtime = || {
        let after = |prefix: &str| name.strip_prefix(prefix);
        let offset = |rest: &str| if rest.is_empty() { Some(0) } else { rest.parse::<i32>().ok() };
        match (after("RTMIN"), after("RTMAX")) {
            (Some(rest), _) => offset(rest).map(|offset| REALTIME.0 + offset),
            (None, Some(rest)) => offset(rest).map(|offset| REALTIME.1 + offset),
            (None, None) => None,
        }
    };
    match name.parse().ok().or_else(named).or_else(realtime).filter(|number| (1..=REALTIME.1).contains(number)) {
        Some(number) => Ok(number),
        None => bail!("{text:?} is no signal; give a name such as TERM, or a number from 1 to 64"),
    }
}

/// Sends a signal. Killing a container that shares its pid namespace kills all its processes: none of them would end with the first.
pub(crate) fn kill(store: &Store, options: &KillOptions) -> Result<()> {
    let number = number(&options.signal)?;
    let (place, record) = store.find(&options.id)?;
    let is_kill = number == Signal::KILL.as_raw();
    if options.all || (is_kill && !record.own_processes) {
        let cgroup = container::cgroup(&record)?;
        return match is_kill {
            true => cgroup.kill_all(),
            false => cgroup.signal_all_by_number(number),
        }
        .with_context(|| format!("cannot signal the processes of container {:?}", options.id));
    }
    let init = container::init(&place, &record)?;
    podwright_sys::signal_pidfd(&init, number).with_context(|| format!("cannot signal container {:?}", options.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, expected) in
            [("9", 9), ("KILL", 9), ("SIGKILL", 9), ("sigterm", 15), ("RTMIN+3", 37), ("SIGRTMAX-1", 63)]
        {
            assert_eq!(number(text).unwrap(), expected, "{text}");
        }
        for bad in ["", "0", "65", "-1", "NOPE", "SIG", "RTMIN+x", "RTMAX+1"] {
            assert!(number(bad).is_err(), "{bad:?} was taken");
        }
    }
}
