//! The process of a container: its arguments, environment, directory, user and stop signal.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, User};

use super::{Input, capabilities, labels};
use crate::error::EngineError;
use crate::model::{ContainerConfig, UserSpec};
use crate::ports::ImageConfig;

/// Where programs are looked for if neither image nor caller says.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const SIGTERM: i32 = 15;
/// Highest signal of Linux.
const SIGRTMAX: i32 = 64;

pub(super) fn process(input: &Input) -> Result<Process, EngineError> {
    let (config, security) = (&input.config, &input.config.security);
    let mut process = Process::default();
    process
        .set_terminal(config.terminal.then_some(true))
        .set_user(user(config, &input.image)?)
        .set_args(Some(args(config, &input.image)?))
        .set_env(Some(environment(config, &input.image, &input.hostname)?))
        .set_cwd(cwd(config, &input.image))
        .set_capabilities(Some(capabilities::capabilities(security)?))
        .set_rlimits(None)
        .set_no_new_privileges(Some(security.no_new_privileges))
        .set_apparmor_profile(labels::apparmor(security, input.apparmor_profile.as_deref())?)
        .set_selinux_label(input.selinux()?.process)
        .set_oom_score_adj(config.resources.oom_score_adj);
    Ok(process)
}

/// Kubernetes' table of command, args, ENTRYPOINT and CMD: a command replaces both of the image, arguments alone replace CMD.
pub(super) fn args(config: &ContainerConfig, image: &ImageConfig) -> Result<Vec<String>, EngineError> {
    let (program, arguments) = match (config.command.is_empty(), config.args.is_empty()) {
        (false, _) => (&config.command, &config.args),
        (true, false) => (&image.entrypoint, &config.args),
        (true, true) => (&image.entrypoint, &image.cmd),
    };
    let all: Vec<String> = program.iter().chain(arguments).cloned().collect();
    if all.is_empty() {
        let text = "neither the request nor the image says what to run; give a command";
        return Err(EngineError::Invalid(format!("image {}: {text}", config.image)));
    }
    Ok(all)
}

/// Later ones win: defaults, image, caller. The order of first mention stays.
fn environment(config: &ContainerConfig, image: &ImageConfig, hostname: &str) -> Result<Vec<String>, EngineError> {
    let mut all: Vec<(String, String)> =
        vec![("PATH".into(), DEFAULT_PATH.into()), ("HOSTNAME".into(), hostname.into())];
    if config.terminal {
        all.push(("TERM".into(), "xterm".into()));
    }
    for entry in &image.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        put(&mut all, name, value);
    }
    for (name, value) in &config.environment {
        let value = std::str::from_utf8(value).map_err(|e| {
            EngineError::Invalid(format!("environment variable {name:?}: its value is not UTF-8 ({e}); encode it"))
        })?;
        put(&mut all, name, value);
    }
    Ok(all.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

fn put(all: &mut Vec<(String, String)>, name: &str, value: &str) {
    match all.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => value.clone_into(known),
        None => all.push((name.to_owned(), value.to_owned())),
    }
}

fn cwd(config: &ContainerConfig, image: &ImageConfig) -> PathBuf {
    let asked = [&config.working_directory, &image.working_dir].into_iter().find(|dir| !dir.is_empty());
    Path::new("/").join(asked.map_or("", String::as_str))
}

/// The name carries what is to be looked up in the image; the numbers are there for readers.
fn user(config: &ContainerConfig, image: &ImageConfig) -> Result<User, EngineError> {
    let security = &config.security;
    let (uid, gid, name) = match &security.user {
        UserSpec::FromImage => (0, 0, from_image(&image.user)?),
        UserSpec::Id { uid, gid: None } => (*uid, 0, uid.to_string()),
        UserSpec::Id { uid, gid: Some(gid) } => (*uid, *gid, format!("{uid}:{gid}")),
        UserSpec::Name { name, gid: None } => (0, 0, name.clone()),
        UserSpec::Name { name, gid: Some(gid) } => (0, *gid, format!("{name}:{gid}")),
    };
    let groups = (!security.supplemental_groups.is_empty()).then(|| security.supplemental_groups.clone());
    let mut user = User::default();
    user.set_uid(uid).set_gid(gid).set_username(Some(name)).set_additional_gids(groups);
    Ok(user)
}

