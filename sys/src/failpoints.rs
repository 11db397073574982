//! Points at which a test of the whole kills the daemon from within, exactly as SIGKILL from outside would at that moment. Owns
//! arming one point; what the points are called belongs to the crates that have them. Without the feature `failpoints`
//! nothing of it is left.

#[cfg(feature = "failpoints")]
mod active {
    use std::sync::{Mutex, PoisonError};

    use rustix::process::{Signal, getpid, kill_process};

    /// The armed point, and how often it is passed before it kills.
    static ARMED: Mutex<Option<(String, u32)>> = Mutex::new(None);

    /// Arms a point; one that was armed before is not any more.
    pub fn arm_fail_point(point: &str, passes: u32) {
        *ARMED.lock().unwrap_or_else(PoisonError::into_inner) = Some((point.to_owned(), passes));
    }

    /// Ends this process, without any clean-up, if the point is armed and was passed as often as asked for.
    pub fn fail_point(point: &str) {
        let mut armed = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
        match armed.as_mut() {
            Some((name, 0)) if name == point => {
                let _ = kill_process(getpid(), Signal::KILL);
            }
            Some((name, passes)) if name == point => *passes -= 1,
            Some(_) | None => {}
        }
    }
}

#[cfg(feature = "failpoints")]
pub use active::{arm_fail_point, fail_point};

/// Nothing: points exist only in builds with the feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn fail_point(_: &str) {}
