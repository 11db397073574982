//! Places where a test can make an operation fail, wait for ever, or kill the process (`podwright_sys::arm_fail_point`). Their
//! names come from the tables of steps. Without the feature `failpoints` (or a unit test) nothing of it is left.

#[cfg(any(test, feature = "failpoints"))]
mod active {
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    use crate::EngineError;
    use crate::util::lock;

    /// What happens at a fail point.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Failure {
        /// The step fails.
        Error,
        /// The operation never goes on, as if the daemon had been stopped there.
        Hang,
    }

    /// The fail points of one engine; `sandbox network` is before a step, `sandbox network done` after it, `sandbox undo
    /// network` before it is undone.
    #[derive(Debug, Clone, Default)]
    pub struct FailPoints {
        set: Arc<Mutex<HashMap<String, Failure>>>,
        reached: Arc<tokio::sync::Notify>,
    }

    impl FailPoints {
        /// Arms a point.
        pub fn set(&self, point: &str, failure: Failure) {
            lock(&self.set).insert(point.to_owned(), failure);
        }

        /// Disarms all.
        pub fn clear(&self) {
            lock(&self.set).clear();
        }

        /// Returns when an operation hangs at a point.
        pub async fn hung(&self) {
            self.reached.notified().await;
        }

        pub(crate) async fn hit(&self, point: impl FnOnce() -> String) -> Result<(), EngineError> {
            let point = point();
            podwright_sys::fail_point(&point);
            let failure = lock(&self.set).get(&point).copied();
            match failure {
                None => Ok(()),
                Some(Failure::Error) => Err(EngineError::Internal(format!("fail point {point:?} is set"))),
                Some(Failure::Hang) => {
                    self.reached.notify_one();
                    std::future::pending().await
                }
            }
        }
    }
}

/// All points of a table, in the order of making and then of tearing down.
#[cfg(any(test, feature = "failpoints"))]
pub(crate) fn of_table<T: crate::ladder::Climb>() -> Vec<String> {
    let making = |name| [format!("{} {name}", T::KIND), format!("{} {name} done", T::KIND)];
    let steps = || T::STEPS.iter().map(|step| step.name);
    steps().flat_map(making).chain(steps().rev().map(|name| format!("{} undo {name}", T::KIND))).collect()
}

#[cfg(any(test, feature = "failpoints"))]
pub use active::{FailPoints, Failure};

/// The fail points of one engine: none.
#[cfg(not(any(test, feature = "failpoints")))]
#[derive(Debug, Clone, Default)]
pub(crate) struct FailPoints(());

#[cfg(not(any(test, feature = "failpoints")))]
impl FailPoints {
    #[allow(clippy::unused_async)]
    pub(crate) async fn hit(&self, _: impl FnOnce() -> String) -> Result<(), crate::EngineError> {
        Ok(())
    }
}
