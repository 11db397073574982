//! Reading tar archives as image layers use them: ustar, GNU and PAX, with long names, xattrs and sparse files.
//!
//! Owns the format. Our own reader and not a library's, because layers are hostile: every piece of metadata is bounded, what
//! is ambiguous is refused, and a sparse file is given as its segments, never as zeros to be written. What entries mean in a
//! directory is left to `unpack`.

mod header;
mod pax;
mod sparse;

use std::io::{BufRead, Read};

pub(crate) use sparse::Segment;

use header::{BLOCK_BYTES, RawHeader};

/// Most bytes of metadata of one entry: long names, PAX records, sparse maps.
const MAX_METADATA_BYTES: u64 = 1 << 20;

/// Why an archive can not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    /// The bytes are no archive.
    #[error("the archive is malformed: {0}")]
    Malformed(String),
    /// The source failed, or ended too early.
    #[error("the archive can not be read")]
    Source(#[from] std::io::Error),
}

fn malformed<T>(cause: impl Into<String>) -> Result<T, TarError> {
    Err(TarError::Malformed(cause.into()))
}

/// The type of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One entry, with what extended headers said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime_seconds: i64,
    pub(crate) mtime_nanoseconds: u32,
    /// Size of the file when written out.
    pub(crate) size: u64,
    /// Target of a link.
    pub(crate) link: Vec<u8>,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the stored bytes belong; a plain file has one segment.
    pub(crate) segments: Vec<Segment>,
}

/// Reads entries one after the other. After [`next`](Self::next), [`data`](Self::data) gives the stored bytes.
pub(crate) struct Reader<R> {
    source: R,
    /// Stored bytes of the entry that were not read.
    left: u64,
    /// Bytes after them up to the next header.
    padding: u64,
    ended: bool,
}

/// What preceding extended headers said about the next entry.
#[derive(Default)]
struct Extension {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: pax::Records,
}

