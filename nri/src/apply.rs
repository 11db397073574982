//! An adjustment applied to an OCI specification.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use oci_spec::runtime as oci;
use oci_spec::runtime::{Linux, LinuxResources, Process, Spec};

use crate::api::{self, ContainerAdjustment, LinuxContainerAdjustment};

/// What was asked for can not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("NRI plugins asked for {0}")]
pub struct Unsupported(String);

/// Changes a specification. CDI devices are left to the caller.
///
/// # Errors
/// Names what the runtime does not do, or what is none of what the specification knows.
pub fn apply(adjust: &ContainerAdjustment, spec: &mut Spec) -> Result<(), Unsupported> {
    let mut annotations = spec.annotations().clone().unwrap_or_default();
    change_map(&mut annotations, &adjust.annotations);
    spec.set_annotations(Some(annotations));
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    change_mounts(&mut mounts, &adjust.mounts);
    spec.set_mounts(Some(mounts));
    let mut process = spec.process().clone().unwrap_or_default();
    change_process(&mut process, adjust)?;
    add_hooks(spec, adjust.hooks.as_ref());
    if let Some(asked) = &adjust.linux {
        let mut linux = spec.linux().clone().unwrap_or_default();
        change_linux(&mut linux, asked)?;
        if let Some(score) = &asked.oom_score_adj {
            let score =
                i32::try_from(score.value).map_err(|_| Unsupported("an OOM score that is no number of it".into()))?;
            process.set_oom_score_adj(Some(score));
        }
        spec.set_linux(Some(linux));
    }
    spec.set_process(Some(process));
    Ok(())
}

fn change_map(map: &mut HashMap<String, String>, asked: &BTreeMap<String, String>) {
    for key in asked.keys().filter_map(|key| key.strip_prefix('-')) {
        map.remove(key);
    }
    map.extend(asked.iter().filter(|(key, _)| !key.starts_with('-')).map(|(k, v)| (k.clone(), v.clone())));
}

