//! What is refused before anything is done for it: names that are no names, paths that climb, lines inside of lines, absurd
//! sizes. Front ends check their own formats; this is what the engine itself relies on.

use std::path::{Component, Path};

use serde::Serialize;

use crate::error::EngineError;
use crate::ladder::Outcome;
use crate::model::{
    ContainerConfig, Device, DnsConfig, IdMapping, Mount, MountSource, NamespaceMode, Propagation, Resources,
    SandboxConfig, Seccomp, SecurityConfig, UserSpec,
};

mod sysctl;

/// Longest name, as DNS names are.
const NAME_BYTES: usize = 253;
/// Longest hostname that the kernel takes.
const HOSTNAME_BYTES: usize = 64;
/// Largest configuration, all strings together.
const CONFIG_BYTES: usize = 4 << 20;
/// Longest path that the kernel takes.
const PATH_BYTES: usize = 4096;
/// Longest single argument that the kernel takes.
const ARGUMENT_BYTES: usize = 128 << 10;
/// Most entries of a resolv.conf line.
const DNS_ENTRIES: usize = 64;

/// A sandbox's configuration.
pub(crate) fn sandbox(config: &SandboxConfig) -> Outcome {
    size(config)?;
    name("pod name", &config.name)?;
    optional_name("pod namespace", &config.namespace)?;
    optional_name("pod uid", &config.uid)?;
    hostname(&config.hostname)?;
    if !config.log_directory.as_os_str().is_empty() {
        absolute("log directory", &config.log_directory)?;
    }
    text("cgroup parent", &config.cgroup_parent)?;
    relative_steps("cgroup parent", Path::new(&config.cgroup_parent))?;
    if let Some(dns) = &config.dns {
        resolver(dns)?;
    }
    optional_name("runtime handler", &config.runtime_handler)?;
    modes(config)?;
    sysctl::check(config)?;
    security(&config.security)
}

/// A container's configuration, in its sandbox.
pub(crate) fn container(config: &ContainerConfig, pod: &SandboxConfig) -> Outcome {
    size(config)?;
    name("container name", &config.name)?;
    if config.image.is_empty() {
        return invalid("image: it is empty; name an image that was pulled".into());
    }
    text("image", &config.image)?;
    for argument in config.command.iter().chain(&config.args) {
        bounded_argument(argument)?;
    }
    no_nul("working directory", config.working_directory.as_bytes())?;
    environment(&config.environment)?;
    config.mounts.iter().try_for_each(mount)?;
    config.devices.iter().try_for_each(device)?;
    log_path(&config.log_path)?;
    resources(&config.resources)?;
    security(&config.security)?;
    in_user_namespace(config, pod)?;
    if !config.log_path.as_os_str().is_empty() && pod.log_directory.as_os_str().is_empty() {
        return invalid("log path: the pod has no log directory; give it one, or log nothing".into());
    }
    Ok(())
}

/// What the kernel does not do for a pod with a user namespace.
fn in_user_namespace(config: &ContainerConfig, pod: &SandboxConfig) -> Outcome {
    if pod.namespaces.user.is_none() {
        return Ok(());
    }
    if config.pid_mode == NamespaceMode::Node {
        return invalid("pid namespace: in a pod with a user namespace it can not be the node's".into());
    }
    match config.mounts.iter().find(|mount| mount.propagation == Propagation::Bidirectional) {
        Some(mount) => invalid(format!(
            "mount {}: no mount leaves a user namespace; use another propagation, or the node's users",
            mount.destination.display()
        )),
        None => Ok(()),
    }
}

/// A command to execute.
pub(crate) fn argv(argv: &[String]) -> Outcome {
    if argv.is_empty() {
        return invalid("the command is empty; give a program and its arguments".into());
    }
    argv.iter().try_for_each(|argument| bounded_argument(argument))
}

/// Limits.
pub(crate) fn resources(limits: &Resources) -> Outcome {
    cpu_list("cpuset cpus", &limits.cpuset_cpus)?;
    cpu_list("cpuset mems", &limits.cpuset_mems)?;
    if let Some(adj) = limits.oom_score_adj.filter(|adj| !(-1000..=1000).contains(adj)) {
        return invalid(format!("oom_score_adj {adj}: it goes from -1000 to 1000"));
    }
    for (file, value) in &limits.unified {
        if file.is_empty() || file.contains('/') || file.starts_with('.') || !file.contains('.') {
            return invalid(format!("cgroup file {file:?}: it is no name of a cgroup v2 file, as memory.high"));
        }
        no_nul("value of a cgroup file", value.as_bytes())?;
    }
    for page_size in limits.hugepage_limits.keys() {
        if page_size.is_empty() || !page_size.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return invalid(format!("huge page size {page_size:?}: write it as 2MB or 1GB"));
        }
    }
    Ok(())
}