impl<R: BufRead> Reader<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, left: 0, padding: 0, ended: false }
    }

    /// The next entry; `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extension = Extension::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.size()?;
            match header.type_flag() {
                b'x' => extension.pax = pax::parse(&self.metadata(size)?)?,
                // Defaults for the whole archive: a comment in practice.
                b'g' => self.set_data(size),
                b'L' => extension.long_name = Some(header::until_nul(&self.metadata(size)?)),
                b'K' => extension.long_link = Some(header::until_nul(&self.metadata(size)?)),
                _ => return self.entry(&header, extension).map(Some),
            }
        }
    }

    /// Up to `left` stored bytes of the entry, straight from the source's buffer; empty at their end.
    pub(crate) fn data(&mut self) -> Result<&[u8], TarError> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let buffer = self.source.fill_buf()?;
        if buffer.is_empty() {
            return Err(TarError::Source(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let length = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        Ok(buffer.get(..length).unwrap_or_default())
    }

    /// Takes bytes that [`data`](Self::data) gave.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.source.consume(bytes);
        self.left = self.left.saturating_sub(bytes as u64);
    }

    /// Reads to the end of the source, so that whoever hashes it sees all.
    pub(crate) fn drain(&mut self) -> Result<(), TarError> {
        loop {
            let length = self.source.fill_buf()?.len();
            if length == 0 {
                return Ok(());
            }
            self.source.consume(length);
        }
    }

    fn skip(&mut self) -> Result<(), TarError> {
        let mut bytes = self.left + self.padding;
        while bytes > 0 {
            let buffer = self.source.fill_buf()?;
            if buffer.is_empty() {
                // Some writers leave the padding of the last file out.
                if self.left == 0 {
                    break;
                }
                return Err(TarError::Source(std::io::ErrorKind::UnexpectedEof.into()));
            }
            let length = buffer.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
            self.source.consume(length);
            bytes -= length as u64;
            self.left = self.left.saturating_sub(length as u64);
        }
        self.left = 0;
        self.padding = 0;
        Ok(())
    }

    fn header(&mut self) -> Result<Option<RawHeader>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK_BYTES];
        let read = read_up_to(&mut self.source, &mut block)?;
        if read == 0 || block.iter().all(|byte| *byte == 0) {
            self.ended = true;
            return Ok(None);
        }
        if read < BLOCK_BYTES {
            return Err(TarError::Source(std::io::ErrorKind::UnexpectedEof.into()));
        }
        RawHeader::new(block).map(Some)
    }

    fn set_data(&mut self, size: u64) {
        self.left = size;
        self.padding = padding_of(size);
    }

    fn metadata(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_METADATA_BYTES {
            return malformed(format!("an extended header has {size} bytes; {MAX_METADATA_BYTES} is the most"));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        self.source.read_exact(&mut bytes)?;
        self.left = 0;
        self.padding = padding_of(size);
        Ok(bytes)
    }

    fn entry(&mut self, header: &RawHeader, extension: Extension) -> Result<Entry, TarError> {
        let Extension { long_name, long_link, mut pax } = extension;
        let mut kind = header.kind()?;
        let path = pax.sparse_name.take().or(pax.path.take()).or(long_name).unwrap_or_else(|| header.name());
        let link = pax.linkpath.take().or(long_link).unwrap_or_else(|| header.link());
        check_text(&path, "path")?;
        check_text(&link, "link target")?;
        if kind == Kind::Regular && path.ends_with(b"/") && !header.is_sparse() {
            kind = Kind::Directory;
        }
        let stored = pax.size.map_or_else(|| header.size(), Ok)?;
        // Only files carry data. Links of some old writers give the size of their target, without its data.
        let stored = if kind == Kind::Regular { stored } else { 0 };
        self.set_data(stored);
        let (size, segments) = match kind {
            Kind::Regular => self.layout(header, &pax, stored)?,
            _ => (0, Vec::new()),
        };
        let (mtime_seconds, mtime_nanoseconds) = pax.mtime.unwrap_or((header.mtime()?, 0));
        Ok(Entry {
            path,
            kind,
            mode: header.mode()?,
            uid: id(pax.uid.map_or_else(|| header.uid(), Ok)?, "uid")?,
            gid: id(pax.gid.map_or_else(|| header.gid(), Ok)?, "gid")?,
            mtime_seconds,
            mtime_nanoseconds,
            size,
            link,
            device: match kind {
                Kind::CharDevice | Kind::BlockDevice => header.device()?,
                _ => (0, 0),
            },
            xattrs: pax.xattrs,
            segments,
        })
    }

    /// Size when written out, and where the stored bytes go.
    fn layout(&mut self, header: &RawHeader, pax: &pax::Records, stored: u64) -> Result<(u64, Vec<Segment>), TarError> {
        if header.is_sparse() {
            let segments = sparse::old_gnu(header, &mut self.source)?;
            let size = header.sparse_real_size()?;
            return sparse::check(segments, size, stored).map(|segments| (size, segments));
        }
        match &pax.sparse {
            None => Ok((stored, vec![Segment { offset: 0, length: stored }])),
            Some(described) if described.is_in_data => {
                let (segments, map_bytes) = sparse::in_data(&mut self.source, stored)?;
                self.left = stored.saturating_sub(map_bytes);
                sparse::check(segments, described.size, self.left).map(|segments| (described.size, segments))
            }
            Some(described) => {
                sparse::check(described.segments.clone(), described.size, stored).map(|s| (described.size, s))
            }
        }
    }
}

/// Reads until the block is full or the source at its end; how many bytes that were.
pub(crate) fn read_up_to(source: &mut impl Read, block: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn padding_of(size: u64) -> u64 {
    let block = BLOCK_BYTES as u64;
    (block - size % block) % block
}

fn check_text(text: &[u8], what: &str) -> Result<(), TarError> {
    if text.contains(&0) { malformed(format!("a {what} holds a NUL byte")) } else { Ok(()) }
}

/// The kernel's "no id" is no id either.
fn id(value: u64, what: &str) -> Result<u32, TarError> {
    match u32::try_from(value) {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => malformed(format!("{what} {value} is out of range")),
    }
}

#[cfg(test)]
mod tests;
