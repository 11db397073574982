//! Taking an archive apart that anybody may have written.

use std::fs::File;
use std::io::{BufReader, Read, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::Deserialize;

use super::write::private_file;
use super::{CHANGES, CONFIG, DELETED, IMAGES};
use crate::config::Limits;
use crate::error::{ErrorKind, ImageError, Result};
use crate::tar::{Entry, Kind, Reader, TarError};
use crate::unpack::{Decoder, unpack};

/// Files of one checkpoint's processes.
const MAX_IMAGES: usize = 1 << 16;
/// Longest name of one.
const MAX_NAME_BYTES: usize = 128;
/// Largest document that is read.
const MAX_DOCUMENT_BYTES: u64 = 4 << 20;
/// Paths that a container may have deleted.
const MAX_DELETED: usize = 1 << 20;
/// Images that tell CRIU to run a program, or to change a network namespace. No container needs them here: its file systems and
/// its network are made for it.
const REFUSED: [&str; 10] =
    ["tmpfs-", "iptables-", "ip6tables-", "nftables-", "route", "rule", "netdev", "ifaddr", "netlinksk", "autofs"];

/// What was taken from an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The name of the image that it claims to have been made from.
    pub image: String,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default, rename = "rootfsImageName")]
    name: String,
    #[serde(default, rename = "rootfsImageRef")]
    reference: String,
}

/// Takes an archive apart: the images of the processes go to the new directory `images`, the changes into the empty directory `upper`.
/// `scratch` is a directory for a while.
///
/// # Errors
/// `Corrupt` for what is no such archive or has something in it that is refused, `LimitExceeded` for one that is too large; what was
/// made until then is left to the caller to remove.
pub fn open(archive: &Path, images: &Path, upper: &Path, scratch: &Path, limits: &Limits) -> Result<Opened> {
    let name = archive.display().to_string();
    let file = open_file(archive)?;
    let mut taken = Taken::new(&name, images, scratch.join("changes.tar"), limits);
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(images)
        .map_err(|error| ImageError::io("make the directory", images, error))?;
    let outcome = read_all(file, &mut taken).and_then(|()| taken.finish(upper));
    let _ = std::fs::remove_file(&taken.changes);
    outcome
}

/// The name of the image that an archive claims to have been made from.
///
/// # Errors
/// As [`open`].
pub fn image_of(archive: &Path, limits: &Limits) -> Result<String> {
    let name = archive.display().to_string();
    let file = open_file(archive)?;
    let source = |error: std::io::Error| explain(TarError::Source(error), &name);
    let decoder = Decoder::new(BufReader::new(file)).map_err(source)?;
    let mut reader = Reader::new(BufReader::new(decoder.take(limits.layer_unpacked_bytes.saturating_mul(2))));
    let taken = Taken::new(&name, Path::new(""), PathBuf::new(), limits);
    for _ in 0..MAX_IMAGES * 2 {
        let Some(entry) = reader.next().map_err(|error| explain(error, &name))? else { break };
        if entry.path.strip_prefix(b"./").unwrap_or(&entry.path) == CONFIG.as_bytes() && entry.kind == Kind::Regular {
            let config: Config = taken.document(&entry, &mut reader)?;
            return taken.named(&config);
        }
    }
    Err(taken.corrupt(format!("it has no {CONFIG}")))
}

/// A regular file: what else could be read may never end.
fn open_file(archive: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(archive, flags, Mode::empty()).map_err(|errno| match errno {
        rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => ImageError::new(
            ErrorKind::NotFound,
            "open the checkpoint archive",
            archive.display(),
            "there is no such file",
        ),
        _ => ImageError::io("open the checkpoint archive", archive, errno),
    })?;
    let file = File::from(file);
    match file.metadata() {
        Ok(about) if about.is_file() => Ok(file),
        Ok(_) => {
            let cause = "it is no regular file";
            Err(ImageError::new(ErrorKind::Invalid, "open the checkpoint archive", archive.display(), cause))
        }
        Err(error) => Err(ImageError::io("open the checkpoint archive", archive, error)),
    }
}

