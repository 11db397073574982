//! Small helpers without a better home: locks that survive a panic elsewhere, the clock, the boot id.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Locks; a holder that panicked left plain data behind, which stays usable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nanoseconds since the epoch.
pub(crate) fn now_nanos() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

/// 32 random bytes, for an id.
pub(crate) fn random_bytes() -> Result<[u8; 32], crate::EngineError> {
    let mut bytes = [0; 32];
    match rustix::rand::getrandom(bytes.as_mut_slice(), rustix::rand::GetRandomFlags::empty()) {
        Ok(32) => Ok(bytes),
        Ok(_) => Err(crate::EngineError::Internal("make an id: the kernel gave too few random bytes; repeat".into())),
        Err(e) => Err(crate::EngineError::Internal(format!("make an id: read random bytes: {e}; repeat"))),
    }
}

/// The id that the kernel drew at this boot.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}