fn change_mounts(mounts: &mut Vec<oci::Mount>, asked: &[api::Mount]) {
    for change in asked {
        let destination = PathBuf::from(change.destination.trim_start_matches('-'));
        mounts.retain(|mount| *mount.destination() != destination);
        if change.destination.starts_with('-') {
            continue;
        }
        let mut mount = oci::Mount::default();
        let filled = |text: &String| (!text.is_empty()).then(|| text.clone());
        mount
            .set_destination(destination)
            .set_typ(filled(&change.r#type))
            .set_source(filled(&change.source).map(PathBuf::from))
            .set_options(Some(change.options.clone()));
        mounts.push(mount);
    }
    if !asked.is_empty() {
        // Parents first, or one at /etc would hide the pod's /etc/hosts. The sort is stable.
        mounts.sort_by_key(|mount| mount.destination().components().count());
    }
}

fn change_process(process: &mut Process, adjust: &ContainerAdjustment) -> Result<(), Unsupported> {
    if !adjust.args.is_empty() {
        process.set_args(Some(adjust.args.clone()));
    }
    let mut environment = process.env().clone().unwrap_or_default();
    for change in &adjust.env {
        let name = change.key.trim_start_matches('-');
        environment.retain(|variable| variable.split_once('=').map(|(key, _)| key) != Some(name));
        if !change.key.starts_with('-') {
            environment.push(format!("{name}={}", change.value));
        }
    }
    process.set_env(Some(environment));
    let mut limits = process.rlimits().clone().unwrap_or_default();
    for change in &adjust.rlimits {
        let kind = parse::<oci::PosixRlimitType>(&change.r#type, "the limit")?;
        limits.retain(|limit| limit.typ() != kind);
        let limit = oci::PosixRlimitBuilder::default().typ(kind).hard(change.hard).soft(change.soft).build();
        let limit = limit.map_err(|error| Unsupported(format!("the limit {:?}: {error}", change.r#type)))?;
        limits.push(limit);
    }
    process.set_rlimits(Some(limits));
    Ok(())
}

/// By the name that the specification has for it.
fn parse<T: serde::de::DeserializeOwned>(text: &str, what: &str) -> Result<T, Unsupported> {
    serde_json::from_value(serde_json::Value::from(text))
        .map_err(|_| Unsupported(format!("{what} {text:?}, which the OCI specification does not know")))
}

#[allow(deprecated, reason = "the stage is deprecated, its hooks are in use")]
fn add_hooks(spec: &mut Spec, asked: Option<&api::Hooks>) {
    let Some(asked) = asked else { return };
    let before = spec.hooks().clone().unwrap_or_default();
    let mut hooks = before.clone();
    let with = |list: &Option<Vec<oci::Hook>>, more: &[api::Hook]| {
        let all: Vec<oci::Hook> = list.iter().flatten().cloned().chain(more.iter().map(hook)).collect();
        (!all.is_empty()).then_some(all)
    };
    hooks
        .set_prestart(with(before.prestart(), &asked.prestart))
        .set_create_runtime(with(before.create_runtime(), &asked.create_runtime))
        .set_create_container(with(before.create_container(), &asked.create_container))
        .set_start_container(with(before.start_container(), &asked.start_container))
        .set_poststart(with(before.poststart(), &asked.poststart))
        .set_poststop(with(before.poststop(), &asked.poststop));
    spec.set_hooks(Some(hooks));
}

fn hook(asked: &api::Hook) -> oci::Hook {
    let filled = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    let mut hook = oci::Hook::default();
    hook.set_path(PathBuf::from(&asked.path))
        .set_args(filled(&asked.args))
        .set_env(filled(&asked.env))
        .set_timeout(asked.timeout.map(|timeout| timeout.value).filter(|seconds| *seconds > 0));
    hook
}

fn change_linux(linux: &mut Linux, asked: &LinuxContainerAdjustment) -> Result<(), Unsupported> {
    refuse(asked)?;
    let mut resources = linux.resources().clone().unwrap_or_default();
    change_devices(linux, &mut resources, &asked.devices)?;
    if let Some(asked) = &asked.resources {
        change_resources(&mut resources, asked)?;
    }
    linux.set_resources(Some(resources));
    if !asked.cgroups_path.is_empty() {
        linux.set_cgroups_path(Some(PathBuf::from(&asked.cgroups_path)));
    }
    if let Some(policy) = &asked.seccomp_policy {
        linux.set_seccomp(Some(seccomp(policy)?));
    }
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    for change in &asked.namespaces {
        let kind = parse::<oci::LinuxNamespaceType>(change.r#type.trim_start_matches('-'), "the namespace")?;
        namespaces.retain(|namespace| namespace.typ() != kind);
        if !change.r#type.starts_with('-') {
            let mut namespace = oci::LinuxNamespace::default();
            namespace.set_typ(kind).set_path((!change.path.is_empty()).then(|| PathBuf::from(&change.path)));
            namespaces.push(namespace);
        }
    }
    linux.set_namespaces(Some(namespaces));
    if !asked.sysctl.is_empty() {
        let mut sysctl = linux.sysctl().clone().unwrap_or_default();
        change_map(&mut sysctl, &asked.sysctl);
        linux.set_sysctl(Some(sysctl));
    }
    Ok(())
}

/// What the runtime library does not do is an error and not ignored.
fn refuse(asked: &LinuxContainerAdjustment) -> Result<(), Unsupported> {
    let resources = asked.resources.as_ref();
    let memory = resources.and_then(|resources| resources.memory).unwrap_or_default();
    let filled = |class: &Option<api::OptionalString>| class.as_ref().is_some_and(|class| !class.value.is_empty());
    let no = [
        (asked.io_priority.is_some(), "an I/O priority"),
        (asked.scheduler.is_some(), "a scheduler"),
        (asked.memory_policy.is_some(), "a memory policy"),
        (asked.rdt.as_ref().is_some_and(|rdt| !rdt.remove), "Intel RDT"),
        (!asked.net_devices.is_empty(), "network devices"),
        (resources.is_some_and(|resources| filled(&resources.blockio_class)), "a class of block I/O"),
        (resources.is_some_and(|resources| filled(&resources.rdt_class)), "an RDT class"),
        (resources.is_some_and(|resources| !resources.devices.is_empty()), "a device rule without its device"),
        (memory.kernel.is_some(), "a limit of kernel memory"),
        (memory.kernel_tcp.is_some(), "a limit of TCP memory"),
        (memory.use_hierarchy.is_some_and(|wanted| !wanted.value), "memory without its hierarchy"),
    ];
    match no.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(Unsupported(format!("{what}, which is not supported here; leave it out"))),
        None => Ok(()),
    }
}

fn change_devices(
    linux: &mut Linux,
    resources: &mut LinuxResources,
    asked: &[api::LinuxDevice],
) -> Result<(), Unsupported> {
    let mut devices = linux.devices().clone().unwrap_or_default();
    let mut rules = resources.devices().clone().unwrap_or_default();
    for change in asked {
        let path = PathBuf::from(change.path.trim_start_matches('-'));
        devices.retain(|device| *device.path() != path);
        if change.path.starts_with('-') {
            continue;
        }
        let kind = match change.r#type.as_str() {
            "b" => oci::LinuxDeviceType::B,
            "c" | "u" => oci::LinuxDeviceType::C,
            "p" => oci::LinuxDeviceType::P,
            other => return Err(Unsupported(format!("a device of type {other:?}; b, c and p are known"))),
        };
        let mut device = oci::LinuxDevice::default();
        device
            .set_path(path)
            .set_typ(kind)
            .set_major(change.major)
            .set_minor(change.minor)
            .set_file_mode(change.file_mode.map(|mode| mode.value))
            .set_uid(change.uid.map(|uid| uid.value))
            .set_gid(change.gid.map(|gid| gid.value));
        devices.push(device);
        if kind == oci::LinuxDeviceType::P {
            // Cgroups know nothing of it.
            continue;
        }
        let mut rule = oci::LinuxDeviceCgroup::default();
        rule.set_allow(true)
            .set_typ(Some(kind))
            .set_major(Some(change.major))
            .set_minor(Some(change.minor))
            .set_access(Some("rwm".to_owned()));
        rules.push(rule);
    }
    linux.set_devices(Some(devices));
    resources.set_devices(Some(rules));
    Ok(())
}

fn change_resources(resources: &mut LinuxResources, asked: &api::LinuxResources) -> Result<(), Unsupported> {
    if let Some(asked) = &asked.memory {
        let mut memory = (*resources.memory()).unwrap_or_default();
        let number = |new: Option<api::OptionalInt64>, old| new.map(|new| new.value).or(old);
        // A limit for both together that was made from the old limit alone is no wish.
        let swap = if memory.swap() == memory.limit() && asked.limit.is_some() {
            number(asked.limit, None)
        } else {
            memory.swap()
        };
        let (limit, reservation) =
            (number(asked.limit, memory.limit()), number(asked.reservation, memory.reservation()));
        let swap = number(asked.swap, swap);
        let swappiness = asked.swappiness.map(|new| new.value).or(memory.swappiness());
        let oom = asked.disable_oom_killer.map(|new| new.value).or(memory.disable_oom_killer());
        memory
            .set_limit(limit)
            .set_reservation(reservation)
            .set_swap(swap)
            .set_swappiness(swappiness)
            .set_disable_oom_killer(oom);
        resources.set_memory(Some(memory));
    }
    if let Some(asked) = &asked.cpu {
        let mut cpu = resources.cpu().clone().unwrap_or_default();
        let unsigned = |new: Option<api::OptionalUInt64>, old| new.map(|new| new.value).or(old);
        let signed = |new: Option<api::OptionalInt64>, old| new.map(|new| new.value).or(old);
        let text = |new: &String, old: &Option<String>| if new.is_empty() { old.clone() } else { Some(new.clone()) };
        let (cpus, mems) = (text(&asked.cpus, cpu.cpus()), text(&asked.mems, cpu.mems()));
        let (shares, quota) = (unsigned(asked.shares, cpu.shares()), signed(asked.quota, cpu.quota()));
        let period = unsigned(asked.period, cpu.period());
        let runtime = signed(asked.realtime_runtime, cpu.realtime_runtime());
        let realtime = unsigned(asked.realtime_period, cpu.realtime_period());
        cpu.set_shares(shares)
            .set_quota(quota)
            .set_period(period)
            .set_realtime_runtime(runtime)
            .set_realtime_period(realtime)
            .set_cpus(cpus)
            .set_mems(mems);
        resources.set_cpu(Some(cpu));
    }
    if let Some(asked) = &asked.pids {
        let mut pids = oci::LinuxPids::default();
        pids.set_limit(asked.limit);
        resources.set_pids(Some(pids));
    }
    let mut pages = resources.hugepage_limits().clone().unwrap_or_default();
    for change in &asked.hugepage_limits {
        let bytes =
            i64::try_from(change.limit).map_err(|_| Unsupported("a limit of huge pages beyond all memory".into()))?;
        let mut limit = oci::LinuxHugepageLimit::default();
        limit.set_page_size(change.page_size.clone()).set_limit(bytes);
        pages.retain(|other| *other.page_size() != change.page_size);
        pages.push(limit);
    }
    if !pages.is_empty() {
        resources.set_hugepage_limits(Some(pages));
    }
    if !asked.unified.is_empty() {
        let mut unified = resources.unified().clone().unwrap_or_default();
        change_map(&mut unified, &asked.unified);
        resources.set_unified(Some(unified));
    }
    Ok(())
}

fn seccomp(asked: &api::LinuxSeccomp) -> Result<oci::LinuxSeccomp, Unsupported> {
    if !asked.listener_path.is_empty() {
        return Err(Unsupported("a seccomp policy with a listener, which is not supported here".into()));
    }
    let mut policy = oci::LinuxSeccomp::default();
    let architectures: Vec<oci::Arch> =
        asked.architectures.iter().map(|name| parse(name, "the architecture")).collect::<Result<_, _>>()?;
    let flags: Vec<oci::LinuxSeccompFilterFlag> =
        asked.flags.iter().map(|name| parse(name, "the flag of a seccomp policy")).collect::<Result<_, _>>()?;
    let calls: Vec<oci::LinuxSyscall> = asked.syscalls.iter().map(call).collect::<Result<_, _>>()?;
    policy
        .set_default_action(parse(&asked.default_action, "the action")?)
        .set_default_errno_ret(asked.default_errno.map(|errno| errno.value))
        .set_architectures((!architectures.is_empty()).then_some(architectures))
        .set_flags((!flags.is_empty()).then_some(flags))
        .set_syscalls(Some(calls));
    Ok(policy)
}

fn call(asked: &api::LinuxSyscall) -> Result<oci::LinuxSyscall, Unsupported> {
    let argument = |asked: &api::LinuxSeccompArg| {
        let argument = oci::LinuxSeccompArgBuilder::default()
            .index(usize::try_from(asked.index).unwrap_or(usize::MAX))
            .value(asked.value)
            .op(parse::<oci::LinuxSeccompOperator>(&asked.op, "the comparison")?);
        let argument = if asked.value_two == 0 { argument } else { argument.value_two(asked.value_two) };
        argument.build().map_err(|error| Unsupported(format!("an argument of a system call: {error}")))
    };
    let arguments: Vec<oci::LinuxSeccompArg> = asked.args.iter().map(argument).collect::<Result<_, _>>()?;
    let mut call = oci::LinuxSyscall::default();
    call.set_names(asked.names.clone())
        .set_action(parse(&asked.action, "the action")?)
        .set_errno_ret(asked.errno_ret.map(|errno| errno.value))
        .set_args((!arguments.is_empty()).then_some(arguments));
    Ok(call)
}

#[cfg(test)]
mod tests;
