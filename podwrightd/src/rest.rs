//! Coming to rest: after the start, and after each burst of work, memory that only those needed is given back.
//!
//! Most of it is the program itself: starting, and making or removing pods, runs through most of its code, and what kubelet asks of a quiet
//! daemon through little. The other part is freed memory that the allocator keeps.

use std::time::Duration;

use podwright_sys::{forget_program_pages, trim_heap};

/// How long after the start is looked whether it is quiet, and how often then.
const FIRST_LOOK: Duration = Duration::from_millis(250);
const LOOK: Duration = Duration::from_secs(1);
/// Hundredths of a second of processor time between two looks from which on there is work, and up to which it is quiet. What kubelet asks by
/// itself takes less, with 500 pods too.
const WORK_TICKS: u64 = 8;
const QUIET_TICKS: u64 = 3;

/// Whether there was work, and whether it has ended.
struct Watch {
    before: u64,
    worked: bool,
}

impl Watch {
    /// From the start on, which is work.
    fn new(ticks: u64) -> Self {
        Self { before: ticks, worked: true }
    }

    /// Whether work has ended since it was asked last; `ticks` is all processor time that was used so far.
    fn has_ended(&mut self, ticks: u64) -> bool {
        let used = ticks.saturating_sub(self.before);
        self.before = ticks;
        self.worked |= used >= WORK_TICKS;
        self.worked && used <= QUIET_TICKS && std::mem::take(&mut self.worked)
    }
}

/// Gives memory back whenever work ends, for ever.
pub(crate) async fn rest_when_quiet() {
    let mut watch = Watch::new(ticks());
    let mut pause = FIRST_LOOK;
    loop {
        tokio::time::sleep(pause).await;
        pause = LOOK;
        if watch.has_ended(ticks()) {
            let _ = tokio::task::spawn_blocking(rest).await;
        }
    }
}

fn rest() {
    trim_heap();
    match forget_program_pages() {
        Ok(bytes) => tracing::debug!(bytes, "at rest: pages of the program were given back"),
        Err(error) => tracing::debug!(%error, "pages of the program can not be given back"),
    }
}

/// Processor time of this process in hundredths of a second; proc_pid_stat(5).
fn ticks() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit(')').next().unwrap_or_default();
    after_name.split_ascii_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_and_each_burst_end_once() {
        let mut watch = Watch::new(10);
        assert!(!watch.has_ended(18), "still starting");
        assert!(watch.has_ended(18));
        assert!(!watch.has_ended(18));
        assert!(!watch.has_ended(18 + WORK_TICKS), "a burst");
        assert!(!watch.has_ended(18 + WORK_TICKS + QUIET_TICKS + 1), "not quiet yet");
        assert!(watch.has_ended(18 + WORK_TICKS + QUIET_TICKS + 2));
        assert!(!watch.has_ended(18 + 2 * WORK_TICKS), "kubelet asks");
    }

    #[test]
    fn own_time_is_read() {
        let before = ticks();
        let mut sum = 0_u64;
        while ticks() == before {
            sum = sum.wrapping_add(1);
        }
        assert!(ticks() > before && sum > 0);
    }
}
