//! Making a network namespace. Who holds it, and for how long, is the caller's.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::thread::UnshareFlags;
use tokio::sync::{Semaphore, oneshot};

use crate::error::CniError;
use crate::host::kernel;

/// Threads that make network namespaces at a time; the kernel makes one after the other.
const MAX_MAKERS: usize = 16;

static PLACES: Semaphore = Semaphore::const_new(MAX_MAKERS);

/// Makes a network namespace, with its loopback link up. The thread that goes there ends there, so that no other is ever found in it.
///
/// # Errors
/// The kernel refuses it: descriptors, memory, or the namespaces that a user may have (`user.max_net_namespaces`).
pub async fn make_namespace() -> Result<OwnedFd, CniError> {
    let failed = |source| kernel("making", "a network namespace", source);
    let closed = |_| failed(io::ErrorKind::BrokenPipe.into());
    let place = PLACES.acquire().await.map_err(closed)?;
    let (answer, result) = oneshot::channel();
    let body = move || {
        // Given back by the thread, for it works on when nobody waits for it any more.
        let _place = place;
        drop(answer.send(make()));
    };
    let thread = std::thread::Builder::new().name("podwright-netns".to_owned()).stack_size(64 << 10);
    thread.spawn(body).map_err(failed)?;
    result.await.map_err(|_| failed(io::ErrorKind::BrokenPipe.into()))?.map_err(failed)
}

fn make() -> io::Result<OwnedFd> {
    podwright_sys::unshare(UnshareFlags::NEWNET)?;
    podwright_sys::loopback_up()?;
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[tokio::test]
    async fn root_a_namespace_is_made_elsewhere_and_new_each_time() {
        let inode = |file: &File| file.metadata().unwrap().ino();
        let here = || File::open("/proc/thread-self/ns/net").unwrap();
        let before = inode(&here());
        let made = [make_namespace().await.unwrap(), make_namespace().await.unwrap()].map(|fd| inode(&File::from(fd)));
        assert_ne!(made[0], made[1]);
        assert!(!made.contains(&before));
        assert_eq!(inode(&here()), before);
    }
}
