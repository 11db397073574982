//! The copy of the shim's binary that shims execute, which nothing inside a container can write to.
//!
//! A process of a container can reach the binary of the process that made it through `/proc/<pid>/exe`. What it finds there is
//! on a read-only mount that is attached nowhere, or a sealed memfd where such a mount can not be made (the binary is itself on
//! a mount of another namespace, or one that must not be cloned).

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

pub(super) fn detached_clone(path: &Path) -> io::Result<OwnedFd> {
    podwright_sys::clone_file_readonly(path).or_else(|_| sealed_copy(path))
}

fn sealed_copy(path: &Path) -> io::Result<OwnedFd> {
    let mut source = File::open(path)?;
    let mut copy = File::from(memfd_create("podwright-shim", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    io::copy(&mut source, &mut copy)?;
    fcntl_add_seals(&copy, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(copy.into())
}
