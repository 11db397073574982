//! What is to be looked at again at a certain time. A handful at most, so a list will do.

use std::time::{Duration, Instant};

/// What to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// A container, by serial.
    Container(u32),
    /// An exec, by serial.
    Exec(u32),
    /// The pod's pause process.
    Pause,
    /// The end of the shim.
    Shutdown,
    /// The heap, after something large was dropped.
    Trim,
}

/// Timers that were set.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    set: Vec<(Instant, Timer)>,
}

impl Timers {
    /// Looks at something after a while; replaces a timer for the same thing only by an earlier one.
    pub(crate) fn set(&mut self, timer: Timer, after: Duration) {
        let at = Instant::now() + after;
        match self.set.iter_mut().find(|(_, set)| *set == timer) {
            Some((when, _)) => *when = at.min(*when),
            None => self.set.push((at, timer)),
        }
    }

    /// How long until the first is due.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.set.iter().map(|(at, _)| at.saturating_duration_since(Instant::now())).min()
    }

    /// Takes those that are due.
    pub(crate) fn due(&mut self) -> Vec<Timer> {
        let now = Instant::now();
        let due = self.set.iter().filter(|(at, _)| *at <= now).map(|(_, timer)| *timer).collect();
        self.set.retain(|(at, _)| *at > now);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_time_counts_and_each_is_due_once() {
        let mut timers = Timers::default();
        timers.set(Timer::Pause, Duration::from_secs(60));
        timers.set(Timer::Pause, Duration::ZERO);
        timers.set(Timer::Container(1), Duration::from_secs(60));
        assert_eq!(timers.due(), [Timer::Pause]);
        assert_eq!(timers.due(), []);
        assert!(timers.next().is_some_and(|left| left > Duration::from_secs(50)));
    }
}
