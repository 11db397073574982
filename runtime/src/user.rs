//! Who runs a process: numbers, or names that the container's `passwd` and `group` know. Files of an image are hostile: sizes
//! are bounded, lines that make no sense are skipped, and a number out of range is an error and never another number.

use std::path::Path;

use crate::error::Failure;
use crate::message::User;
use crate::root::Root;

/// Largest passwd or group file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Most supplementary groups. The kernel takes 65,536, but they are told in one message, and nobody needs as many.
pub(crate) const MAX_GROUPS: usize = 4096;

/// Why a user was not found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserError {
    #[error("the user {0:?} is not in the container's /etc/passwd")]
    NoUser(String),
    #[error("the group {0:?} is not in the container's /etc/group")]
    NoGroup(String),
    #[error("{0} is out of the range of ids, 0 to 4294967294")]
    OutOfRange(String),
    #[error("it is not of the form name, name:group, uid or uid:gid")]
    Form,
    #[error("it is in more than {MAX_GROUPS} groups; leave some out of the image's /etc/group or of the request")]
    TooManyGroups,
}

/// What was asked for, and what is known without files.
pub(crate) struct Request<'a> {
    /// `name`, `name:group`, `uid`, `uid:gid`; `None` for the numbers below.
    pub(crate) name: Option<&'a str>,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) additional: &'a [u32],
    pub(crate) merge: bool,
}

/// A user, with its home directory if the passwd file tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) user: User,
    pub(crate) home: Option<String>,
}

/// Looks a user up in the container's root.
pub(crate) fn look_up(root: &Root, request: &Request<'_>) -> Result<Found, Failure> {
    let passwd = root.read(Path::new("/etc/passwd"), MAX_FILE_BYTES)?.unwrap_or_default();
    // Numbers need no names of groups.
    let group = match request.name.is_some() || request.merge {
        true => root.read(Path::new("/etc/group"), MAX_FILE_BYTES)?.unwrap_or_default(),
        false => Vec::new(),
    };
    let object = request.name.map_or_else(|| request.uid.to_string(), |name| format!("{name:?}"));
    resolve(&passwd, &group, request).map_err(|error| Failure::because("look up the user", object, error))
}

/// An entry of passwd.
struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn entries(passwd: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    passwd.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = std::str::from_utf8(line).ok()?.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let (uid, gid) = (id(fields.nth(1)?).ok()??, id(fields.next()?).ok()??);
        Some(Entry { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    })
}

/// Name, id and members of the lines of group.
fn groups(group: &[u8]) -> impl Iterator<Item = (&str, u32, &str)> {
    group.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = std::str::from_utf8(line).ok()?.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = id(fields.nth(1)?).ok()??;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

/// A number as an id: `None` if it is no number, an error if it is one that is no id.
fn id(text: &str) -> Result<Option<u32>, UserError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(u32::MAX) | Err(_) => Err(UserError::OutOfRange(text.chars().take(64).collect())),
        Ok(id) => Ok(Some(id)),
    }
}

fn resolve(passwd: &[u8], group: &[u8], request: &Request<'_>) -> Result<Found, UserError> {
    let (entry, uid, gid) = match request.name {
        None => (entries(passwd).find(|e| e.uid == request.uid), request.uid, request.gid),
        Some(name) => resolve_name(passwd, group, name)?,
    };
    let mut groups_of_user = vec![gid];
    groups_of_user.extend_from_slice(request.additional);
    if let (true, Some(entry)) = (request.merge, &entry) {
        let member = |members: &str| members.split(',').any(|member| member.trim() == entry.name);
        groups_of_user.extend(groups(group).filter(|(_, _, members)| member(members)).map(|(_, gid, _)| gid));
    }
    let mut seen = std::collections::BTreeSet::new();
    groups_of_user.retain(|gid| seen.insert(*gid));
    if groups_of_user.len() > MAX_GROUPS {
        return Err(UserError::TooManyGroups);
    }
    if uid == u32::MAX || seen.contains(&u32::MAX) {
        return Err(UserError::OutOfRange(u32::MAX.to_string()));
    }
    let home =
        entry.map(|entry| entry.home).filter(|home| home.starts_with('/') && !home.chars().any(char::is_control));
    Ok(Found { user: User { uid, gid, groups: groups_of_user }, home: home.map(str::to_owned) })
}

/// A string of digits is always a number: a passwd line must not make it somebody else.
fn resolve_name<'a>(passwd: &'a [u8], group: &[u8], name: &str) -> Result<(Option<Entry<'a>>, u32, u32), UserError> {
    let (user, group_name) = match name.split_once(':') {
        Some((user, group)) if !group.is_empty() && !group.contains(':') => (user, Some(group)),
        Some(_) => return Err(UserError::Form),
        None => (name, None),
    };
    if user.is_empty() {
        return Err(UserError::Form);
    }
    let number = id(user)?;
    let entry = entries(passwd).find(|entry| number.map_or(entry.name == user, |uid| entry.uid == uid));
    let uid = match (&entry, number) {
        (Some(entry), _) => entry.uid,
        (None, Some(uid)) => uid,
        (None, None) => return Err(UserError::NoUser(user.to_owned())),
    };
    let gid = match group_name {
        Some(group_name) => resolve_group(group, group_name)?,
        None => entry.as_ref().map_or(0, |entry| entry.gid),
    };
    Ok((entry, uid, gid))
}

fn resolve_group(group: &[u8], name: &str) -> Result<u32, UserError> {
    if let Some(gid) = id(name)? {
        return Ok(gid);
    }
    let found = groups(group).find(|(group, _, _)| *group == name).map(|(_, gid, _)| gid);
    found.ok_or_else(|| UserError::NoGroup(name.to_owned()))
}

/// Looks `name` up in these files; for the fuzz target.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(name: &str, passwd: &[u8], group: &[u8]) {
    let request = Request { name: Some(name), uid: 0, gid: 0, additional: &[], merge: true };
    let Ok(found) = resolve(passwd, group, &request) else { return };
    assert!(found.user.uid != u32::MAX && found.user.gid != u32::MAX, "no id was taken for one");
    let digits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    assert!(!digits || name.parse() == Ok(found.user.uid), "a number became another one");
}

#[cfg(test)]
mod tests;
