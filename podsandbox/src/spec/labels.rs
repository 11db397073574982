//! Names of LSM profiles and labels: checked against what the host has.

use std::fs;
use std::io::Write;
use std::path::Path;

use podwright_types::SandboxId;

use crate::error::EngineError;
use crate::model::{AppArmor, SecurityConfig, SelinuxOptions};

/// Where SELinux is spoken to.
const SELINUX: &str = "/sys/fs/selinux";
/// Categories that policies have.
const CATEGORIES: u64 = 1024;

/// The AppArmor profile of a container, if any. `default` was loaded; without it a container would run unconfined and nobody know.
pub(super) fn apparmor(security: &SecurityConfig, default: Option<&str>) -> Result<Option<String>, EngineError> {
    match &security.apparmor {
        AppArmor::Unconfined => Ok(apparmor_on_host().then(|| "unconfined".into())),
        AppArmor::RuntimeDefault if security.privileged => Ok(None),
        AppArmor::RuntimeDefault => match default {
            Some(name) if !loaded(name) => Err(EngineError::FailedPrecondition(format!(
                "AppArmor profile {name:?}: somebody has unloaded it since the daemon started; restart the daemon, which loads it again"
            ))),
            name => Ok(name.map(Into::into)),
        },
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

/// SELinux labels of a container: of its process, and of the files that are made for it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SelinuxLabels {
    pub(super) process: Option<String>,
    pub(super) files: Option<String>,
}

/// The labels of a container; none where they are not wanted, on a host without SELinux, or whose policy knows nothing of containers.
pub(super) fn selinux(
    wanted: bool,
    security: &SecurityConfig,
    pod: &SecurityConfig,
    sandbox: &SandboxId,
) -> Result<SelinuxLabels, EngineError> {
    let asked = security.selinux.as_ref().or(pod.selinux.as_ref());
    asked.map_or(Ok(()), check)?;
    if !wanted || !Path::new(SELINUX).join("enforce").exists() {
        return Ok(SelinuxLabels::default());
    }
    let (process, files) = compose(asked, security.privileged, sandbox);
    match (is_known(&process), is_known(&files), asked) {
        (true, true, _) => Ok(SelinuxLabels { process: Some(process), files: Some(files) }),
        (_, _, None) => Ok(SelinuxLabels::default()),
        (known, _, Some(_)) => {
            let label = if known { files } else { process };
            Err(EngineError::Invalid(format!("SELinux label {label}: this node's policy does not know it")))
        }
    }
}

/// The label of what all containers of a pod share.
pub(crate) fn shared_files(
    wanted: bool,
    pod: &SecurityConfig,
    sandbox: &SandboxId,
) -> Result<Option<String>, EngineError> {
    Ok(selinux(wanted, pod, pod, sandbox)?.files)
}

/// Process and files. What was not asked for is the policy's usual, at a level of the pod's own: so one pod's processes can not
/// touch another's files.
fn compose(asked: Option<&SelinuxOptions>, privileged: bool, sandbox: &SandboxId) -> (String, String) {
    let nothing = SelinuxOptions::default();
    let (options, pods) = (asked.unwrap_or(&nothing), level_of(sandbox));
    let or = |value: &str, default: &str| if value.is_empty() { default.to_owned() } else { value.to_owned() };
    let (kind, level) = if privileged { ("spc_t", "s0") } else { ("container_t", pods.as_str()) };
    let user = or(&options.user, "system_u");
    let process =
        [user.clone(), or(&options.role, "system_r"), or(&options.type_, kind), or(&options.level, level)].join(":");
    let files = [user, "object_r".into(), "container_file_t".into(), or(&options.level, &pods)].join(":");
    (process, files)
}

/// Two of the 1024 categories, by the sandbox's id: known again without a record.
fn level_of(sandbox: &SandboxId) -> String {
    // FNV-1a: stable over versions, which the standard hasher is not.
    let hash = sandbox
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let first = hash % CATEGORIES;
    // Never the same twice.
    let second = (first + 1 + (hash / CATEGORIES) % (CATEGORIES - 1)) % CATEGORIES;
    format!("s0:c{},c{}", first.min(second), first.max(second))
}

/// Whether the policy has this label: the kernel takes what it knows.
fn is_known(label: &str) -> bool {
    fs::OpenOptions::new()
        .write(true)
        .open(Path::new(SELINUX).join("context"))
        .is_ok_and(|mut file| file.write_all(label.as_bytes()).is_ok())
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

    fn sandbox(digit: char) -> SandboxId {
        digit.to_string().repeat(64).parse().unwrap()
    }

    #[test]
    fn bad_options_fail() {
        for bad in [
            SelinuxOptions { type_: "a:b".into(), ..SelinuxOptions::default() },
            SelinuxOptions { level: "s0,c4,c5".into(), ..SelinuxOptions::default() },
        ] {
            let security = SecurityConfig { selinux: Some(bad), ..SecurityConfig::default() };
            let plain = SecurityConfig::default();
            assert!(matches!(selinux(true, &security, &plain, &sandbox('a')), Err(EngineError::Invalid(_))));
            assert!(matches!(selinux(true, &plain, &security, &sandbox('a')), Err(EngineError::Invalid(_))));
        }
    }

    #[test]
    fn each_pod_has_a_level_of_its_own() {
        let (process, files) = compose(None, false, &sandbox('a'));
        let level = process.strip_prefix("system_u:system_r:container_t:").unwrap();
        assert!(is_level(level) && level.starts_with("s0:c") && level.contains(",c"), "{level}");
        assert_eq!(files, format!("system_u:object_r:container_file_t:{level}"));
        assert_eq!(compose(None, false, &sandbox('a')).0, process, "containers of a pod share it");
        assert_ne!(compose(None, false, &sandbox('b')).0, process);
    }

    #[test]
    fn what_was_asked_for_is_taken() {
        let (process, files) = compose(None, true, &sandbox('a'));
        assert_eq!(process, "system_u:system_r:spc_t:s0");
        assert!(files.starts_with("system_u:object_r:container_file_t:s0:c"), "{files}");
        let level = SelinuxOptions { level: "s0".into(), ..SelinuxOptions::default() };
        let (process, files) = compose(Some(&level), false, &sandbox('a'));
        assert_eq!(
            (process.as_str(), files.as_str()),
            ("system_u:system_r:container_t:s0", "system_u:object_r:container_file_t:s0")
        );
        let all = SelinuxOptions { user: "u".into(), role: "r".into(), type_: "t".into(), level: "s0:c4,c5".into() };
        assert_eq!(compose(Some(&all), true, &sandbox('a')).0, "u:r:t:s0:c4,c5");
    }

    #[test]
    fn an_unloaded_profile_fails() {
        let apparmor_name = AppArmor::Localhost("podwright-test-no-such-profile".into());
        let security = SecurityConfig { apparmor: apparmor_name, ..SecurityConfig::default() };
        assert!(matches!(apparmor(&security, None), Err(EngineError::Invalid(_))));
    }

    #[test]
    fn a_default_profile_that_was_unloaded_since_is_an_error() {
        let gone = Some("podwright-test-no-such-profile");
        let mut security = SecurityConfig { apparmor: AppArmor::RuntimeDefault, ..SecurityConfig::default() };
        let error = apparmor(&security, gone).unwrap_err();
        assert!(matches!(&error, EngineError::FailedPrecondition(text) if text.contains("unloaded")), "{error}");
        // A node that never had it, and a container that is not confined.
        assert_eq!(apparmor(&security, None), Ok(None));
        security.privileged = true;
        assert_eq!(apparmor(&security, gone), Ok(None));
    }
}
