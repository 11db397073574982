//! Our AppArmor profile, loaded at the daemon's start where the host has AppArmor. Which container gets it is left to the engine.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// Longest wait for apparmor_parser; it compiles the profile.
const LOAD_LIMIT: Duration = Duration::from_secs(20);
const PARSER: &str = "apparmor_parser";
const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";
/// The profile's name.
const NAME: &str = "podwright-default";
/// The profile. It includes no files, which a node may lack.
const PROFILE: &str = include_str!("apparmor/podwright-default");

/// Loads the profile if the host has AppArmor and not the profile: an administrator's own of this name stays. Returns its name if it
/// is there.
pub(crate) async fn load_default() -> Option<&'static str> {
    if !std::fs::read_to_string(ENABLED).is_ok_and(|on| on.starts_with('Y')) {
        return None;
    }
    if std::fs::read_to_string(LOADED).is_ok_and(|profiles| is_loaded(&profiles)) {
        return Some(NAME);
    }
    match load().await {
        Ok(()) => {
            tracing::info!(profile = NAME, "AppArmor profile loaded");
            Some(NAME)
        }
        Err(reason) => {
            let advice =
                "containers that ask for RuntimeDefault run without an AppArmor profile; install apparmor_parser";
            tracing::warn!(profile = NAME, reason, advice, "cannot load the AppArmor profile");
            None
        }
    }
}

fn is_loaded(profiles: &str) -> bool {
    profiles.lines().any(|line| line.rsplit_once(" (").is_some_and(|(name, _)| name == NAME))
}

async fn load() -> Result<(), String> {
    let failed = |error: std::io::Error| format!("execute {PARSER}: {error}");
    // -K: no cache, whose directory may be missing or read-only.
    let mut command = Command::new(PARSER);
    command.args(["-K", "-r"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let mut stdin = child.stdin.take();
    let work = async {
        if let Some(stdin) = &mut stdin {
            stdin.write_all(PROFILE.as_bytes()).await?;
        }
        drop(stdin.take());
        child.wait_with_output().await
    };
    match timeout(LOAD_LIMIT, work).await {
        Err(_) => Err(format!("{PARSER} did not end within {} s", LOAD_LIMIT.as_secs())),
        Ok(Err(error)) => Err(failed(error)),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_known_by_its_name() {
        assert!(PROFILE.contains(&format!("profile {NAME} ")));
        assert!(is_loaded("unconfined_x (enforce)\npodwright-default (enforce)\n"));
        assert!(!is_loaded("podwright-default2 (enforce)\nnot podwright-default (complain)\n"));
    }
}
