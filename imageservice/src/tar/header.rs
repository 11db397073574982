//! The 512-byte header block.

use super::{Kind, Segment, TarError, malformed};

pub(super) const BLOCK_BYTES: usize = 512;
const SPARSE_IN_HEADER: usize = 4;

/// A header whose checksum fits.
pub(super) struct RawHeader {
    block: [u8; BLOCK_BYTES],
}

impl RawHeader {
    pub(super) fn new(block: [u8; BLOCK_BYTES]) -> Result<Self, TarError> {
        let header = Self { block };
        let stated = number(header.field(148, 8))?;
        // The checksum counts its own field as blanks. Old writers summed signed bytes.
        let sum = |weigh: fn(u8) -> i64| -> i64 {
            block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { weigh(*byte) }).sum()
        };
        let fits = |sum: i64| u64::try_from(sum).is_ok_and(|sum| sum == stated);
        if fits(sum(i64::from)) || fits(sum(|byte| i64::from(byte.cast_signed()))) {
            Ok(header)
        } else {
            malformed("a header's checksum is wrong; this is no tar archive, or it is damaged")
        }
    }

    fn field(&self, offset: usize, length: usize) -> &[u8] {
        self.block.get(offset..offset + length).unwrap_or_default()
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.field(156, 1).first().copied().unwrap_or_default()
    }

    pub(super) fn kind(&self) -> Result<Kind, TarError> {
        match self.type_flag() {
            0 | b'0' | b'7' | b'S' => Ok(Kind::Regular),
            b'1' => Ok(Kind::HardLink),
            b'2' => Ok(Kind::Symlink),
            b'3' => Ok(Kind::CharDevice),
            b'4' => Ok(Kind::BlockDevice),
            b'5' => Ok(Kind::Directory),
            b'6' => Ok(Kind::Fifo),
            other => malformed(format!("an entry has the unknown type {:?}", char::from(other))),
        }
    }

    pub(super) fn name(&self) -> Vec<u8> {
        let name = until_nul(self.field(0, 100));
        // "ustar\0" has a prefix field; GNU's "ustar " uses the place for other things.
        let prefix = if self.field(257, 6) == b"ustar\0" { until_nul(self.field(345, 155)) } else { Vec::new() };
        if prefix.is_empty() { name } else { [prefix.as_slice(), b"/", &name].concat() }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        until_nul(self.field(157, 100))
    }

    pub(super) fn mode(&self) -> Result<u32, TarError> {
        // Some writers put the type bits here too.
        number(self.field(100, 8)).map(|mode| u32::try_from(mode & 0o7777).unwrap_or_default())
    }

    pub(super) fn uid(&self) -> Result<u64, TarError> {
        number(self.field(108, 8))
    }

    pub(super) fn gid(&self) -> Result<u64, TarError> {
        number(self.field(116, 8))
    }

    pub(super) fn size(&self) -> Result<u64, TarError> {
        match number(self.field(124, 12))? {
            size if size <= i64::MAX as u64 - BLOCK_BYTES as u64 => Ok(size),
            size => malformed(format!("an entry has the impossible size {size}")),
        }
    }

    pub(super) fn mtime(&self) -> Result<i64, TarError> {
        signed_number(self.field(136, 12))
    }

    pub(super) fn device(&self) -> Result<(u32, u32), TarError> {
        let part = |field: &[u8]| match number(field).map(u32::try_from)? {
            Ok(part) => Ok(part),
            Err(_) => malformed("a device number is out of range"),
        };
        Ok((part(self.field(329, 8))?, part(self.field(337, 8))?))
    }

    pub(super) fn is_sparse(&self) -> bool {
        self.type_flag() == b'S'
    }

    pub(super) fn sparse_real_size(&self) -> Result<u64, TarError> {
        number(self.field(483, 12))
    }

    /// The segments in the header, and whether blocks with more follow.
    pub(super) fn sparse_segments(&self) -> Result<(Vec<Segment>, bool), TarError> {
        let segments = sparse_array(self.field(386, SPARSE_IN_HEADER * 24))?;
        Ok((segments, self.field(482, 1) != [0]))
    }
}

/// Pairs of offset and length, up to the first empty one.
pub(super) fn sparse_array(bytes: &[u8]) -> Result<Vec<Segment>, TarError> {
    let mut segments = Vec::new();
    for pair in bytes.chunks_exact(24) {
        let (offset, length) = pair.split_at(12);
        if offset.first() == Some(&0) {
            break;
        }
        segments.push(Segment { offset: number(offset)?, length: number(length)? });
    }
    Ok(segments)
}

pub(super) fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().take_while(|byte| *byte != 0).collect()
}

fn number(field: &[u8]) -> Result<u64, TarError> {
    match signed_number(field).map(u64::try_from)? {
        Ok(number) => Ok(number),
        Err(_) => malformed("a header holds a negative number where none can be"),
    }
}

/// Octal digits, or base 256 if the first bit is set.
fn signed_number(field: &[u8]) -> Result<i64, TarError> {
    match field.split_first() {
        Some((first, rest)) if first & 0x80 != 0 => base_256(*first, rest),
        _ => octal(field),
    }
}

fn base_256(first: u8, rest: &[u8]) -> Result<i64, TarError> {
    // The second bit is the sign.
    let start = if first & 0x40 == 0 { i128::from(first & 0x3f) } else { i128::from(first & 0x3f) - 0x40 };
    let mut value = start;
    for byte in rest {
        value = value * 256 + i128::from(*byte);
        if value.unsigned_abs() > u128::from(u64::MAX) {
            return malformed("a number in a header is too large");
        }
    }
    match i64::try_from(value) {
        Ok(value) => Ok(value),
        Err(_) => malformed("a number in a header is too large"),
    }
}

fn octal(field: &[u8]) -> Result<i64, TarError> {
    let is_filler = |byte: &&u8| matches!(**byte, b' ' | 0);
    let digits: Vec<u8> = field.iter().skip_while(is_filler).take_while(|byte| !is_filler(byte)).copied().collect();
    let mut value: i64 = 0;
    for digit in digits {
        if !(b'0'..=b'7').contains(&digit) {
            return malformed("a number in a header is not octal");
        }
        // Twelve octal digits are 36 bits: no overflow.
        value = value * 8 + i64::from(digit - b'0');
    }
    Ok(value)
}
