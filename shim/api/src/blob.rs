//! Documents larger than a packet: sealed memfds.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};

/// Largest document that is read.
pub const MAX_BLOB_BYTES: u64 = 8 << 20;

const SEALS: SealFlags = SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// Puts a document into a memfd that nobody can change any more.
///
/// # Errors
/// That of the system, or `FileTooLarge`.
pub fn write(document: &[u8]) -> io::Result<OwnedFd> {
    if document.len() as u64 > MAX_BLOB_BYTES {
        return Err(too_large(document.len() as u64));
    }
    let fd = memfd_create("podwright-document", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(document)?;
    fcntl_add_seals(&file, SEALS)?;
    Ok(file.into())
}

/// Reads a document back. What is not sealed could change or shrink while it is read, and is refused.
///
/// # Errors
/// That of the system, `InvalidData` for something else than a sealed memfd, or `FileTooLarge`.
pub fn read(fd: OwnedFd) -> io::Result<Vec<u8>> {
    let seals = fcntl_get_seals(&fd).unwrap_or(SealFlags::empty());
    if !seals.contains(SEALS) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the document's descriptor is no sealed memfd"));
    }
    let length = u64::try_from(fstat(&fd)?.st_size).unwrap_or(0);
    if length > MAX_BLOB_BYTES {
        return Err(too_large(length));
    }
    let mut document = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    let mut file = File::from(fd);
    file.seek(SeekFrom::Start(0))?;
    file.take(length).read_to_end(&mut document)?;
    Ok(document)
}

fn too_large(length: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("the document has {length} bytes, the limit is {MAX_BLOB_BYTES}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_was() {
        let document: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        assert_eq!(read(write(&document).unwrap()).unwrap(), document);
        assert_eq!(read(write(b"").unwrap()).unwrap(), b"");
    }

    #[test]
    fn refuses_what_can_still_change() {
        let open = memfd_create("open", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        assert_eq!(read(open).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let file = tempfile::tempfile().unwrap();
        assert_eq!(read(file.into()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn refuses_what_is_too_large() {
        let large = vec![0; MAX_BLOB_BYTES as usize + 1];
        assert_eq!(write(&large).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
