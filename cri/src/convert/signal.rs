//! Signals: the API counts them in the order of their names, Linux does not.

use podwright_cri_api::v1;

use crate::field::{self, BadField};

/// The first real-time signal that programs may use; glibc keeps 32 and 33 to itself.
const RTMIN: i32 = 34;
/// The last real-time signal.
const RTMAX: i32 = 64;

/// Linux numbers of the named signals. Of two names for one signal the second is the one that is told.
const NAMED: [(v1::Signal, i32); 34] = [
    (v1::Signal::Sigcld, 17),
    (v1::Signal::Sigiot, 6),
    (v1::Signal::Sigpoll, 29),
    (v1::Signal::Sighup, 1),
    (v1::Signal::Sigint, 2),
    (v1::Signal::Sigquit, 3),
    (v1::Signal::Sigill, 4),
    (v1::Signal::Sigtrap, 5),
    (v1::Signal::Sigabrt, 6),
    (v1::Signal::Sigbus, 7),
    (v1::Signal::Sigfpe, 8),
    (v1::Signal::Sigkill, 9),
    (v1::Signal::Sigusr1, 10),
    (v1::Signal::Sigsegv, 11),
    (v1::Signal::Sigusr2, 12),
    (v1::Signal::Sigpipe, 13),
    (v1::Signal::Sigalrm, 14),
    (v1::Signal::Sigterm, 15),
    (v1::Signal::Sigstkflt, 16),
    (v1::Signal::Sigchld, 17),
    (v1::Signal::Sigcont, 18),
    (v1::Signal::Sigstop, 19),
    (v1::Signal::Sigtstp, 20),
    (v1::Signal::Sigttin, 21),
    (v1::Signal::Sigttou, 22),
    (v1::Signal::Sigurg, 23),
    (v1::Signal::Sigxcpu, 24),
    (v1::Signal::Sigxfsz, 25),
    (v1::Signal::Sigvtalrm, 26),
    (v1::Signal::Sigprof, 27),
    (v1::Signal::Sigwinch, 28),
    (v1::Signal::Sigio, 29),
    (v1::Signal::Sigpwr, 30),
    (v1::Signal::Sigsys, 31),
];

/// The Linux number of a signal of the API; `None` for the runtime's default.
pub(crate) fn to_linux(field: &str, value: i32) -> Result<Option<i32>, BadField> {
    let signal: v1::Signal = field::known(field, value)?;
    if signal == v1::Signal::RuntimeDefault {
        return Ok(None);
    }
    let named = NAMED.iter().find(|(name, _)| *name == signal).map(|(_, number)| *number);
    // Real-time signals are in order in both, from RTMIN to RTMAX.
    Ok(Some(named.unwrap_or(value - v1::Signal::Sigrtmin as i32 + RTMIN)))
}

/// The signal of the API with a Linux number.
pub(crate) fn from_linux(number: i32) -> v1::Signal {
    if (RTMIN..=RTMAX).contains(&number) {
        let value = number - RTMIN + v1::Signal::Sigrtmin as i32;
        return v1::Signal::try_from(value).unwrap_or(v1::Signal::RuntimeDefault);
    }
    NAMED.iter().rev().find(|(_, n)| *n == number).map_or(v1::Signal::RuntimeDefault, |(name, _)| *name)
}
