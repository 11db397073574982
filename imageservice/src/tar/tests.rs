//! Archives of other writers, hand-made oddities, and arbitrary bytes.

use std::io::{BufReader, Write as _};
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

fn header(name: &str, kind: u8, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(1);
    header.set_gid(2);
    header.set_mtime(3);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn padded(mut archive: Vec<u8>, data: &[u8]) -> Vec<u8> {
    archive.extend_from_slice(data);
    archive.resize(archive.len().next_multiple_of(BLOCK_BYTES), 0);
    archive
}

fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = body.len() + 1;
    while length.to_string().len() + body.len() != length {
        length = length.to_string().len() + body.len();
    }
    [length.to_string().as_bytes(), &body].concat()
}

fn read_all(archive: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    let mut reader = Reader::new(BufReader::with_capacity(700, archive));
    let mut all = Vec::new();
    while let Some(entry) = reader.next()? {
        let mut data = Vec::new();
        loop {
            let piece = reader.data()?;
            if piece.is_empty() {
                break;
            }
            data.extend_from_slice(piece);
            let length = piece.len();
            reader.consume(length);
        }
        all.push((entry, data));
    }
    reader.drain()?;
    Ok(all)
}

/// An archive of `directory` by GNU tar.
fn gnu_tar(directory: &std::path::Path, options: &[&str]) -> Vec<u8> {
    let output = Command::new("tar").args(options).args(["-c", "-C"]).arg(directory).arg(".").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn long_names_and_sparse_files_of_gnu_tar_are_read_in_each_format() {
    let dir = tempfile::tempdir().unwrap();
    let long = "d/".repeat(120) + &"n".repeat(150);
    std::fs::create_dir_all(dir.path().join(&long).parent().unwrap()).unwrap();
    std::fs::write(dir.path().join(&long), "content").unwrap();
    let mut holes = std::fs::File::create(dir.path().join("sparse")).unwrap();
    for block in 0..40_u64 {
        use std::os::unix::fs::FileExt as _;
        holes.write_at(b"data", block << 20).unwrap();
    }
    holes.set_len(64 << 20).unwrap();
    holes.flush().unwrap();
    let formats: [&[&str]; 4] = [
        &["--format=gnu", "--sparse"],
        &["--format=posix", "--sparse", "--sparse-version=0.0"],
        &["--format=posix", "--sparse", "--sparse-version=0.1"],
        &["--format=posix", "--sparse", "--sparse-version=1.0"],
    ];
    for options in formats {
        let all = read_all(&gnu_tar(dir.path(), options)).unwrap();
        let (_, content) = all.iter().find(|(e, _)| e.path == format!("./{long}").as_bytes()).unwrap();
        assert_eq!(content, b"content", "{options:?}");
        let (sparse, stored) = all.iter().find(|(e, _)| e.path == b"./sparse").unwrap();
        assert_eq!(sparse.size, 64 << 20, "{options:?}");
        assert!(stored.len() < 4 << 20 && sparse.segments.len() >= 40, "{options:?} {}", sparse.segments.len());
        let mut at = 0;
        for segment in sparse.segments.iter().filter(|s| s.length > 0) {
            assert_eq!(stored[at..at + 4], *b"data", "{options:?} at {}", segment.offset);
            at += usize::try_from(segment.length).unwrap();
        }
    }
}

#[test]
fn pax_records_override_the_header() {
    let records = [
        pax_record("path", b"long/name"),
        pax_record("size", b"3"),
        pax_record("uid", b"70000000"),
        pax_record("mtime", b"-1.25"),
        pax_record("SCHILY.xattr.user.a", b"with\nnewline\0nul"),
    ]
    .concat();
    let archive = padded(header("x", b'x', records.len() as u64), &records);
    let archive = [archive, padded(header("short", b'0', 999), b"abc")].concat();
    let all = read_all(&archive).unwrap();
    let (entry, data) = &all[0];
    assert_eq!(
        (entry.path.as_slice(), entry.uid, data.as_slice()),
        (b"long/name".as_slice(), 70_000_000, b"abc".as_slice())
    );
    assert_eq!((entry.mtime_seconds, entry.mtime_nanoseconds), (-2, 750_000_000));
    assert_eq!(entry.xattrs, [(b"user.a".to_vec(), b"with\nnewline\0nul".to_vec())]);
}

#[test]
fn metadata_is_bounded() {
    for kind in *b"xLK" {
        let archive = header("x", kind, 1 << 40);
        assert!(matches!(read_all(&archive), Err(TarError::Malformed(_))));
    }
}

#[test]
fn ids_out_of_range_are_refused() {
    for id in ["4294967295", "4294967296", "18446744073709551615", "99999999999999999999", "-1", "+1", ""] {
        let records = pax_record("uid", id.as_bytes());
        let archive = padded(header("x", b'x', records.len() as u64), &records);
        let archive = [archive, header("file", b'0', 0)].concat();
        assert!(read_all(&archive).is_err(), "{id:?} was taken");
    }
}

#[test]
fn broken_archives_are_errors() {
    let good = padded(header("file", b'0', 600), &[7; 600]);
    assert!(read_all(&good).is_ok());
    assert!(matches!(read_all(&good[..700]), Err(TarError::Source(_))));
    assert!(matches!(read_all(&good[..100]), Err(TarError::Source(_))));
    let mut flipped = good.clone();
    flipped[0] ^= 1;
    assert!(matches!(read_all(&flipped), Err(TarError::Malformed(_))));
    assert!(read_all(&header("odd", b'M', 0)).is_err());
    let records = pax_record("path", b"a\0b");
    let archive = [padded(header("x", b'x', records.len() as u64), &records), header("file", b'0', 0)].concat();
    assert!(read_all(&archive).is_err());
}

#[test]
fn sparse_maps_must_fit() {
    for (map, size, stored) in
        [("0,5,3,5", "10", 10), ("0,20", "10", 20), ("5,5,0,5", "10", 10), ("0,5", "10", 4), ("0", "1", 0)]
    {
        let records =
            [pax_record("GNU.sparse.size", size.as_bytes()), pax_record("GNU.sparse.map", map.as_bytes())].concat();
        let archive = padded(header("x", b'x', records.len() as u64), &records);
        let archive = [archive, padded(header("file", b'0', stored), &vec![1; stored as usize])].concat();
        assert!(read_all(&archive).is_err(), "{map} was taken");
    }
}

#[test]
fn nothing_and_zeros_are_empty_archives() {
    assert!(read_all(b"").unwrap().is_empty());
    assert!(read_all(&[0; 512]).unwrap().is_empty());
    assert!(read_all(&[0; 10240]).unwrap().is_empty());
}

#[test]
fn busybox_tar_is_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "x").unwrap();
    std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
    let output = Command::new("busybox")
        .args(["tar", "-c", "-C"])
        .arg(dir.path())
        .args(["file", "link"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let all = read_all(&output.stdout).unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!((all[1].0.kind, all[1].0.link.as_slice()), (Kind::Symlink, b"file".as_slice()));
}

proptest! {
    #[test]
    fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let _ = read_all(&bytes);
    }

    #[test]
    fn any_pax_records_end(bytes in proptest::collection::vec(any::<u8>(), 0..400), prefix in "[0-9]{1,3} [a-zA-Z.]{0,12}=") {
        let records = [prefix.as_bytes(), &bytes].concat();
        let archive = padded(header("x", b'x', records.len() as u64), &records);
        let _ = read_all(&[archive, padded(header("file", b'0', 5), b"12345")].concat());
    }

    #[test]
    fn any_damaged_header_ends(at in 0_usize..512, value: u8, kind in prop::sample::select(b"0123456xgLKS".to_vec())) {
        let mut block = header("file", kind, 5);
        block[at] = value;
        // With a right checksum, so that the damage is seen.
        let sum: u32 = block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let _ = read_all(&padded(block, b"12345"));
    }
}
