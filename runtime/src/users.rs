//! Who runs a process: names are looked up in the container's own `passwd` and `group`.
//!
//! Owns the rules by which `name`, `name:group`, `uid` and `uid:gid` become numbers and groups. The files come from an image and
//! are hostile until proven otherwise; `database` reads them so.

mod database;

use std::os::fd::AsFd;

use crate::error::Failure;
use crate::message::User;
use database::{Group, Passwd, scan_groups, scan_passwd};

/// 2^32 - 1 means "leave unchanged" to the kernel, so it is nobody's id.
const LAST_ID: u32 = u32::MAX - 1;

/// Who is to run a process, as a specification says.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct UserRequest<'a> {
    /// `name`, `name:group`, `uid` or `uid:gid`; empty to take the numbers below.
    pub(crate) text: &'a str,
    /// User id, where `text` is empty.
    pub(crate) uid: u32,
    /// Group id, where `text` is empty.
    pub(crate) gid: u32,
    /// Groups to add.
    pub(crate) additional_gids: &'a [u32],
    /// Add the groups that list the user as a member.
    pub(crate) merge_groups: bool,
}

/// Who runs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ResolvedUser {
    /// Numbers.
    pub(crate) user: User,
    /// Home directory, where `passwd` has one.
    pub(crate) home: Option<String>,
}

/// A number or a name.
#[derive(Debug, PartialEq, Eq)]
enum Word<'a> {
    Number(u32),
    Name(&'a str),
}

/// Looks the user up below `root`, the container's root directory.
///
/// A missing file is an empty one. A name that it does not have, and a number out of range, are failures.
pub(crate) fn resolve(root: impl AsFd, request: &UserRequest<'_>) -> Result<ResolvedUser, Failure> {
    let root = root.as_fd();
    let (who, group) = parse(request)?;
    let mut entry: Option<Passwd> = None;
    scan_passwd(root, |candidate| {
        let found = match who {
            Word::Number(uid) => candidate.uid == uid,
            Word::Name(name) => candidate.name == name,
        };
        if found && entry.is_none() {
            entry = Some(candidate.clone());
        }
    })?;
    let uid = match (&who, &entry) {
        (Word::Number(uid), _) => *uid,
        (Word::Name(_), Some(entry)) => entry.uid,
        (Word::Name(name), None) => {
            return Err(Failure::because("look up", format_args!("user {name:?}"), "the image's /etc/passwd does not have it"));
        }
    };
    let default_gid = entry.as_ref().map_or(0, |entry| entry.gid);
    let name = entry.as_ref().map(|entry| entry.name.as_str());
    let (gid, member_of) = scan_group_file(root, group.as_ref(), name.filter(|_| request.merge_groups))?;
    let gid = gid.unwrap_or(default_gid);
    let groups = distinct(std::iter::once(gid).chain(request.additional_gids.iter().copied()).chain(member_of));
    Ok(ResolvedUser { user: User { uid, gid, groups }, home: entry.map(|e| e.home).filter(|home| home.starts_with('/')) })
}

fn parse<'a>(request: &UserRequest<'a>) -> Result<(Word<'a>, Option<Word<'a>>), Failure> {
    if request.text.is_empty() {
        check_id("uid", request.uid)?;
        check_id("gid", request.gid)?;
        return Ok((Word::Number(request.uid), Some(Word::Number(request.gid))));
    }
    match request.text.split_once(':') {
        None => Ok((word("user", request.text)?, None)),
        Some((user, "")) => Ok((word("user", user)?, None)),
        Some((user, group)) => Ok((word("user", user)?, Some(word("group", group)?))),
    }
}

/// What looks like a number is one: a number out of range never becomes a name.
fn word<'a>(what: &str, text: &'a str) -> Result<Word<'a>, Failure> {
    let refuse = |reason: &str| Failure::because("read", format_args!("{what} {text:?}"), reason);
    if text.is_empty() || text.contains([':', '\n', '\0']) {
        return Err(refuse("it is no name and no number"));
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        let number: Option<u32> = text.parse().ok().filter(|number| *number <= LAST_ID && digits.len() == text.len());
        return number.map(Word::Number).ok_or_else(|| refuse("ids are numbers from 0 to 4294967294"));
    }
    Ok(Word::Name(text))
}

fn check_id(what: &str, id: u32) -> Result<(), Failure> {
    if id <= LAST_ID { Ok(()) } else { Err(Failure::because("use", format_args!("{what} {id}"), "the kernel has no such id")) }
}

/// The id of the asked-for group, and the groups that list `member`.
fn scan_group_file(
    root: std::os::fd::BorrowedFd<'_>,
    wanted: Option<&Word<'_>>,
    member: Option<&str>,
) -> Result<(Option<u32>, Vec<u32>), Failure> {
    let mut gid = if let Some(Word::Number(gid)) = wanted { Some(*gid) } else { None };
    let mut member_of = Vec::new();
    if member.is_some() || matches!(wanted, Some(Word::Name(_))) {
        scan_groups(root, |group: &Group<'_>| {
            if gid.is_none() && matches!(wanted, Some(Word::Name(name)) if *name == group.name) {
                gid = Some(group.gid);
            }
            if member.is_some_and(|member| group.has(member)) && member_of.len() < database::MAX_GROUPS {
                member_of.push(group.gid);
            }
        })?;
    }
    match (gid, wanted) {
        (None, Some(Word::Name(name))) => {
            Err(Failure::because("look up", format_args!("group {name:?}"), "the image's /etc/group does not have it"))
        }
        _ => Ok((gid, member_of)),
    }
}

fn distinct(ids: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut out = Vec::new();
    for id in ids {
        if !out.contains(&id) {
            out.push(id);
        }
    }
    out
}

#[cfg(test)]
mod tests;
