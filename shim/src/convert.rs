//! From the messages of the protocol to what `runtime` takes, and back: values only.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};
use podwright_runtime::{IdMappings, OtherRuntime, RootfsPlan, SeccompChoice, User, UserLookup};
use podwright_shim_api::{
    Failure, FailureKind, GroupsPolicy, IdMapping, Runtime, Seccomp, StartContainer, Started, UserNamespace, blob,
};
use serde::de::DeserializeOwned;

/// A path as it came.
pub(crate) fn path(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

/// An absolute path without a NUL.
pub(crate) fn absolute(bytes: Vec<u8>, step: &str) -> Result<PathBuf, Failure> {
    let path = path(bytes);
    if path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&0) {
        return Ok(path);
    }
    Err(Failure::new(
        FailureKind::Invalid,
        step,
        &path.to_string_lossy(),
        "the path is not absolute, or has a NUL byte",
    ))
}

/// Parses the document that came with a request.
pub(crate) fn document<T: DeserializeOwned>(fd: OwnedFd, step: &str, object: &str) -> Result<T, Failure> {
    let bytes = blob::read(fd)
        .map_err(|error| Failure { kind: FailureKind::Invalid.into(), ..Failure::of(step, object, &error) })?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let text = format!("the document can not be understood as its OCI type: {error}");
        Failure::new(FailureKind::Invalid, step, object, text)
    })
}

/// The system call filter. None at all is an error: it may be one that a newer daemon knows.
pub(crate) fn seccomp(seccomp: Option<Seccomp>, object: &str) -> Result<SeccompChoice, Failure> {
    match seccomp {
        Some(Seccomp::Unconfined(_)) => Ok(SeccompChoice::FromSpec),
        Some(Seccomp::RuntimeDefault(_)) => Ok(SeccompChoice::RuntimeDefault),
        Some(Seccomp::Localhost(profile)) => {
            Ok(SeccompChoice::Profile(absolute(profile, "read the seccomp profile of")?))
        }
        None => {
            let text = "the request names no seccomp filter that this shim knows; pods made by an older shim must be made anew";
            Err(Failure::new(FailureKind::Invalid, "choose the seccomp filter of", object, text))
        }
    }
}

/// The root file system.
pub(crate) fn rootfs(request: &mut StartContainer) -> Result<RootfsPlan, Failure> {
    let step = "prepare the root file system from";
    let layers =
        std::mem::take(&mut request.layers).into_iter().map(|layer| absolute(layer, step)).collect::<Result<_, _>>()?;
    let writable = request.writable.take().map(|directory| absolute(directory, step)).transpose()?;
    Ok(RootfsPlan::Layers { layers, writable })
}

/// The runtime that runs a container in place of ours.
pub(crate) fn runtime(runtime: Option<Runtime>) -> Result<Option<OtherRuntime>, Failure> {
    let Some(runtime) = runtime else { return Ok(None) };
    let step = "use the runtime at";
    Ok(Some(OtherRuntime {
        program: absolute(runtime.path, step)?,
        state: absolute(runtime.state, step)?,
        name: runtime.name,
        options: runtime.options,
        deadline: Duration::from_secs(u64::from(runtime.deadline_seconds.max(1))),
    }))
}

/// The mappings of a user namespace.
pub(crate) fn id_mappings(user: UserNamespace) -> IdMappings {
    let ranges = |list: Vec<IdMapping>| {
        let convert = |mapping: IdMapping| {
            let IdMapping { host_id, container_id, length } = mapping;
            let range = LinuxIdMappingBuilder::default().host_id(host_id).container_id(container_id).size(length);
            // It has defaults for all, so nothing can be missing.
            range.build().unwrap_or_default()
        };
        list.into_iter().map(convert).collect::<Vec<LinuxIdMapping>>()
    };
    IdMappings { uids: ranges(user.uids), gids: ranges(user.gids) }
}

/// Look-up of groups.
pub(crate) fn user_lookup(policy: i32) -> UserLookup {
    UserLookup { merge_groups: policy == i32::from(GroupsPolicy::Merge) }
}

/// The answer to a start.
pub(crate) fn started(pid: i32, started_at_nanos: i64, user: User) -> Started {
    Started { pid, started_at_nanos, uid: user.uid, gid: user.gid, groups: user.groups }
}

/// What `runtime` says of a failed child.
pub(crate) fn child_failure(failure: podwright_runtime::Failure) -> Failure {
    let kind = match failure.kind {
        podwright_runtime::FailureKind::ProgramNotFound => FailureKind::ProgramNotFound,
        podwright_runtime::FailureKind::ProgramNotExecutable => FailureKind::ProgramNotExecutable,
        podwright_runtime::FailureKind::Setup => FailureKind::Setup,
    };
    // Its text is the whole story, step and object included.
    Failure {
        step: String::new(),
        object: failure.object,
        message: failure.text,
        errno: failure.errno,
        kind: kind.into(),
    }
}

/// An error with all its causes.
pub(crate) fn error_failure(
    kind: FailureKind,
    step: &str,
    object: &str,
    error: &(dyn std::error::Error + 'static),
) -> Failure {
    let (mut text, mut errno) = (error.to_string(), errno_of(error));
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        errno = if errno == 0 { errno_of(cause) } else { errno };
        source = cause.source();
    }
    Failure { errno, ..Failure::new(kind, step, object, text) }
}

/// The system's number of an error; 0 for none.
fn errno_of(error: &(dyn std::error::Error + 'static)) -> i32 {
    let io = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    let raw = io.or_else(|| error.downcast_ref::<podwright_sys::Errno>().map(|errno| errno.raw_os_error()));
    raw.or_else(|| error.downcast_ref::<podwright_runtime::Failure>().map(|failure| failure.errno)).unwrap_or(0)
}
