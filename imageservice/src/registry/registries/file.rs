//! The text of one registries.conf, version 2 of its format.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

use super::endpoints::with_host_in_lower_case;

/// One `[[registry]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// What names begin with that this is for: a host, with or without a path, or `*.` and a domain.
    pub(super) prefix: String,
    /// What takes the place of the prefix in the registry's own name; empty: nothing does.
    pub(super) location: String,
    /// TLS is not insisted on.
    pub(super) insecure: bool,
    /// Nothing may be pulled.
    pub(super) blocked: bool,
    /// Servers to ask before.
    pub(super) mirrors: Vec<Mirror>,
    /// Where it stands.
    pub(super) file: PathBuf,
    /// Its line, from 1.
    pub(super) line: usize,
}

/// One `[[registry.mirror]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mirror {
    pub(super) location: String,
    pub(super) insecure: bool,
    pub(super) serves: Serves,
}

/// Which names a mirror is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serves {
    All,
    DigestOnly,
    TagOnly,
}

/// What is wrong, and where.
#[derive(Debug)]
pub(super) struct Mistake {
    /// Another file than the one that was read.
    pub(super) file: Option<PathBuf>,
    /// From 1.
    pub(super) line: usize,
    pub(super) cause: String,
}

#[derive(Deserialize)]
struct RawFile {
    #[serde(default)]
    registry: Vec<Spanned<RawRegistry>>,
    /// Version 1 of the format.
    #[serde(default)]
    registries: Option<Spanned<IgnoredAny>>,
    // Short names and programs, which are not for us; only their form is looked at.
    #[serde(default, rename = "unqualified-search-registries")]
    _search: Vec<String>,
    #[serde(default, rename = "short-name-mode")]
    _mode: String,
    #[serde(default, rename = "aliases")]
    _aliases: BTreeMap<String, String>,
    #[serde(default, rename = "credential-helpers")]
    _helpers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawRegistry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<Spanned<RawMirror>>,
    #[serde(flatten)]
    unknown: BTreeMap<String, IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawMirror {
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: Option<Spanned<String>>,
    #[serde(flatten)]
    unknown: BTreeMap<String, IgnoredAny>,
}

/// Parses a file. Keys that are not known are told in the log: a later podman may know them.
pub(super) fn parse(text: &str, path: &Path) -> Result<Vec<Entry>, Mistake> {
    let at = |offset: usize, cause: String| Mistake { file: None, line: line_of(text, offset), cause };
    let file: RawFile = toml::from_str(text)
        .map_err(|error| at(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
    if let Some(old) = &file.registries {
        let cause =
            "[registries.*] is version 1 of the format; write [[registry]] tables, see containers-registries.conf(5)";
        return Err(at(old.span().start, cause.to_owned()));
    }
    let mut entries = Vec::with_capacity(file.registry.len());
    for registry in file.registry {
        let offset = registry.span().start;
        let line = line_of(text, offset);
        tell_unknown(&registry.get_ref().unknown, path, line);
        entries.push(entry(registry.into_inner(), text, path, line).map_err(|cause| match cause {
            Wrong::Here(cause) => at(offset, cause),
            Wrong::At(offset, cause) => at(offset, cause),
        })?);
    }
    Ok(entries)
}

enum Wrong {
    Here(String),
    At(usize, String),
}

fn entry(raw: RawRegistry, text: &str, file: &Path, line: usize) -> Result<Entry, Wrong> {
    let location = place(&raw.location).map_err(Wrong::Here)?;
    let prefix = place(&raw.prefix).map_err(Wrong::Here)?;
    let (prefix, location) = match (prefix.is_empty(), location.is_empty()) {
        (true, true) => {
            return Err(Wrong::Here("a [[registry]] has neither prefix nor location; give one".to_owned()));
        }
        (true, false) => (location.clone(), location),
        // A whole domain stays where it is.
        (false, true) if prefix.starts_with("*.") => (prefix, location),
        (false, true) => (prefix.clone(), prefix),
        (false, false) => (prefix, location),
    };
    let prefix = with_host_in_lower_case(&prefix);
    check_prefix(&prefix).map_err(Wrong::Here)?;
    if location.contains('*') {
        return Err(Wrong::Here(format!("location {location:?} has a *, which only a prefix may begin with")));
    }
    let mut mirrors = Vec::with_capacity(raw.mirror.len());
    for mirror in raw.mirror {
        let offset = mirror.span().start;
        tell_unknown(&mirror.get_ref().unknown, file, line_of(text, offset));
        mirrors.push(self::mirror(mirror.into_inner(), raw.mirror_by_digest_only, offset)?);
    }
    Ok(Entry { prefix, location, insecure: raw.insecure, blocked: raw.blocked, mirrors, file: file.to_owned(), line })
}

fn mirror(raw: RawMirror, by_digest_only: bool, offset: usize) -> Result<Mirror, Wrong> {
    let here = |cause: String| Wrong::At(offset, cause);
    let location = place(&raw.location).map_err(here)?;
    if location.is_empty() || location.contains('*') {
        return Err(here("a mirror needs a location: host[:port][/path]".to_owned()));
    }
    let serves = match raw.pull_from_mirror.as_ref().map(|value| (value.get_ref().as_str(), value.span().start)) {
        None | Some(("", _)) if by_digest_only => Serves::DigestOnly,
        None | Some(("" | "all", _)) if !by_digest_only => Serves::All,
        Some((_, offset)) if by_digest_only => {
            let cause = "pull-from-mirror can not be set where mirror-by-digest-only is; leave one out";
            return Err(Wrong::At(offset, cause.to_owned()));
        }
        Some(("digest-only", _)) => Serves::DigestOnly,
        Some(("tag-only", _)) => Serves::TagOnly,
        Some((other, offset)) => {
            let cause = format!("pull-from-mirror {other:?} is unknown; use all, digest-only or tag-only");
            return Err(Wrong::At(offset, cause));
        }
        None => Serves::All,
    };
    Ok(Mirror { location, insecure: raw.insecure, serves })
}

/// A host with or without a path, without the slash at its end.
fn place(text: &str) -> Result<String, String> {
    if text.contains("://") {
        return Err(format!("{text:?} has a scheme; write host[:port][/path], and insecure = true for plain HTTP"));
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("{text:?} has a space; write host[:port][/path]"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn check_prefix(prefix: &str) -> Result<(), String> {
    let domain = prefix.strip_prefix("*.");
    let is_good = domain.map_or(!prefix.contains('*'), |domain| !domain.is_empty() && !domain.contains(['*', '/']));
    is_good.then_some(()).ok_or_else(|| {
        format!("prefix {prefix:?} has a * that does not stand for a part of a host; write *.example.com")
    })
}

/// One registry can not be two things. podman refuses such files too.
pub(super) fn check_conflicts(entries: &[Entry]) -> Result<(), Mistake> {
    let mut seen: BTreeMap<&str, &Entry> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| !entry.location.is_empty()) {
        let Some(other) = seen.insert(&entry.location, entry) else { continue };
        let key = match entry {
            _ if entry.insecure != other.insecure => "insecure",
            _ if entry.blocked != other.blocked => "blocked",
            _ => continue,
        };
        let cause =
            format!("location {:?} has another {key} at {}:{}", entry.location, other.file.display(), other.line);
        return Err(Mistake { file: Some(entry.file.clone()), line: entry.line, cause });
    }
    Ok(())
}

fn tell_unknown(unknown: &BTreeMap<String, IgnoredAny>, path: &Path, line: usize) {
    for key in unknown.keys() {
        tracing::warn!(file = %path.display(), line, key, "a key of a registry is unknown and changes nothing");
    }
}

/// The line of a byte, from 1.
fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}
