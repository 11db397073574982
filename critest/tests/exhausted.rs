//! A host that has no more of something: space, inodes, files, processes, memory, a writable disk. What needs more of it fails with a
//! clear error and leaves nothing, what gives it back works, and afterwards everything works again without a restart.

#[path = "exhausted/disk.rs"]
mod disk;
#[path = "exhausted/limits.rs"]
mod limits;

use anyhow::{Context, Result, ensure};
use tonic::{Code, Status};

/// Checks that a call was refused for want of something, in words that tell what to do.
fn exhausted<T>(outcome: Result<T>, what: &str, remedy: &str) -> Result<()> {
    refused(outcome, what, Code::ResourceExhausted, remedy)
}

fn refused<T>(outcome: Result<T>, what: &str, code: Code, words: &str) -> Result<()> {
    let error = outcome.err().with_context(|| format!("{what} succeeded"))?;
    let status = error.downcast_ref::<Status>().with_context(|| format!("{what}: no status in {error:?}"))?;
    ensure!(status.code() == code, "{what}: {status:?}");
    ensure!(status.message().contains(words), "{what}: it does not say {words:?}: {}", status.message());
    Ok(())
}