fn from_image(user: &str) -> Result<String, EngineError> {
    if user.chars().any(char::is_control) {
        return Err(EngineError::Invalid(format!(
            "the image's user {user:?} has control characters; name another one"
        )));
    }
    Ok(if user.is_empty() { "0".into() } else { user.to_owned() })
}

/// What the caller says, else the image, else SIGTERM.
pub(super) fn stop_signal(asked: Option<i32>, image: &str) -> Result<i32, EngineError> {
    match asked {
        Some(signal @ 1..=SIGRTMAX) => Ok(signal),
        Some(signal) => Err(EngineError::Invalid(format!("stop signal {signal}: signals go from 1 to {SIGRTMAX}"))),
        None if image.is_empty() => Ok(SIGTERM),
        None => signal_named(image).ok_or_else(|| {
            EngineError::Invalid(format!("the image's stop signal {image:?} is not known; name one in the request"))
        }),
    }
}

/// A number, a name with or without `SIG`, or `RTMIN+n`, `RTMAX-n`.
fn signal_named(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=SIGRTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |rest: &str, base: i32, sign: i32| match rest {
        "" => Some(base),
        _ => rest.get(1..)?.parse::<i32>().ok().map(|n| base + sign * n).filter(|n| (34..=SIGRTMAX).contains(n)),
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return (rest.is_empty() || rest.starts_with('+')).then(|| real_time(rest, 34, 1))?;
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return (rest.is_empty() || rest.starts_with('-')).then(|| real_time(rest, SIGRTMAX, -1))?;
    }
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// x86_64 and aarch64 agree on these.
const NAMES: [(&str, i32); 33] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn the_table_of_kubernetes_holds() {
        let image = ImageConfig { entrypoint: strings(&["ep"]), cmd: strings(&["cmd"]), ..ImageConfig::default() };
        let with = |command: &[&str], args_: &[&str]| {
            let config =
                ContainerConfig { command: strings(command), args: strings(args_), ..ContainerConfig::default() };
            args(&config, &image).unwrap().join(" ")
        };
        assert_eq!(with(&[], &[]), "ep cmd");
        assert_eq!(with(&["c"], &[]), "c");
        assert_eq!(with(&[], &["a"]), "ep a");
        assert_eq!(with(&["c"], &["a"]), "c a");
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in
            [("SIGTERM", 15), ("term", 15), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("RTMIN", 34)]
        {
            assert_eq!(signal_named(text), Some(number), "{text}");
        }
        for text in ["", "0", "65", "SIGFOO", "RTMIN+99", "RTMIN-1", "RTMAX+1", "-9"] {
            assert_eq!(signal_named(text), None, "{text}");
        }
    }

    #[test]
    fn the_callers_environment_wins() {
        let image = ImageConfig { env: strings(&["PATH=/x", "A=1"]), ..ImageConfig::default() };
        let config = ContainerConfig { environment: vec![("A".into(), b"2".to_vec())], ..ContainerConfig::default() };
        let env = environment(&config, &image, "h").unwrap();
        assert_eq!(env, ["PATH=/x", "HOSTNAME=h", "A=2"]);
    }

    proptest! {
        #[test]
        fn a_command_never_takes_from_the_image(
            command in proptest::collection::vec("[a-z]{1,4}", 1..4), args_ in proptest::collection::vec("[a-z]{1,4}", 0..4),
            entrypoint in proptest::collection::vec("[A-Z]{1,4}", 0..4), cmd in proptest::collection::vec("[A-Z]{1,4}", 0..4),
        ) {
            let image = ImageConfig { entrypoint: entrypoint.clone(), cmd, ..ImageConfig::default() };
            let config = ContainerConfig { command: command.clone(), args: args_.clone(), ..ContainerConfig::default() };
            prop_assert_eq!(args(&config, &image).unwrap(), [command, args_.clone()].concat());
            let config = ContainerConfig { args: args_.clone(), ..ContainerConfig::default() };
            if !args_.is_empty() {
                prop_assert_eq!(args(&config, &image).unwrap(), [entrypoint, args_].concat());
            }
        }

        #[test]
        fn no_text_makes_signals_panic(text in "\\PC*") {
            if let Some(signal) = signal_named(&text) {
                prop_assert!((1..=SIGRTMAX).contains(&signal));
            }
        }
    }
}
