//! Time stamps of log lines.

pub(super) use podwright_types::Stamp;
use podwright_types::stamp;
use rustix::time::{ClockId, clock_gettime};

/// The time now.
pub(super) fn now() -> Stamp {
    let time = clock_gettime(ClockId::Realtime);
    stamp(time.tv_sec, time.tv_nsec)
}
