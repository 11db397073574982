//! One layer: tar entries, then compression. Paths are written as they are given, wrong ones too.

use std::io::Write;

use anyhow::{Context, Result, ensure};
use flate2::write::GzEncoder;
use tar::{EntryType, Header};

use super::{Blob, Format, sha256};

/// How a layer's tar stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, as nearly every image.
    Gzip,
    /// zstd; Docker's schema 2 has no media type for it.
    Zstd,
}

impl Compression {
    pub(super) fn media_type(self, format: Format) -> &'static str {
        match (format, self) {
            (Format::Oci, Self::None) => "application/vnd.oci.image.layer.v1.tar",
            (Format::Oci, Self::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (_, Self::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (Format::Docker, Self::None) => "application/vnd.docker.image.rootfs.diff.tar",
            (Format::Docker, Self::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        }
    }
}

/// A finished layer.
#[derive(Debug, Clone)]
pub struct Layer {
    /// What a registry serves.
    pub blob: Blob,
    /// Digest of the uncompressed stream.
    pub diff_id: String,
    /// Its compression.
    pub compression: Compression,
}

impl Layer {
    /// A layer of arbitrary bytes, which need not be a tar stream.
    ///
    /// # Errors
    /// The compressor failed.
    pub fn from_stream(stream: &[u8], compression: Compression) -> Result<Self> {
        let blob = match compression {
            Compression::None => stream.to_vec(),
            Compression::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(stream).context("compressing a layer with gzip")?;
                encoder.finish().context("compressing a layer with gzip")?
            }
            Compression::Zstd => zstd::encode_all(stream, 1).context("compressing a layer with zstd")?,
        };
        Ok(Self { blob: Blob::new(blob), diff_id: sha256(stream), compression })
    }
}

/// Collects the entries of a layer.
pub struct LayerBuilder {
    tar: tar::Builder<Vec<u8>>,
    error: Option<anyhow::Error>,
}

impl Default for LayerBuilder {
    fn default() -> Self {
        Self { tar: tar::Builder::new(Vec::new()), error: None }
    }
}

impl LayerBuilder {
    /// A layer without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A directory of root's.
    #[must_use]
    pub fn dir(self, path: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, path, "", mode, (0, 0), &[])
    }

    /// A file of root's.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, "", mode, (0, 0), content)
    }

    /// A file of somebody's.
    #[must_use]
    pub fn file_of(self, path: &str, mode: u32, owner: (u64, u64), content: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, "", mode, owner, content)
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, target, 0o777, (0, 0), &[])
    }

    /// A hard link to an entry.
    #[must_use]
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, target, 0o755, (0, 0), &[])
    }

    /// A character device.
    #[must_use]
    pub fn char_device(mut self, path: &str, major: u32, minor: u32) -> Self {
        let outcome = header(EntryType::Char, path, "", 0o666, (0, 0), 0).and_then(|mut header| {
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
            header.set_cksum();
            self.tar.append(&header, std::io::empty()).context("writing a device")
        });
        self.note(path, outcome);
        self
    }

    /// A named pipe.
    #[must_use]
    pub fn fifo(self, path: &str) -> Self {
        self.entry(EntryType::Fifo, path, "", 0o644, (0, 0), &[])
    }

    /// Says that `path` of a lower layer is not there any more.
    #[must_use]
    pub fn whiteout(self, path: &str) -> Self {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let separator = if dir.is_empty() { "" } else { "/" };
        self.file(&format!("{dir}{separator}.wh.{name}"), 0o644, &[])
    }

    /// Ends the stream and compresses it.
    ///
    /// # Errors
    /// An entry did not fit into a tar stream, or the compressor failed.
    pub fn finish(self, compression: Compression) -> Result<Layer> {
        Layer::from_stream(&self.stream()?, compression)
    }

    /// Ends the stream and returns it uncompressed.
    ///
    /// # Errors
    /// An entry did not fit into a tar stream.
    pub fn stream(self) -> Result<Vec<u8>> {
        match self.error {
            Some(error) => Err(error),
            None => self.tar.into_inner().context("ending a tar stream"),
        }
    }

    fn entry(
        mut self,
        kind: EntryType,
        path: &str,
        target: &str,
        mode: u32,
        owner: (u64, u64),
        content: &[u8],
    ) -> Self {
        let outcome = header(kind, path, target, mode, owner, content.len())
            .and_then(|header| self.tar.append(&header, content).context("writing an entry"));
        self.note(path, outcome);
        self
    }

    fn note(&mut self, path: &str, outcome: Result<()>) {
        if let Err(error) = outcome {
            self.error.get_or_insert(error.context(format!("adding {path} to a layer")));
        }
    }
}

/// Fills the name fields by hand: the tar crate refuses `..` and absolute paths, which tests need.
fn header(kind: EntryType, path: &str, target: &str, mode: u32, owner: (u64, u64), size: usize) -> Result<Header> {
    let mut header = Header::new_ustar();
    let fields = header.as_ustar_mut().context("a ustar header")?;
    for (field, text) in [(&mut fields.name, path), (&mut fields.linkname, target)] {
        let room = field.get_mut(..text.len());
        ensure!(room.is_some(), "{text} is longer than {} bytes", 100);
        if let Some(room) = room {
            room.copy_from_slice(text.as_bytes());
        }
    }
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner.0);
    header.set_gid(owner.1);
    header.set_size(u64::try_from(size)?);
    header.set_mtime(0);
    header.set_cksum();
    Ok(header)
}
