//! Layers of all kinds, unpacked by root into a real file system.

use std::io::BufReader;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::*;

struct Layer {
    dir: TempDir,
}

impl Layer {
    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("fs").join(path)
    }

    fn metadata(&self, path: &str) -> std::fs::Metadata {
        std::fs::symlink_metadata(self.path(path)).unwrap()
    }

    fn is_whiteout(&self, path: &str) -> bool {
        let metadata = self.metadata(path);
        metadata.file_type().is_char_device() && metadata.rdev() == 0
    }

    fn xattr(&self, path: &str, name: &str) -> Option<Vec<u8>> {
        let mut value = Vec::with_capacity(256);
        rustix::fs::lgetxattr(self.path(path), name, rustix::buffer::spare_capacity(&mut value)).ok()?;
        Some(value)
    }

    fn is_opaque(&self, path: &str) -> bool {
        self.xattr(path, "trusted.overlay.opaque").or_else(|| self.xattr(path, "user.overlay.opaque")).is_some()
    }
}

fn try_unpack(archive: &[u8]) -> (Layer, Result<Vec<Vec<u8>>>) {
    let layer = Layer { dir: tempfile::Builder::new().prefix("pwt-unpack-").tempdir().unwrap() };
    std::fs::create_dir(layer.path("")).unwrap();
    let result = unpack(BufReader::new(archive), &layer.path(""), &Limits::default(), "test");
    (layer, result)
}

fn unpacked(archive: Archive) -> Layer {
    let (layer, result) = try_unpack(&archive.bytes());
    result.unwrap();
    layer
}

