//! Whether files can be shown under other ids, which pods with a user namespace need: the shim tries it on the file system of images.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Finding;

/// Longest wait for the shim's answer; a dead file system gives none.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const SUBJECT: &str = "mapped ids";

pub(super) fn finding(shim: Option<&Path>, root: &Path) -> Finding {
    let Some(shim) = shim else { return Finding::warn(SUBJECT, "not tried: there is no shim to try it") };
    if !rustix::process::geteuid().is_root() {
        return Finding::warn(SUBJECT, "not tried: only root can");
    }
    let nearest = root.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/"));
    match ask(shim, nearest) {
        Ok(()) => Finding::ok(SUBJECT, format!("{} can be shown in user namespaces", nearest.display())),
        Err(why) => Finding::warn(SUBJECT, format!("{why}; pods with hostUsers: false will not run")),
    }
}

fn ask(shim: &Path, root: &Path) -> Result<(), String> {
    let mut command = Command::new(shim);
    command.arg("--can-map-ids").arg(root).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let failed = |error: std::io::Error| format!("execute {}: {error}", shim.display());
    let mut child = command.spawn().map_err(failed)?;
    let end = Instant::now() + ANSWER_LIMIT;
    while child.try_wait().map_err(failed)?.is_none() {
        if Instant::now() > end {
            let _ = child.kill();
            return Err(format!("{} does not answer within {} s", shim.display(), ANSWER_LIMIT.as_secs()));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    #[test]
    fn an_answer_is_a_status_and_words() {
        assert!(ask(Path::new("/bin/true"), Path::new("/")).is_ok());
        assert!(ask(Path::new("/bin/false"), Path::new("/")).is_err());
        assert!(ask(Path::new("/no/such/shim"), Path::new("/")).unwrap_err().contains("/no/such/shim"));
        assert_eq!(finding(None, Path::new("/")).grade, Grade::Warn);
    }
}