fn invalid(text: String) -> Outcome {
    Err(EngineError::Invalid(text))
}

/// Shows a value that may be huge or hold anything.
fn shown(value: &str) -> String {
    let short: String = value.chars().take(64).collect();
    if short.len() < value.len() { format!("{short:?}… ({} bytes)", value.len()) } else { format!("{short:?}") }
}

fn size(config: &impl Serialize) -> Outcome {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.saturating_add(bytes.len());
            if self.0 > CONFIG_BYTES { Err(std::io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes.len()) }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    match serde_json::to_writer(Count(0), config) {
        Ok(()) => Ok(()),
        Err(e) if e.is_io() => {
            invalid(format!("the configuration is larger than {CONFIG_BYTES} bytes; make it smaller"))
        }
        Err(e) => invalid(format!("the configuration can not be recorded: {e}; paths must be UTF-8")),
    }
}

fn name(what: &str, value: &str) -> Outcome {
    if value.is_empty() {
        return invalid(format!("{what}: it is empty; give one"));
    }
    optional_name(what, value)
}

fn optional_name(what: &str, value: &str) -> Outcome {
    let bad = |why: &str| invalid(format!("{what} {}: it {why}", shown(value)));
    if value.len() > NAME_BYTES {
        return bad(&format!("is longer than {NAME_BYTES} bytes"));
    }
    if value == "." || value == ".." || value.contains('/') {
        return bad("is no name but a path");
    }
    text(what, value)
}

fn text(what: &str, value: &str) -> Outcome {
    if value.len() > PATH_BYTES {
        return invalid(format!("{what} {}: it is longer than {PATH_BYTES} bytes", shown(value)));
    }
    match value.chars().find(|c| c.is_control()) {
        Some(c) => invalid(format!("{what} {}: it holds the control character {c:?}", shown(value))),
        None => Ok(()),
    }
}

fn no_nul(what: &str, value: &[u8]) -> Outcome {
    if value.contains(&0) {
        return invalid(format!("{what} {}: it holds a NUL byte", shown(&String::from_utf8_lossy(value))));
    }
    Ok(())
}

fn bounded_argument(argument: &str) -> Outcome {
    if argument.len() >= ARGUMENT_BYTES {
        return invalid(format!("argument {}: the kernel takes less than {ARGUMENT_BYTES} bytes", shown(argument)));
    }
    no_nul("argument", argument.as_bytes())
}

fn hostname(value: &str) -> Outcome {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if value.len() > HOSTNAME_BYTES || !value.chars().all(allowed) {
        let rule = format!("a hostname has at most {HOSTNAME_BYTES} letters, digits, '-', '.' and '_'");
        return invalid(format!("hostname {}: {rule}", shown(value)));
    }
    Ok(())
}

fn resolver(dns: &DnsConfig) -> Outcome {
    for (what, entries) in [("server", &dns.servers), ("search domain", &dns.searches), ("option", &dns.options)] {
        if entries.len() > DNS_ENTRIES {
            return invalid(format!("DNS {what}s: there are more than {DNS_ENTRIES}"));
        }
        for entry in entries {
            if entry.is_empty()
                || entry.len() > NAME_BYTES
                || entry.chars().any(|c| c.is_control() || c.is_whitespace())
            {
                return invalid(format!("DNS {what} {}: it is empty, too long, or holds blanks", shown(entry)));
            }
        }
    }
    Ok(())
}

