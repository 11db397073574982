//! Profiles on the node, in the format that Docker and Kubernetes share: the OCI profile, and rules that apply to some
//! capabilities, architectures or kernels only.

use oci_spec::runtime::{
    Arch, Capabilities, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSyscall,
};
use serde::Deserialize;

use super::SeccompError;
use super::arch::{NATIVE_NAME, TABLES};
use crate::kernel::version;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchMap>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    #[serde(default)]
    syscalls: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<LinuxSeccompArg>>,
    #[serde(default)]
    includes: Option<Condition>,
    #[serde(default)]
    excludes: Option<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

/// What the conditions of a profile are held against.
struct Machine<'a> {
    capabilities: &'a Capabilities,
    kernel: (u32, u32),
}

/// Reads a profile for a process with these capabilities in its bounding set, on a kernel whose release is `kernel_release`
/// (as `uname -r` has it).
///
/// # Errors
/// No JSON, a missing key, or a word that the OCI runtime specification does not have.
pub fn parse_profile(
    json: &[u8],
    capabilities: &Capabilities,
    kernel_release: &str,
) -> Result<LinuxSeccomp, SeccompError> {
    let profile: Profile = serde_json::from_slice(json).map_err(SeccompError::Json)?;
    let machine = Machine { capabilities, kernel: version(kernel_release).unwrap_or((0, 0)) };
    let mut out = LinuxSeccomp::default();
    out.set_default_action(word::<LinuxSeccompAction>("defaultAction", &profile.default_action)?)
        .set_default_errno_ret(profile.default_errno_ret)
        .set_architectures(architectures(&profile)?)
        .set_flags(Some(flags(profile.flags.as_deref().unwrap_or_default())?));
    let mut syscalls = Vec::new();
    for entry in profile.syscalls.unwrap_or_default() {
        if machine.applies(&entry) {
            syscalls.push(convert(entry)?);
        }
    }
    out.set_syscalls(Some(syscalls));
    Ok(out)
}

fn architectures(profile: &Profile) -> Result<Option<Vec<Arch>>, SeccompError> {
    let mut names: Vec<&str> = profile.architectures.iter().flatten().map(String::as_str).collect();
    if let Some(map) = profile.arch_map.iter().flatten().find(|m| m.architecture == NATIVE_NAME) {
        names.push(&map.architecture);
        names.extend(map.sub_architectures.iter().flatten().map(String::as_str));
    }
    if names.is_empty() {
        return Ok(None);
    }
    // An architecture that OCI knows and this machine does not is passed over; an unknown word is an error.
    names.into_iter().map(|name| word::<Arch>("architectures", name)).collect::<Result<Vec<_>, _>>().map(Some)
}

fn flags(names: &[String]) -> Result<Vec<LinuxSeccompFilterFlag>, SeccompError> {
    names.iter().map(|name| word("flags", name)).collect()
}

fn convert(entry: Entry) -> Result<LinuxSyscall, SeccompError> {
    let mut out = LinuxSyscall::default();
    out.set_names(entry.names.unwrap_or_default().into_iter().chain(entry.name).collect())
        .set_action(word::<LinuxSeccompAction>("action", &entry.action)?)
        .set_errno_ret(entry.errno_ret)
        .set_args(entry.args.filter(|arguments| !arguments.is_empty()));
    Ok(out)
}

/// Reads a word of the specification, through the same names that `oci-spec` reads from a configuration.
fn word<T: for<'de> Deserialize<'de>>(field: &'static str, value: &str) -> Result<T, SeccompError> {
    T::deserialize(serde_json::Value::String(value.to_owned()))
        .map_err(|_| SeccompError::UnknownWord { field, value: value.to_owned() })
}

impl Machine<'_> {
    fn applies(&self, entry: &Entry) -> bool {
        let includes = entry.includes.as_ref().is_none_or(|condition| self.meets_all(condition));
        let excludes = entry.excludes.as_ref().is_some_and(|condition| self.meets_any(condition));
        includes && !excludes
    }

    fn meets_all(&self, condition: &Condition) -> bool {
        let listed = |list: &Option<Vec<String>>, holds: &dyn Fn(&str) -> bool| {
            list.as_ref().is_none_or(|l| l.is_empty() || l.iter().any(|item| holds(item)))
        };
        condition.caps.iter().flatten().all(|name| self.has_capability(name))
            && listed(&condition.arches, &is_native_arch)
            && condition.min_kernel.as_ref().is_none_or(|minimum| self.kernel_is_at_least(minimum))
    }

    fn meets_any(&self, condition: &Condition) -> bool {
        condition.caps.iter().flatten().any(|name| self.has_capability(name))
            || condition.arches.iter().flatten().any(|arch| is_native_arch(arch))
            || condition.min_kernel.as_ref().is_some_and(|minimum| self.kernel_is_at_least(minimum))
    }

    fn has_capability(&self, name: &str) -> bool {
        word("caps", name).is_ok_and(|capability| self.capabilities.contains(&capability))
    }

    fn kernel_is_at_least(&self, minimum: &str) -> bool {
        version(minimum).is_some_and(|minimum| self.kernel >= minimum)
    }
}

/// Docker names architectures as Go does (`amd64`), some tools as libseccomp does.
fn is_native_arch(name: &str) -> bool {
    let go = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    name == go || TABLES.first().is_some_and(|table| word::<Arch>("arches", name).is_ok_and(|arch| arch == table.oci))
}
