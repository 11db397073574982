//! Names of LSM profiles and labels: checked against what the host has.

use std::fs;
use std::path::Path;

use crate::error::EngineError;
use crate::model::{AppArmor, SecurityConfig, SelinuxOptions};

/// Our own AppArmor profile, used where an administrator loaded it.
const DEFAULT_PROFILE: &str = "podwright-default";

/// The AppArmor profile of a container, if any.
pub(super) fn apparmor(security: &SecurityConfig) -> Result<Option<String>, EngineError> {
    match &security.apparmor {
        AppArmor::Unconfined => Ok(apparmor_on_host().then(|| "unconfined".into())),
        AppArmor::RuntimeDefault if security.privileged => Ok(None),
        AppArmor::RuntimeDefault => Ok(loaded(DEFAULT_PROFILE).then(|| DEFAULT_PROFILE.into())),
        AppArmor::Localhost(name) if loaded(name) => Ok(Some(name.clone())),
        AppArmor::Localhost(name) if apparmor_on_host() => Err(EngineError::Invalid(format!(
            "AppArmor profile {name:?}: it is not loaded on this node; load it with apparmor_parser"
        ))),
        AppArmor::Localhost(name) => Err(EngineError::Invalid(format!(
            "AppArmor profile {name:?}: this node has no AppArmor; ask for no profile or use another node"
        ))),
    }
}

fn apparmor_on_host() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.starts_with('Y'))
}

fn loaded(profile: &str) -> bool {
    let profiles = fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
    profiles.lines().any(|line| line.rsplit_once(" (").is_some_and(|(name, _)| name == profile))
}

/// The SELinux label of a container's process, if any.
pub(super) fn process_label(security: &SecurityConfig) -> Result<Option<String>, EngineError> {
    let Some(options) = &security.selinux else { return Ok(None) };
    check(options)?;
    let type_ = if security.privileged { "spc_t" } else { "container_t" };
    Ok(selinux_on_host().then(|| join(options, "system_u", "system_r", type_)))
}

/// The SELinux label of what is mounted for it, if any.
pub(super) fn mount_label(security: &SecurityConfig) -> Result<Option<String>, EngineError> {
    let Some(options) = &security.selinux else { return Ok(None) };
    check(options)?;
    let files = SelinuxOptions { role: String::new(), type_: String::new(), ..options.clone() };
    Ok((selinux_on_host() && !security.privileged).then(|| join(&files, "system_u", "object_r", "container_file_t")))
}

fn selinux_on_host() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

fn join(options: &SelinuxOptions, user: &str, role: &str, type_: &str) -> String {
    let or = |value: &str, default: &str| if value.is_empty() { default.to_owned() } else { value.to_owned() };
    let parts = [or(&options.user, user), or(&options.role, role), or(&options.type_, type_), or(&options.level, "s0")];
    parts.join(":")
}

fn check(options: &SelinuxOptions) -> Result<(), EngineError> {
    let bad = |part: &str, value: &str| EngineError::Invalid(format!("SELinux {part} {value:?}: it is malformed"));
    for (part, value) in [("user", &options.user), ("role", &options.role), ("type", &options.type_)] {
        if !value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
            return Err(bad(part, value));
        }
    }
    if options.level.is_empty() || is_level(&options.level) { Ok(()) } else { Err(bad("level", &options.level)) }
}

/// `s0`, `s0-s1`, each with categories as `:c1,c2.c5`.
fn is_level(level: &str) -> bool {
    let (range, categories) = level.split_once(':').map_or((level, None), |(range, rest)| (range, Some(rest)));
    let number = |text: &str, letter| {
        let digits = text.strip_prefix(letter).unwrap_or_default();
        !digits.is_empty() && digits.len() <= 4 && digits.bytes().all(|b| b.is_ascii_digit())
    };
    let sensitivities: Vec<&str> = range.split('-').collect();
    sensitivities.len() <= 2
        && sensitivities.iter().all(|s| number(s, 's'))
        && categories.is_none_or(|list| {
            list.split(',').all(|c| c.split('.').count() <= 2 && c.split('.').all(|c| number(c, 'c')))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_checked() {
        for good in ["s0", "s0-s15", "s0:c1", "s0:c1,c2", "s0:c1.c1023"] {
            assert!(is_level(good), "{good}");
        }
        for bad in ["", "0", "s", "s0:", "s0:x", "s0:c1,", "s0;reboot", "s0-s1-s2"] {
            assert!(!is_level(bad), "{bad}");
        }
    }

    #[test]
    fn bad_options_fail() {
        let options = SelinuxOptions { type_: "a:b".into(), ..SelinuxOptions::default() };
        let security = SecurityConfig { selinux: Some(options), ..SecurityConfig::default() };
        assert!(matches!(process_label(&security), Err(EngineError::Invalid(_))));
    }

    #[test]
    fn an_unloaded_profile_fails() {
        let apparmor_name = AppArmor::Localhost("podwright-test-no-such-profile".into());
        let security = SecurityConfig { apparmor: apparmor_name, ..SecurityConfig::default() };
        assert!(matches!(apparmor(&security), Err(EngineError::Invalid(_))));
    }
}
