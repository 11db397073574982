//! Security contexts of sandboxes and containers to [`SecurityConfig`].

use podwright_cri_api::v1;
use podwright_podsandbox::model::{
    AppArmor, Capabilities, GroupsPolicy, NamespaceMode, NamespaceModes, Seccomp, SecurityConfig, SelinuxOptions,
    UserSpec,
};

use super::namespace;
use crate::field::{self, BadField, MAX_NAME_BYTES, MAX_PATH_BYTES, Within as _, shown};
use v1::security_profile::ProfileType;

/// Names that mean the runtime's own profile where a profile is a string.
const DEFAULT_PROFILES: [&str; 2] = ["runtime/default", "docker/default"];
/// Prefix of profiles of the node where a profile is a string.
const LOCALHOST: &str = "localhost/";

/// Namespaces and security of a sandbox.
pub(crate) fn of_sandbox(
    context: v1::LinuxSandboxSecurityContext,
) -> Result<(NamespaceModes, SecurityConfig), BadField> {
    #[allow(deprecated)]
    let seccomp = seccomp(context.seccomp, context.seccomp_profile_path, context.privileged)?;
    let options = context.namespace_options.unwrap_or_default();
    let security = SecurityConfig {
        privileged: context.privileged,
        user: user(context.run_as_user, context.run_as_group, String::new())?,
        supplemental_groups: groups(context.supplemental_groups)?,
        groups_policy: groups_policy(context.supplemental_groups_policy)?,
        readonly_rootfs: context.readonly_rootfs,
        seccomp,
        apparmor: apparmor(context.apparmor, String::new(), context.privileged)?,
        selinux: selinux(context.selinux_options)?,
        ..SecurityConfig::default()
    };
    Ok((namespace::of_sandbox(options).within("namespace_options")?, security))
}

/// Sharing of process ids and security of a container.
pub(crate) fn of_container(
    context: v1::LinuxContainerSecurityContext,
) -> Result<(NamespaceMode, SecurityConfig), BadField> {
    #[allow(deprecated)]
    let (seccomp_path, apparmor_name) = (context.seccomp_profile_path, context.apparmor_profile);
    let options = context.namespace_options.unwrap_or_default();
    let security = SecurityConfig {
        privileged: context.privileged,
        capabilities: capabilities(context.capabilities.unwrap_or_default()).within("capabilities")?,
        user: user(context.run_as_user, context.run_as_group, context.run_as_username)?,
        supplemental_groups: groups(context.supplemental_groups)?,
        groups_policy: groups_policy(context.supplemental_groups_policy)?,
        readonly_rootfs: context.readonly_rootfs,
        no_new_privileges: context.no_new_privs,
        seccomp: seccomp(context.seccomp, seccomp_path, context.privileged)?,
        apparmor: apparmor(context.apparmor, apparmor_name, context.privileged)?,
        selinux: selinux(context.selinux_options)?,
        masked_paths: paths("masked_paths", context.masked_paths)?,
        readonly_paths: paths("readonly_paths", context.readonly_paths)?,
    };
    Ok((namespace::pid_of_container(options).within("namespace_options")?, security))
}

fn user(uid: Option<v1::Int64Value>, gid: Option<v1::Int64Value>, username: String) -> Result<UserSpec, BadField> {
    let gid = gid.map(|gid| field::user_or_group_id("run_as_group", gid.value)).transpose()?;
    match (uid, username.is_empty()) {
        (Some(uid), true) => Ok(UserSpec::Id { uid: field::user_or_group_id("run_as_user", uid.value)?, gid }),
        (Some(_), false) => Err(BadField::new("run_as_username", "is given beside run_as_user; give one of them")),
        (None, false) => Ok(UserSpec::Name { name: user_name(username)?, gid }),
        (None, true) if gid.is_some() => {
            Err(BadField::new("run_as_group", "is given without run_as_user or run_as_username"))
        }
        (None, true) => Ok(UserSpec::FromImage),
    }
}

fn user_name(name: String) -> Result<String, BadField> {
    let name = field::name("run_as_username", name)?;
    // A colon would add a group, or more fields, where names are looked up.
    if name.contains(':') || name.contains(char::is_whitespace) {
        return Err(BadField::new("run_as_username", format!("{} is not the name of a user", shown(&name))));
    }
    Ok(name)
}

