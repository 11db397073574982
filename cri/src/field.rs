//! Checks of single fields of a request: presence, length, bytes that no kernel interface takes. Every refusal names the
//! field by its path in the request. What a well-formed value means is left to `convert`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, PathBuf};

/// Longest name, label or other short text.
pub(crate) const MAX_NAME_BYTES: usize = 1024;
/// Longest path: PATH_MAX without the final NUL.
pub(crate) const MAX_PATH_BYTES: usize = 4095;
/// Longest argument or variable: MAX_ARG_STRLEN without the final NUL.
pub(crate) const MAX_ARGUMENT_BYTES: usize = (128 << 10) - 1;
/// Longest list.
pub(crate) const MAX_ITEMS: usize = 16_384;
/// All keys and values of a map of labels or annotations together.
pub(crate) const MAX_MAP_BYTES: usize = 1 << 20;
/// How much of a bad value an error shows.
const SHOWN_CHARS: usize = 48;

/// A field that can not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub(crate) struct BadField {
    field: String,
    problem: String,
}

impl BadField {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// Puts the name of the surrounding message before the field of an error.
pub(crate) trait Within<T> {
    /// `outer` is only formatted for an error.
    fn within(self, outer: impl fmt::Display) -> Result<T, BadField>;
}

impl<T> Within<T> for Result<T, BadField> {
    fn within(self, outer: impl fmt::Display) -> Result<T, BadField> {
        self.map_err(|bad| BadField { field: format!("{outer}.{}", bad.field), problem: bad.problem })
    }
}

/// A value as an error shows it: quoted, escaped, shortened.
pub(crate) fn shown(value: &str) -> String {
    let mut chars = value.chars();
    let start: String = chars.by_ref().take(SHOWN_CHARS).collect();
    let rest = chars.as_str().len();
    if rest == 0 { format!("{start:?}") } else { format!("{start:?} and {rest} more bytes") }
}

/// A message that has to be there.
pub(crate) fn required<T>(field: &str, value: Option<T>) -> Result<T, BadField> {
    value.ok_or_else(|| BadField::new(field, "is missing"))
}

/// Text of at most `max_bytes` without NUL bytes; may be empty.
pub(crate) fn text(field: &str, value: String, max_bytes: usize) -> Result<String, BadField> {
    if value.len() > max_bytes {
        return Err(BadField::new(field, format!("is {} bytes long; at most {max_bytes} are allowed", value.len())));
    }
    if value.contains('\0') {
        return Err(BadField::new(field, format!("{} has a NUL byte", shown(&value))));
    }
    Ok(value)
}

/// Text on one line, without control characters; may be empty.
pub(crate) fn line(field: &str, value: String, max_bytes: usize) -> Result<String, BadField> {
    let value = text(field, value, max_bytes)?;
    if value.chars().any(char::is_control) {
        return Err(BadField::new(field, format!("{} has a control character", shown(&value))));
    }
    Ok(value)
}

/// A name: one line that is not empty.
pub(crate) fn name(field: &str, value: String) -> Result<String, BadField> {
    if value.is_empty() {
        return Err(BadField::new(field, "is empty"));
    }
    line(field, value, MAX_NAME_BYTES)
}

/// A path from the root.
pub(crate) fn absolute_path(field: &str, value: String) -> Result<PathBuf, BadField> {
    let value = text(field, value, MAX_PATH_BYTES)?;
    if !value.starts_with('/') {
        return Err(BadField::new(field, format!("{} is not an absolute path", shown(&value))));
    }
    Ok(PathBuf::from(value))
}

/// As [`absolute_path`], or empty.
pub(crate) fn absolute_path_or_empty(field: &str, value: String) -> Result<PathBuf, BadField> {
    if value.is_empty() { Ok(PathBuf::new()) } else { absolute_path(field, value) }
}

/// A path that stays below where it starts; may be empty.
pub(crate) fn inner_path(field: &str, value: String) -> Result<PathBuf, BadField> {
    let path = PathBuf::from(text(field, value, MAX_PATH_BYTES)?);
    let stays = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !stays {
        let problem = format!("{} has to be relative and without \"..\"", shown(&path.to_string_lossy()));
        return Err(BadField::new(field, problem));
    }
    Ok(path)
}

/// A list of bounded length.
pub(crate) fn list<T>(field: &str, value: Vec<T>) -> Result<Vec<T>, BadField> {
    if value.len() > MAX_ITEMS {
        return Err(BadField::new(field, format!("has {} entries; at most {MAX_ITEMS} are allowed", value.len())));
    }
    Ok(value)
}

/// Every entry of a bounded list through `convert`; errors name the index.
pub(crate) fn each<T, U>(
    field: &str,
    values: Vec<T>,
    mut convert: impl FnMut(T) -> Result<U, BadField>,
) -> Result<Vec<U>, BadField> {
    let values = list(field, values)?.into_iter().enumerate();
    values.map(|(i, value)| convert(value).within(format_args!("{field}[{i}]"))).collect()
}

/// Every text of a bounded list through `check`; errors name the index.
pub(crate) fn texts(
    field: &str,
    values: Vec<String>,
    check: impl Fn(&str, String) -> Result<String, BadField>,
) -> Result<Vec<String>, BadField> {
    let values = list(field, values)?.into_iter().enumerate();
    values
        .map(|(i, value)| check("", value).map_err(|bad| BadField::new(format!("{field}[{i}]"), bad.problem)))
        .collect()
}

/// Labels or annotations.
pub(crate) fn map(field: &str, value: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, BadField> {
    let bytes: usize = value.iter().map(|(k, v)| k.len() + v.len()).sum();
    if bytes > MAX_MAP_BYTES {
        return Err(BadField::new(field, format!("is {bytes} bytes long; at most {MAX_MAP_BYTES} are allowed")));
    }
    match value.iter().find(|(k, v)| k.contains('\0') || v.contains('\0')) {
        Some((key, _)) => Err(BadField::new(field, format!("the entry {} has a NUL byte", shown(key)))),
        None => Ok(value),
    }
}

/// A user or group id.
pub(crate) fn user_or_group_id(field: &str, value: i64) -> Result<u32, BadField> {
    // The last one is (uid_t)-1, which system calls take for "no change".
    u32::try_from(value)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| BadField::new(field, format!("{value} is not an id; ids go from 0 to {}", u32::MAX - 1)))
}

/// An enum of the API.
pub(crate) fn known<T: TryFrom<i32>>(field: &str, value: i32) -> Result<T, BadField> {
    T::try_from(value).map_err(|_| BadField::new(field, format!("{value} is not a known value")))
}

#[cfg(test)]
mod tests;
