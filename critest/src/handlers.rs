//! Other OCI runtimes as runtime handlers of a daemon under test: where they are, and the files that name them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use podwright_testutil::{program, write_program};

/// The v2 hierarchy of a host whose controllers are those of v1.
const UNIFIED: &str = "/sys/fs/cgroup/unified";
/// Ours, which is always there.
const OURS: &str = "podwright-oci";

/// The program of a runtime; scripts that it needs go to `dir`. `None` if it is not installed.
///
/// # Errors
/// Ours is not built, or a script can not be written.
pub fn runtime(name: &str, dir: &Path) -> Result<Option<PathBuf>> {
    if name == OURS {
        return program(name).map(Some);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(found) = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file()) else {
        return Ok(None);
    };
    let controllers = fs::read_to_string(format!("{UNIFIED}/cgroup.controllers")).unwrap_or_default();
    if name != "crun" || controllers.trim().is_empty() {
        return Ok(Some(found));
    }
    // crun refuses hosts that have controllers of v1 and of v2; it is shown those of v1 alone.
    let show = format!("mount --make-rslave / && umount {UNIFIED} && exec {} \"$@\"", found.display());
    let script = dir.join("crun-of-v1");
    let text = format!("#!/bin/sh\nexec unshare --mount --propagation unchanged sh -c '{show}' crun \"$@\"\n");
    write_program(&script, &text)?;
    Ok(Some(script))
}

/// Writes the drop-in file of a handler.
///
/// # Errors
/// It can not be written.
pub fn drop_in(dir: &Path, name: &str, program: &Path, more: &str) -> Result<()> {
    let text = format!("[runtime]\ntype = \"oci\"\npath = {program:?}\n{more}");
    fs::write(dir.join(format!("{name}.toml")), text).context("writing a drop-in file")
}
