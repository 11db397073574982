//! `exec`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{Capability, Process, Spec};
use podwright_cgroups::Cgroup;
use podwright_runtime::{CgroupEntry, ExecLaunch, SeccompChoice, Stdio, UserLookup};
use rustix::process::Signal;

use crate::arguments::ExecOptions;
use crate::bundle::tidy_process;
use crate::log::Log;
use crate::status::{Status, status};
use crate::store::{Record, Store};
use crate::terminal::Console;
use crate::{container, foreground, launch, process, waiting};

/// How long a killed process may take to end.
const END_SECONDS: i64 = 10;

/// Runs another process in a container.
pub(crate) fn exec(store: &Store, options: &ExecOptions, log: &Log) -> Result<ExitCode> {
    let inherited = launch::inherited(options.preserve_fds)?;
    let (place, record) = store.find(&options.id)?;
    let failed = || format!("cannot exec in container {:?}", options.id);
    match status(&place, &record)? {
        Status::Created | Status::Running => {}
        Status::Paused if options.ignore_paused => {}
        Status::Paused => {
            bail!("cannot exec in container {:?}: it is paused; resume it, or use --ignore-paused", options.id)
        }
        Status::Creating | Status::Stopped => {
            bail!("cannot exec in a stopped container: {:?} is not running", options.id)
        }
    }
    let spec = place.config()?;
    let asked = wanted(options, &spec)?;
    let terminal = asked.terminal().unwrap_or(false);
    let mut console = Console::of(options.console_socket.as_deref(), !options.detach);
    console.check(terminal)?;
    let signals = if options.detach { None } else { Some(foreground::Signals::catch()?) };
    let init = container::init(&place, &record)?;
    let cgroup = cgroup(&record, options.cgroup.as_deref())?;
    let mut starting = podwright_runtime::exec(ExecLaunch {
        init: std::os::fd::AsFd::as_fd(&init),
        user: record.user.map(Into::into),
        spec: Some(&spec),
        process: &asked,
        stdio: if terminal { Stdio::Terminal } else { launch::own_streams()? },
        cgroup: CgroupEntry::Join(&cgroup),
        seccomp: SeccompChoice::FromSpec,
        user_lookup: UserLookup::default(),
        inherited,
    })
    .with_context(failed)?;
    let ready = waiting::follow(&mut starting, |master| console.take(master), Some(log)).and_then(|_| {
        options.pid_file.as_deref().map_or(Ok(()), |path| launch::write_pid(path, starting.pid().as_raw_pid()))
    });
    if let Err(error) = ready {
        let _ = rustix::process::pidfd_send_signal(starting.pidfd(), Signal::KILL);
        let _ = starting.pidfd().try_clone_to_owned().map(|pidfd| process::await_end(&pidfd, END_SECONDS));
        return Err(error).with_context(failed);
    }
    match signals {
        None => Ok(ExitCode::SUCCESS),
        Some(signals) => foreground::serve(&starting, console, &signals),
    }
}

/// The container's, or one below.
fn cgroup(record: &Record, below: Option<&str>) -> Result<Cgroup> {
    let own = container::cgroup(record)?;
    // With v1 callers may name a controller first; all are entered alike.
    let below = below.map(|path| path.split_once(':').map_or(path, |(_, path)| path).trim_matches('/'));
    let Some(below) = below.filter(|below| !below.is_empty()) else { return Ok(own) };
    let cgroup = own.hierarchy().cgroup(&format!("{}/{below}", own.path()))?;
    match cgroup.exists() {
        true => Ok(cgroup),
        false => bail!("--cgroup {below}: there is no such cgroup below {}", own.path()),
    }
}

/// The process that is asked for.
fn wanted(options: &ExecOptions, spec: &Spec) -> Result<Process> {
    let mut asked = match &options.process {
        Some(path) => read(path)?,
        None => built(options, spec)?,
    };
    if options.tty {
        asked.set_terminal(Some(true));
    }
    tidy_process(&mut asked);
    Ok(asked)
}

fn read(path: &Path) -> Result<Process> {
    let text = std::fs::read(path).with_context(|| format!("reading the process {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("understanding the process {}", path.display()))
}

/// As the container's own, with what the options change.
fn built(options: &ExecOptions, spec: &Spec) -> Result<Process> {
    let mut asked = spec.process().clone().context("the container's config.json has no process to start from")?;
    if options.words.is_empty() {
        bail!("no program is given; say which one after the container's id, or use --process");
    }
    asked.set_args(Some(options.words.clone())).set_terminal(Some(options.tty));
    if let Some(cwd) = &options.cwd {
        asked.set_cwd(cwd.clone());
    }
    if let Some(label) = &options.process_label {
        asked.set_selinux_label(Some(label.clone()));
    }
    if let Some(profile) = &options.apparmor {
        asked.set_apparmor_profile(Some(profile.clone()));
    }
    if options.no_new_privs {
        asked.set_no_new_privileges(Some(true));
    }
    let mut environment = asked.env().clone().unwrap_or_default();
    environment.extend(options.env.iter().cloned());
    asked.set_env(Some(environment));
    set_user(&mut asked, options)?;
    add_capabilities(&mut asked, &options.cap)?;
    Ok(asked)
}

fn set_user(asked: &mut Process, options: &ExecOptions) -> Result<()> {
    let mut user = asked.user().clone();
    if let Some(text) = &options.user {
        let (uid, gid) = text.split_once(':').map_or((text.as_str(), None), |(uid, gid)| (uid, Some(gid)));
        let number =
            |text: &str| text.parse::<u32>().with_context(|| format!("--user {text}: it takes numbers, UID[:GID]"));
        user.set_uid(number(uid)?);
        if let Some(gid) = gid {
            user.set_gid(number(gid)?);
        }
    }
    if !options.additional_gids.is_empty() {
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        groups.extend(&options.additional_gids);
        user.set_additional_gids(Some(groups));
    }
    asked.set_user(user);
    Ok(())
}

fn add_capabilities(asked: &mut Process, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let more = names
        .iter()
        .map(|name| {
            let name = name.to_ascii_uppercase();
            let name = name.strip_prefix("CAP_").unwrap_or(&name);
            name.parse::<Capability>().with_context(|| format!("--cap {name}: there is no such capability"))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut sets = asked.capabilities().clone().unwrap_or_default();
    let with =
        |set: &Option<oci_spec::runtime::Capabilities>| Some(set.iter().flatten().chain(&more).copied().collect());
    let (bounding, effective, permitted) = (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    asked.set_capabilities(Some(sets));
    Ok(())
}
