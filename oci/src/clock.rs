//! The time now, as RFC 3339 text.

use podwright_types::stamp;
use rustix::time::{ClockId, clock_gettime};

/// Now.
pub(crate) fn now() -> String {
    let time = clock_gettime(ClockId::Realtime);
    String::from_utf8_lossy(&stamp(time.tv_sec, time.tv_nsec)).into_owned()
}