struct Taken<'a> {
    name: &'a str,
    images: &'a Path,
    changes: PathBuf,
    count: usize,
    bytes: u64,
    limits: &'a Limits,
    config: Option<Config>,
    has_changes: bool,
    deleted: Vec<String>,
}

fn read_all(file: impl Read, taken: &mut Taken<'_>) -> Result<()> {
    let name = taken.name;
    let source = |error: std::io::Error| explain(TarError::Source(error), name);
    let decoder = Decoder::new(BufReader::new(file)).map_err(source)?;
    // Beyond that nothing is inflated, whatever is skipped.
    let mut reader = Reader::new(BufReader::new(decoder.take(taken.limits.layer_unpacked_bytes.saturating_mul(2))));
    let mut entries = 0;
    while let Some(entry) = reader.next().map_err(|error| explain(error, name))? {
        entries += 1;
        if entries > MAX_IMAGES * 2 {
            return Err(taken.too_large(&format!("it has more than {} entries", MAX_IMAGES * 2)));
        }
        taken.take(&entry, &mut reader)?;
    }
    Ok(())
}

fn explain(error: TarError, name: &str) -> ImageError {
    let step = "read the checkpoint archive";
    match error {
        TarError::Malformed(cause) => ImageError::new(ErrorKind::Corrupt, step, name, cause),
        TarError::Source(error) => match error.kind() {
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput => {
                ImageError::new(ErrorKind::Corrupt, step, name, format!("it is cut off or damaged: {error}"))
            }
            _ => ImageError::io(step, Path::new(name), error),
        },
    }
}

impl<'a> Taken<'a> {
    fn new(name: &'a str, images: &'a Path, changes: PathBuf, limits: &'a Limits) -> Self {
        Self {
            name,
            images,
            changes,
            count: 0,
            bytes: 0,
            limits,
            config: None,
            has_changes: false,
            deleted: Vec::new(),
        }
    }

    fn named(&self, config: &Config) -> Result<String> {
        let image = if config.name.is_empty() { &config.reference } else { &config.name };
        match image.is_empty() {
            true => Err(self.corrupt(format!("its {CONFIG} names no image"))),
            false => Ok(image.clone()),
        }
    }

    fn corrupt(&self, cause: impl Into<String>) -> ImageError {
        ImageError::new(ErrorKind::Corrupt, "read the checkpoint archive", self.name, cause)
    }

    fn too_large(&self, cause: &str) -> ImageError {
        ImageError::new(ErrorKind::LimitExceeded, "read the checkpoint archive", self.name, cause)
    }