/// Archives with any names and attributes.
struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn add(mut self, kind: u8, path: &str, link: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(mode);
        header.set_uid(1234);
        header.set_gid(5678);
        header.set_mtime(1_000_000);
        header.set_size(content.len() as u64);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, path: &str, content: &str) -> Self {
        self.add(b'0', path, "", 0o644, content.as_bytes())
    }

    fn dir(self, path: &str) -> Self {
        self.add(b'5', path, "", 0o755, &[])
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.add(b'2', path, target, 0o777, &[])
    }

    fn xattrs(mut self, xattrs: &[(&str, &[u8])]) -> Self {
        let records: Vec<_> = xattrs.iter().map(|(name, value)| (format!("SCHILY.xattr.{name}"), *value)).collect();
        self.0.append_pax_extensions(records.iter().map(|(key, value)| (key.as_str(), *value))).unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

#[test]
fn root_attributes_are_those_of_the_archive() {
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let archive = Archive::new()
        .dir("./")
        .dir("d/")
        .xattrs(&[("security.capability", capability), ("user.note", b"n"), ("trusted.overlay.redirect", b"/etc")])
        .add(b'0', "d/setuid", "", 0o6755, b"program")
        .symlink("d/link", "/etc/passwd")
        .add(b'3', "d/null", "", 0o666, &[])
        .add(b'6', "d/fifo", "", 0o622, &[])
        .add(b'1', "d/hard", "d/setuid", 0o600, &[])
        .add(b'5', "sticky", "", 0o1777, &[]);
    let layer = unpacked(archive);
    for name in ["", "d", "d/setuid", "d/link", "d/null", "d/fifo", "sticky"] {
        let metadata = layer.metadata(name);
        assert_eq!((metadata.uid(), metadata.gid(), metadata.mtime()), (1234, 5678, 1_000_000), "{name}");
    }
    assert_eq!(layer.metadata("d/setuid").mode() & 0o7777, 0o6755);
    assert_eq!(layer.metadata("d/null").mode() & 0o7777, 0o666);
    assert_eq!(layer.metadata("d/null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(layer.metadata("d/fifo").mode() & 0o7777, 0o622);
    assert!(layer.metadata("d/fifo").file_type().is_fifo());
    assert_eq!(layer.metadata("sticky").mode() & 0o7777, 0o1777);
    assert_eq!(layer.metadata("d/hard").ino(), layer.metadata("d/setuid").ino());
    assert_eq!(layer.xattr("d/setuid", "security.capability").as_deref(), Some(&capability[..]));
    assert_eq!(layer.xattr("d/setuid", "user.note").as_deref(), Some(&b"n"[..]));
    assert_eq!(layer.xattr("d/setuid", "trusted.overlay.redirect"), None);
    assert_eq!(std::fs::metadata("/etc/passwd").unwrap().uid(), 0);
}

#[test]
fn root_later_entries_replace_earlier_ones() {
    let archive = Archive::new()
        .file("a", "first")
        .file("a", "second")
        .dir("b")
        .file("b/inner", "x")
        .file("b", "file now")
        .file("c", "file")
        .dir("c")
        .file("c/inner", "y")
        .symlink("d", "c")
        .dir("d")
        .file("d/own", "z")
        .dir("e")
        .file("e/kept", "k")
        .add(b'5', "e", "", 0o700, &[])
        .file("h", "linked")
        .add(b'1', "h", "h", 0o644, &[])
        .symlink("s", "/nowhere")
        .file("s", "no link now");
    let layer = unpacked(archive);
    let read = |name| std::fs::read_to_string(layer.path(name)).unwrap();
    assert_eq!(
        (read("a"), read("b"), read("c/inner"), read("d/own")),
        ("second".into(), "file now".into(), "y".into(), "z".into())
    );
    assert!(!layer.path("c/own").exists());
    assert_eq!((read("e/kept"), layer.metadata("e").mode() & 0o777), ("k".into(), 0o700));
    assert_eq!((read("h"), read("s")), ("linked".into(), "no link now".into()));
}

#[test]
fn root_whiteouts_hide_lower_layers_only() {
    let archive = Archive::new()
        .file("gone/.wh.x", "")
        .file("same", "of this layer")
        .file(".wh.same", "")
        .dir("merged")
        .file("merged/new", "n")
        .file(".wh.merged", "")
        .file(".wh.later", "")
        .dir("later")
        .file(".wh.implied", "")
        .file("implied/child", "c")
        .file(".wh.file", "")
        .file("file", "f")
        .dir("opaque")
        .file("opaque/before", "b")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/after", "a")
        .file(".wh..wh.plnk/1.2", "aufs");
    let layer = unpacked(archive);
    assert!(layer.is_whiteout("gone/x"));
    assert_eq!(layer.metadata("gone").mode() & 0o777, 0o755);
    assert!(layer.metadata("same").is_file() && layer.metadata("file").is_file());
    for name in ["merged", "later", "implied", "opaque"] {
        assert!(layer.is_opaque(name), "{name}");
    }
    assert!(!layer.is_opaque("gone"));
    assert!(layer.path("opaque/before").exists() && layer.path("opaque/after").exists());
    assert!(layer.path("implied/child").exists() && layer.path("merged/new").exists());
    assert!(!layer.path(".wh..wh.plnk").exists());
}

#[test]
fn root_overlayfs_agrees() {
    let lower = unpacked(
        Archive::new().dir("a").file("a/one", "1").file("a/two", "2").dir("b").file("b/old", "o").file("c", "c"),
    );
    let upper =
        unpacked(Archive::new().file("a/.wh.one", "").file("b/.wh..wh..opq", "").file("b/new", "n").file(".wh.c", ""));
    let lowerdir = format!("lowerdir={}:{}", upper.path("").display(), lower.path("").display());
    // In a mount namespace of its own, so nothing is left mounted.
    let script = format!(
        "mount -t overlay -o '{lowerdir}' overlay {0} && cd {0} && find . -type f | sort | tr '\\n' ' '",
        upper.dir.path().join("mnt").display()
    );
    std::fs::create_dir(upper.dir.path().join("mnt")).unwrap();
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "./a/two ./b/new",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn root_links_never_lead_out() {
    let outside = tempfile::Builder::new().prefix("pwt-outside-").tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let archive = Archive::new()
        .symlink("abs", target)
        .symlink("rel", "../../../../../../../../tmp")
        .symlink("up", "..")
        .file("up/inside", "x")
        .dir("in")
        .symlink("to-in", "/in")
        .file("to-in/file", "y");
    let layer = unpacked(archive);
    assert_eq!(std::fs::read_to_string(layer.path("inside")).unwrap(), "x");
    assert_eq!(std::fs::read_to_string(layer.path("in/file")).unwrap(), "y");
    for path in ["abs/escape", "rel/escape", "abs/sub/escape"] {
        let archive = Archive::new().symlink("abs", target).symlink("rel", "../../../../../../tmp").file(path, "x");
        let (_layer, result) = try_unpack(&archive.bytes());
        assert!(result.is_err(), "{path}");
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn root_a_swapper_gains_nothing() {
    let outside = tempfile::Builder::new().prefix("pwt-swap-").tempdir().unwrap();
    let layer = tempfile::Builder::new().prefix("pwt-unpack-").tempdir().unwrap();
    let (tree, done) = (layer.path().join("fs"), AtomicBool::new(false));
    std::fs::create_dir(&tree).unwrap();
    std::os::unix::fs::symlink(outside.path(), layer.path().join("link")).unwrap();
    let mut archive = Archive::new();
    for n in 0..3000 {
        archive = archive.dir("victim").file(&format!("victim/{n}"), "x").add(
            b'3',
            &format!("victim/dev{n}"),
            "",
            0o600,
            &[],
        );
        archive = archive.add(b'1', &format!("victim/hard{n}"), &format!("victim/{n}"), 0o600, &[]);
    }
    let archive = archive.bytes();
    let limits = Limits { layer_devices: 10_000, ..Limits::default() };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (victim, link) = (tree.join("victim"), layer.path().join("link"));
            while !done.load(Ordering::Relaxed) {
                let _ = rustix::fs::renameat_with(
                    rustix::fs::CWD,
                    &victim,
                    rustix::fs::CWD,
                    &link,
                    rustix::fs::RenameFlags::EXCHANGE,
                );
            }
        });
        for _ in 0..5 {
            // Whether it succeeds is chance.
            let _ = unpack(BufReader::new(&archive[..]), &tree, &limits, "test");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0, "something was made outside");
}

#[test]
fn root_sparse_files_stay_sparse() {
    let source = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(source.path().join("sparse")).unwrap();
    use std::os::unix::fs::FileExt as _;
    file.write_at(b"start", 0).unwrap();
    file.write_at(b"end", 1 << 30).unwrap();
    file.set_len(4 << 30).unwrap();
    for options in [["--format=gnu", "--sparse"], ["--format=posix", "--sparse"]] {
        let output =
            Command::new("tar").args(options).args(["-c", "-C"]).arg(source.path()).arg("sparse").output().unwrap();
        let (layer, result) = try_unpack(&output.stdout);
        result.unwrap();
        let metadata = layer.metadata("sparse");
        assert!(metadata.len() == 4 << 30 && metadata.blocks() < 2048, "{options:?} {metadata:?}");
        let mut end = [0; 3];
        std::fs::File::open(layer.path("sparse")).unwrap().read_exact_at(&mut end, 1 << 30).unwrap();
        assert_eq!(&end, b"end");
    }
}

#[test]
fn root_decoders_take_members_frames_and_none() {
    use std::io::{Read as _, Write as _};
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4], zstd(b"onetwo").as_slice()].concat();
    for packed in
        [[gzip(b"one"), gzip(b"two")].concat(), [zstd(b"one"), zstd(b"two")].concat(), skippable, b"onetwo".to_vec()]
    {
        let mut text = String::new();
        // A source that gives single bytes.
        Decoder::new(BufReader::with_capacity(1, &packed[..])).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "onetwo");
    }
    let mut cut = gzip(&[1; 1000]);
    cut.truncate(20);
    assert!(Decoder::new(&cut[..]).unwrap().read_to_end(&mut Vec::new()).is_err());
    assert!(Decoder::new(&b""[..]).unwrap().read_to_end(&mut Vec::new()).unwrap() == 0);
}

#[test]
fn root_directories_that_are_implied_count_as_entries() {
    let layer = Layer { dir: tempfile::Builder::new().prefix("pwt-unpack-").tempdir().unwrap() };
    std::fs::create_dir(layer.path("")).unwrap();
    let limits = Limits { layer_entries: 10, ..Limits::default() };
    let archive = Archive::new().file("1/2/3/4/5/6/7/8/9/file", "").file("other", "").bytes();
    let error = unpack(BufReader::new(&archive[..]), &layer.path(""), &limits, "test").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
}
