//! Writing an archive: beside its place and renamed, so that there is a whole one or none.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::{BESIDE, CHANGES, IMAGES};
use crate::error::{ErrorKind, ImageError, Result};

/// What goes into an archive.
#[derive(Debug)]
pub struct Contents<'a> {
    /// Directory with the images of the processes.
    pub images: &'a Path,
    /// What [`changes`](super::changes) wrote.
    pub changes: &'a Path,
    /// Documents by the names of their entries.
    pub documents: &'a [(&'a str, Vec<u8>)],
    /// Who writes it: a file name, of whoever writes one archive at a time.
    pub by: &'a str,
}

/// Writes an archive to `to`, for nobody but root to read.
///
/// # Errors
/// The disk's; `Invalid` if something is at `to` that is no regular file, or no place for one. A failure leaves nothing.
pub fn write(contents: &Contents<'_>, to: &Path) -> Result<()> {
    let step = "write the checkpoint archive";
    if std::fs::symlink_metadata(to).is_ok_and(|there| !there.is_file()) {
        let cause = "something else than a file is there; name another place";
        return Err(ImageError::new(ErrorKind::Invalid, step, to.display(), cause));
    }
    let names_none = || ImageError::new(ErrorKind::Invalid, step, to.display(), "the path names no file");
    let (Some(_), Some(directory)) = (to.file_name(), to.parent()) else { return Err(names_none()) };
    let unfinished = unfinished(directory, contents.by);
    let fail = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            ImageError::new(ErrorKind::Invalid, step, to.display(), "its directory does not exist; make it first")
        }
        _ => ImageError::io(step, to, error),
    };
    let file = private_file(&unfinished).map_err(fail)?;
    let written = fill(contents, file)
        .and_then(|()| std::fs::rename(&unfinished, to))
        .and_then(|()| File::open(directory).and_then(|directory| directory.sync_all()));
    written.inspect_err(|_| drop(std::fs::remove_file(&unfinished))).map_err(fail)
}

/// Where an archive grows. The name is the same at each try, so that what a killed daemon left is overwritten by the next try; no two
/// writers have the same one.
fn unfinished(directory: &Path, by: &str) -> PathBuf {
    directory.join(format!(".{by}.unfinished"))
}

/// A new file that only root may read; what was there goes.
pub(super) fn private_file(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn fill(contents: &Contents<'_>, file: File) -> io::Result<()> {
    let mut archive = Builder::new(BufWriter::new(file));
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Directory);
    header.set_mode(0o700);
    header.set_size(0);
    archive.append_data(&mut header, format!("{IMAGES}/"), io::empty())?;
    let mut names: Vec<OsString> =
        std::fs::read_dir(contents.images)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort_unstable();
    for name in names {
        let path = contents.images.join(&name);
        if !path.is_file() {
            continue;
        }
        let beside = BESIDE.iter().any(|known| name == *known);
        let entry = if beside { PathBuf::from(&name) } else { Path::new(IMAGES).join(&name) };
        add(&mut archive, &entry, &path)?;
    }
    for (name, bytes) in contents.documents {
        let mut header = Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, bytes.as_slice())?;
    }
    add(&mut archive, Path::new(CHANGES), contents.changes)?;
    let mut buffer = archive.into_inner()?;
    buffer.flush()?;
    buffer.get_ref().sync_all()
}

fn add(archive: &mut Builder<BufWriter<File>>, entry: &Path, path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut header = Header::new_gnu();
    header.set_mode(0o600);
    header.set_size(file.metadata()?.len());
    archive.append_data(&mut header, entry, &mut file)
}