    fn take<R: std::io::BufRead>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        let path = path.strip_prefix("./").unwrap_or(&path).trim_end_matches('/');
        let image = path.strip_prefix(IMAGES).and_then(|rest| rest.strip_prefix('/'));
        let wanted = image.is_some() || [CHANGES, CONFIG, DELETED].contains(&path);
        if !wanted || entry.kind == Kind::Directory {
            return Ok(());
        }
        if entry.kind != Kind::Regular {
            return Err(self.corrupt(format!("{path:?} is no file")));
        }
        self.bytes = self.bytes.saturating_add(entry.size);
        if self.bytes > self.limits.layer_unpacked_bytes {
            let text = format!("its files have more than {} bytes", self.limits.layer_unpacked_bytes);
            return Err(self.too_large(&text));
        }
        match (image, path) {
            (Some(name), _) => self.image(name, entry, reader),
            (None, CHANGES) => {
                self.has_changes = true;
                let changes = self.changes.clone();
                self.copy(entry, reader, &changes)
            }
            (None, CONFIG) => {
                self.config = Some(self.document(entry, reader)?);
                Ok(())
            }
            (None, _) => {
                self.deleted = self.document(entry, reader)?;
                if self.deleted.len() > MAX_DELETED {
                    return Err(self.too_large(&format!("it lists more than {MAX_DELETED} deleted files")));
                }
                Ok(())
            }
        }
    }

    fn image<R: std::io::BufRead>(&mut self, name: &str, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.starts_with('.') || !name.chars().all(is_plain) {
            return Err(self.corrupt(format!("{name:?} is no name of a file of CRIU")));
        }
        if REFUSED.iter().any(|refused| name.starts_with(refused)) {
            let cause = format!("{name:?} would have CRIU run programs or change networks; it is refused");
            return Err(self.corrupt(cause));
        }
        self.count += 1;
        if self.count > MAX_IMAGES {
            return Err(self.too_large(&format!("it has more than {MAX_IMAGES} files of processes")));
        }
        self.copy(entry, reader, &self.images.join(name))
    }

    fn copy<R: std::io::BufRead>(&self, entry: &Entry, reader: &mut Reader<R>, to: &Path) -> Result<()> {
        let fail = |error: std::io::Error| ImageError::io("write", to, error);
        let mut file = private_file(to).map_err(fail)?;
        self.data(entry, reader, &mut |bytes| file.write_all(bytes).map_err(fail))
    }

    fn document<R: std::io::BufRead, T: for<'de> Deserialize<'de>>(
        &self,
        entry: &Entry,
        reader: &mut Reader<R>,
    ) -> Result<T> {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        if entry.size > MAX_DOCUMENT_BYTES {
            return Err(self.too_large(&format!("{path:?} has more than {MAX_DOCUMENT_BYTES} bytes")));
        }
        let mut bytes = Vec::new();
        self.data(entry, reader, &mut |more| {
            bytes.extend_from_slice(more);
            Ok(())
        })?;
        serde_json::from_slice(&bytes).map_err(|error| self.corrupt(format!("{path:?} can not be understood: {error}")))
    }

    /// All stored bytes. A sparse file is refused: nobody writes them here, and their holes would be lost.
    fn data<R: std::io::BufRead>(
        &self,
        entry: &Entry,
        reader: &mut Reader<R>,
        each: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let whole = entry.segments.iter().map(|segment| segment.length).sum::<u64>() == entry.size;
        if !whole {
            return Err(self.corrupt(format!("{:?} is a sparse file", String::from_utf8_lossy(&entry.path))));
        }
        loop {
            let bytes = reader.data().map_err(|error| explain(error, self.name))?;
            let length = bytes.len();
            if length == 0 {
                return Ok(());
            }
            each(bytes)?;
            reader.consume(length);
        }
    }

    fn finish(&self, upper: &Path) -> Result<Opened> {
        let config = self.config.as_ref().ok_or_else(|| self.corrupt(format!("it has no {CONFIG}")))?;
        let image = self.named(config)?;
        if self.count == 0 {
            return Err(self.corrupt("it has no processes in it"));
        }
        if self.has_changes {
            let fail = |error| ImageError::io("open", &self.changes, error);
            let source = BufReader::new(File::open(&self.changes).map_err(fail)?);
            let decoder = Decoder::new(source).map_err(|error| explain(TarError::Source(error), self.name))?;
            let limited = decoder.take(self.limits.layer_unpacked_bytes);
            unpack(BufReader::new(limited), upper, self.limits, &format!("{CHANGES} of {}", self.name))?;
        }
        if !self.deleted.is_empty() {
            let whiteouts = self.whiteouts()?;
            unpack(whiteouts.as_slice(), upper, self.limits, &format!("{DELETED} of {}", self.name))?;
        }
        Ok(Opened { image })
    }

    /// The list of deleted files as the archive of a layer, so that they are resolved as every other path.
    fn whiteouts(&self) -> Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for deleted in &self.deleted {
            let path = Path::new(deleted.trim_start_matches('/'));
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(self.corrupt(format!("{deleted:?} can not have been deleted")));
            };
            let mut marked = std::ffi::OsString::from(".wh.");
            marked.push(name);
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o600);
            header.set_size(0);
            let added = archive.append_data(&mut header, parent.join(marked), std::io::empty());
            added.map_err(|error| self.corrupt(format!("{deleted:?}: {error}")))?;
        }
        archive.into_inner().map_err(|error| self.corrupt(error.to_string()))
    }
}