fn modes(config: &SandboxConfig) -> Outcome {
    let modes = &config.namespaces;
    for (what, mode) in [("network", &modes.network), ("IPC", &modes.ipc)] {
        match mode {
            NamespaceMode::Pod | NamespaceMode::Node => {}
            NamespaceMode::Container | NamespaceMode::Target(_) => {
                return invalid(format!("{what} namespace: it is the pod's or the node's"));
            }
        }
    }
    if matches!(modes.pid, NamespaceMode::Target(_)) {
        return invalid("pid namespace: only a container can target another container".into());
    }
    match &modes.user {
        Some(user) if [&user.uids, &user.gids].iter().any(|ranges| !is_one_from_root(ranges)) => {
            invalid("user namespace: it needs one mapping of user ids and one of group ids, each from id 0 on".into())
        }
        Some(_) if modes.pid == NamespaceMode::Node || modes.ipc == NamespaceMode::Node => {
            invalid("user namespace: it can not be joined with the node's pid or IPC namespace".into())
        }
        Some(_) | None => Ok(()),
    }
}

/// One range, with root in it. More than one would be possible for the kernel; nobody asks for it.
fn is_one_from_root(ranges: &[IdMapping]) -> bool {
    matches!(ranges, [IdMapping { container_id: 0, length: 1.., .. }])
}

fn environment(variables: &[(String, Vec<u8>)]) -> Outcome {
    for (name, value) in variables {
        if name.is_empty() || name.contains('=') || name.contains('\0') {
            return invalid(format!("environment variable {}: it is no name", shown(name)));
        }
        if value.contains(&0) {
            return invalid(format!("environment variable {}: its value holds a NUL byte", shown(name)));
        }
    }
    Ok(())
}

fn absolute(what: &str, path: &Path) -> Outcome {
    let display = path.to_string_lossy();
    if !path.is_absolute() {
        return invalid(format!("{what} {}: it is not absolute", shown(&display)));
    }
    text(what, &display)?;
    relative_steps(what, path)
}

fn relative_steps(what: &str, path: &Path) -> Outcome {
    if path.components().any(|c| c == Component::ParentDir) {
        return invalid(format!("{what} {}: it has \"..\"", shown(&path.to_string_lossy())));
    }
    Ok(())
}

fn mount(mount: &Mount) -> Outcome {
    absolute("mount destination", &mount.destination)?;
    if mount.destination == Path::new("/") {
        return invalid("mount destination \"/\": nothing can be mounted over the root".into());
    }
    match &mount.source {
        MountSource::Host(path) => absolute("mount source", path)?,
        MountSource::Image { image, sub_path } => {
            text("image of a mount", image)?;
            relative_steps("directory of an image mount", sub_path)?;
            if !mount.readonly {
                let text = "it has to be read-only, as images are; copy what is to be changed";
                return Err(EngineError::Invalid(text.into()).of_image_volume(&mount.destination));
            }
        }
    }
    if mount.recursive_readonly && (!mount.readonly || mount.propagation != Propagation::Private) {
        let at = mount.destination.display();
        return invalid(format!("mount {at}: recursive read-only needs readonly and no propagation"));
    }
    if mount.uid_mappings.is_empty() != mount.gid_mappings.is_empty() {
        return invalid(format!("mount {}: it maps only one of user and group ids", mount.destination.display()));
    }
    Ok(())
}

fn device(device: &Device) -> Outcome {
    absolute("device", &device.host_path)?;
    absolute("device inside", &device.container_path)?;
    let permissions = &device.permissions;
    if permissions.is_empty() || permissions.len() > 3 || !permissions.chars().all(|c| matches!(c, 'r' | 'w' | 'm')) {
        return invalid(format!("permissions {} of device: they are any of r, w and m", shown(permissions)));
    }
    Ok(())
}

fn log_path(path: &Path) -> Outcome {
    let inside = path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if !inside {
        let shown = shown(&path.to_string_lossy());
        return invalid(format!("log path {shown}: it has to lie below the pod's log directory"));
    }
    text("log path", &path.to_string_lossy())
}

fn cpu_list(what: &str, list: &str) -> Outcome {
    if !list.bytes().all(|b| b.is_ascii_digit() || matches!(b, b',' | b'-')) {
        return invalid(format!("{what} {}: write it as 0-3,7", shown(list)));
    }
    Ok(())
}

fn security(security: &SecurityConfig) -> Outcome {
    for path in security.masked_paths.iter().chain(&security.readonly_paths) {
        absolute("masked or read-only path", path)?;
    }
    if let Seccomp::Localhost(path) = &security.seccomp {
        absolute("seccomp profile", path)?;
    }
    if let UserSpec::Name { name, .. } = &security.user {
        if name.is_empty() || name.contains(':') {
            return invalid(format!("user {}: it is no user name", shown(name)));
        }
        text("user", name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
