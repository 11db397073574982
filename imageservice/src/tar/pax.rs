//! PAX extended header records: `LENGTH KEY=VALUE\n`.

use super::{Segment, TarError, malformed};

const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// The records that are used.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse_name: Option<Vec<u8>>,
    pub(super) sparse: Option<Sparse>,
}

/// A sparse file in one of GNU's three PAX formats.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Sparse {
    pub(super) size: u64,
    /// Formats 0.0 and 0.1; in 1.0 the map precedes the data.
    pub(super) segments: Vec<Segment>,
    pub(super) is_in_data: bool,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Records, TarError> {
    let mut records = Records::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (key, value, after) = record(rest)?;
        apply(&mut records, key, value)?;
        rest = after;
    }
    Ok(records)
}

type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

fn record(bytes: &[u8]) -> Result<Record<'_>, TarError> {
    let parsed = || {
        let blank = bytes.iter().take(20).position(|byte| *byte == b' ')?;
        let length = std::str::from_utf8(bytes.get(..blank)?).ok()?.parse::<usize>().ok()?;
        let body = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
        let equals = body.iter().position(|byte| *byte == b'=')?;
        Some((body.get(..equals)?, body.get(equals + 1..)?, bytes.get(length..)?))
    };
    match parsed() {
        Some(record) => Ok(record),
        None => malformed("a PAX record is not of the form LENGTH KEY=VALUE"),
    }
}

fn apply(records: &mut Records, key: &[u8], value: &[u8]) -> Result<(), TarError> {
    // An empty value takes an earlier one back.
    let text = || (!value.is_empty()).then(|| value.to_vec());
    match key {
        b"path" => records.path = text(),
        b"linkpath" => records.linkpath = text(),
        b"size" => records.size = Some(size(value)?),
        b"uid" => records.uid = Some(number(value)?),
        b"gid" => records.gid = Some(number(value)?),
        b"mtime" => records.mtime = Some(time(value)?),
        b"GNU.sparse.name" => records.sparse_name = text(),
        b"GNU.sparse.size" | b"GNU.sparse.realsize" => sparse(records).size = size(value)?,
        b"GNU.sparse.major" => sparse(records).is_in_data = number(value)? == 1,
        b"GNU.sparse.offset" => {
            let offset = number(value)?;
            sparse(records).segments.push(Segment { offset, length: 0 });
        }
        b"GNU.sparse.numbytes" => {
            let length = number(value)?;
            match sparse(records).segments.last_mut() {
                Some(segment) => segment.length = length,
                None => return malformed("a sparse map begins with a length"),
            }
        }
        b"GNU.sparse.map" => sparse(records).segments = map(value)?,
        _ => {
            if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
                if name.is_empty() || name.contains(&0) {
                    return malformed("an extended attribute has no valid name");
                }
                records.xattrs.retain(|(known, _)| known != name);
                records.xattrs.push((name.to_vec(), value.to_vec()));
            }
        }
    }
    Ok(())
}

fn sparse(records: &mut Records) -> &mut Sparse {
    records.sparse.get_or_insert_default()
}

fn size(value: &[u8]) -> Result<u64, TarError> {
    match number(value)? {
        size if size <= i64::MAX as u64 - 1024 => Ok(size),
        size => malformed(format!("an entry has the impossible size {size}")),
    }
}

pub(super) fn number(value: &[u8]) -> Result<u64, TarError> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    match std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok()) {
        Some(number) => Ok(number),
        None => malformed("a PAX number is malformed or too large"),
    }
}

/// Seconds with an optional fraction, possibly negative. The fraction is cut to nanoseconds.
fn time(value: &[u8]) -> Result<(i64, u32), TarError> {
    let bad = || TarError::Malformed("a PAX time is malformed".to_owned());
    let text = std::str::from_utf8(value).map_err(|_| bad())?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| bad())?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let nanoseconds = fraction
        .bytes()
        .chain(std::iter::repeat(b'0'))
        .take(9)
        .fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    if whole.starts_with('-') && nanoseconds > 0 {
        return Ok((seconds.checked_sub(1).ok_or_else(bad)?, 1_000_000_000 - nanoseconds));
    }
    Ok((seconds, nanoseconds))
}

fn map(value: &[u8]) -> Result<Vec<Segment>, TarError> {
    let numbers: Vec<u64> = match value {
        [] => Vec::new(),
        _ => value.split(|byte| *byte == b',').map(number).collect::<Result<_, _>>()?,
    };
    if !numbers.len().is_multiple_of(2) {
        return malformed("a sparse map has an odd count of numbers");
    }
    Ok(numbers
        .chunks_exact(2)
        .filter_map(|pair| match pair {
            [offset, length] => Some(Segment { offset: *offset, length: *length }),
            _ => None,
        })
        .collect())
}
