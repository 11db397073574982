//! Numbers of one kind from one contender.

use std::time::Duration;

/// Measured values, in the unit of their row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// One value.
    #[cfg(test)]
    pub(crate) fn one(value: f64) -> Self {
        Self(vec![value])
    }

    /// Adds a time in milliseconds.
    pub(crate) fn push(&mut self, taken: Duration) {
        self.0.push(taken.as_secs_f64() * 1000.0);
    }

    /// Adds a value.
    pub(crate) fn push_value(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The value that `percent` of all are at most; 0 without values.
    pub(crate) fn at(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(index).copied().unwrap_or_default()
    }

    /// The same values, each with `more` added.
    pub(crate) fn shifted(&self, more: f64) -> Self {
        Self(self.0.iter().map(|value| value + more).collect())
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// A count as a number with a fraction.
#[allow(clippy::cast_precision_loss)] // Far below 2^52.
pub(crate) fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_values() {
        let samples = Samples((1..=100).rev().map(f64::from).collect());
        assert_eq!((samples.at(50), samples.at(95), samples.at(100), samples.len()), (51.0, 96.0, 100.0, 100));
        assert_eq!(Samples::default().at(50), 0.0);
        assert_eq!(Samples::one(3.0).at(99), 3.0);
        assert_eq!(samples.shifted(1.0).at(50), 52.0);
    }
}