fn groups(groups: Vec<i64>) -> Result<Vec<u32>, BadField> {
    let groups = field::list("supplemental_groups", groups)?;
    groups.into_iter().map(|gid| field::user_or_group_id("supplemental_groups", gid)).collect()
}

fn groups_policy(value: i32) -> Result<GroupsPolicy, BadField> {
    Ok(match field::known("supplemental_groups_policy", value)? {
        v1::SupplementalGroupsPolicy::Merge => GroupsPolicy::Merge,
        v1::SupplementalGroupsPolicy::Strict => GroupsPolicy::Strict,
    })
}

fn capabilities(capability: v1::Capability) -> Result<Capabilities, BadField> {
    let check = |field: &str, name: String| {
        let name = field::name(field, name)?;
        if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Ok(name);
        }
        Err(BadField::new(field, format!("{} is not the name of a capability", shown(&name))))
    };
    Ok(Capabilities {
        add: field::texts("add_capabilities", capability.add_capabilities, check)?,
        drop: field::texts("drop_capabilities", capability.drop_capabilities, check)?,
        ambient: field::texts("add_ambient_capabilities", capability.add_ambient_capabilities, check)?,
    })
}

fn seccomp(profile: Option<v1::SecurityProfile>, old_path: String, privileged: bool) -> Result<Seccomp, BadField> {
    let chosen = match profile {
        Some(profile) => match field::known::<ProfileType>("seccomp.profile_type", profile.profile_type)? {
            ProfileType::RuntimeDefault => Seccomp::RuntimeDefault,
            ProfileType::Unconfined => Seccomp::Unconfined,
            ProfileType::Localhost => seccomp_file("seccomp.localhost_ref", profile.localhost_ref)?,
        },
        None => old_seccomp(old_path)?,
    };
    Ok(if privileged { Seccomp::Unconfined } else { chosen })
}

fn old_seccomp(path: String) -> Result<Seccomp, BadField> {
    let field = "seccomp_profile_path";
    let path = field::text(field, path, MAX_PATH_BYTES)?;
    match path.as_str() {
        "" | "unconfined" => Ok(Seccomp::Unconfined),
        name if DEFAULT_PROFILES.contains(&name) => Ok(Seccomp::RuntimeDefault),
        _ => seccomp_file(field, path.strip_prefix(LOCALHOST).unwrap_or(&path).to_owned()),
    }
}

fn seccomp_file(field: &str, path: String) -> Result<Seccomp, BadField> {
    field::absolute_path(field, path).map(Seccomp::Localhost)
}

fn apparmor(profile: Option<v1::SecurityProfile>, old_name: String, privileged: bool) -> Result<AppArmor, BadField> {
    match profile {
        Some(profile) => match field::known::<ProfileType>("apparmor.profile_type", profile.profile_type)? {
            ProfileType::RuntimeDefault if privileged => Ok(AppArmor::Unconfined),
            ProfileType::RuntimeDefault => Ok(AppArmor::RuntimeDefault),
            ProfileType::Unconfined => Ok(AppArmor::Unconfined),
            ProfileType::Localhost => apparmor_name("apparmor.localhost_ref", profile.localhost_ref),
        },
        None => match old_name.as_str() {
            "" if privileged => Ok(AppArmor::Unconfined),
            "" => Ok(AppArmor::RuntimeDefault),
            "unconfined" => Ok(AppArmor::Unconfined),
            name if DEFAULT_PROFILES.contains(&name) => Ok(AppArmor::RuntimeDefault),
            _ => apparmor_name("apparmor_profile", old_name),
        },
    }
}

fn apparmor_name(field: &str, name: String) -> Result<AppArmor, BadField> {
    let name = field::name(field, name)?;
    Ok(AppArmor::Localhost(name.strip_prefix(LOCALHOST).unwrap_or(&name).to_owned()))
}

fn selinux(option: Option<v1::SeLinuxOption>) -> Result<Option<SelinuxOptions>, BadField> {
    let Some(option) = option else { return Ok(None) };
    let part = |field: &str, value| field::line(field, value, MAX_NAME_BYTES).within("selinux_options");
    let options = SelinuxOptions {
        user: part("user", option.user)?,
        role: part("role", option.role)?,
        type_: part("type", option.r#type)?,
        level: part("level", option.level)?,
    };
    Ok(Some(options).filter(|options| *options != SelinuxOptions::default()))
}

fn paths(field: &str, values: Vec<String>) -> Result<Vec<std::path::PathBuf>, BadField> {
    field::each(field, values, |path| field::absolute_path("path", path))
}
