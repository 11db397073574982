//! Archives of our own and hostile ones.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tar::{Builder, EntryType, Header};

use super::{Contents, changes, open, write};
use crate::config::Limits;
use crate::error::{ErrorKind, ImageError};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for dir in ["upper", "scratch"] {
            std::fs::create_dir(place.at(dir)).unwrap();
        }
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn open(&self, archive: &Path, limits: &Limits) -> Result<String, ImageError> {
        open(archive, &self.at("images"), &self.at("upper"), &self.at("scratch"), limits).map(|opened| opened.image)
    }
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

/// An archive of these entries; a name may be anything.
fn archive(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, kind, data) in entries {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(if *kind == EntryType::Regular { data.len() as u64 } else { 0 });
        if *kind == EntryType::Symlink || *kind == EntryType::Link {
            header.set_link_name_literal(data).unwrap();
        }
        header.set_cksum();
        builder.append(&header, if *kind == EntryType::Regular { data } else { b"".as_slice() }).unwrap();
    }
    builder.into_inner().unwrap()
}

const CONFIG: (&str, EntryType, &[u8]) = ("config.dump", EntryType::Regular, br#"{"rootfsImageName":"r.example/x:1"}"#);
const CORE: (&str, EntryType, &[u8]) = ("checkpoint/core-1.img", EntryType::Regular, b"core");

/// What becomes of an archive of these entries besides the two that each needs.
fn outcome(more: &[(&str, EntryType, &[u8])]) -> (Place, Result<String, ImageError>) {
    let place = Place::new();
    let all: Vec<_> = [CONFIG, CORE].iter().chain(more).copied().collect();
    std::fs::write(place.at("a.tar"), archive(&all)).unwrap();
    let result = place.open(&place.at("a.tar"), &Limits::default());
    (place, result)
}

fn changes_of(entries: &[(&str, EntryType, &[u8])]) -> (Place, Result<String, ImageError>) {
    let inner = archive(entries);
    outcome(&[("rootfs-diff.tar", EntryType::Regular, &inner)])
}

#[test]
fn what_is_written_is_read() {
    let from = Place::new();
    let (images, upper) = (from.at("dumped"), from.at("upper"));
    std::fs::create_dir(&images).unwrap();
    std::fs::write(images.join("core-1.img"), "core").unwrap();
    std::fs::write(images.join("dump.log"), "log").unwrap();
    std::fs::create_dir_all(upper.join("etc/deep")).unwrap();
    std::fs::write(upper.join("etc/deep").join("n".repeat(200)), "long").unwrap();
    std::fs::write(upper.join("etc/file"), "changed").unwrap();
    std::fs::set_permissions(upper.join("etc/file"), std::fs::Permissions::from_mode(0o4711)).unwrap();
    std::fs::hard_link(upper.join("etc/file"), upper.join("etc/second")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", upper.join("link")).unwrap();
    changes(&upper, &from.at("changes.tar"), &Limits::default(), later()).unwrap();
    let documents = [("config.dump", CONFIG.2.to_vec()), ("spec.dump", b"{}".to_vec())];
    let contents = Contents { images: &images, changes: &from.at("changes.tar"), documents: &documents, by: "c1" };
    write(&contents, &from.at("out.tar")).unwrap();
    write(&contents, &from.at("out.tar")).unwrap();
    assert_eq!(std::fs::metadata(from.at("out.tar")).unwrap().mode() & 0o777, 0o600);
    let left: Vec<_> = std::fs::read_dir(from.0.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("unfinished")), "{left:?}");

    let to = Place::new();
    assert_eq!(to.open(&from.at("out.tar"), &Limits::default()).unwrap(), "r.example/x:1");
    assert_eq!(std::fs::read(to.at("images/core-1.img")).unwrap(), b"core");
    assert!(!to.at("images/dump.log").exists(), "the log is beside the images");
    let upper = to.at("upper");
    let file = std::fs::metadata(upper.join("etc/file")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.nlink()), (0o4711, 2));
    assert_eq!(std::fs::read(upper.join("etc/second")).unwrap(), b"changed");
    assert_eq!(std::fs::read_link(upper.join("link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(std::fs::read(upper.join("etc/deep").join("n".repeat(200))).unwrap(), b"long");
}

#[test]
fn root_what_was_deleted_stays_so() {
    let from = Place::new();
    let upper = from.at("upper");
    let white = |path: PathBuf| {
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::CharacterDevice, 0o0.into(), 0).unwrap();
    };
    white(upper.join("gone"));
    changes(&upper, &from.at("changes.tar"), &Limits::default(), later()).unwrap();
    let inner = std::fs::read(from.at("changes.tar")).unwrap();
    let (place, result) = outcome(&[
        ("rootfs-diff.tar", EntryType::Regular, &inner),
        ("deleted.files", EntryType::Regular, br#"["/etc/listed"]"#),
    ]);
    result.unwrap();
    for path in ["upper/gone", "upper/etc/listed"] {
        let there = std::fs::symlink_metadata(place.at(path)).unwrap();
        assert!(there.file_type().is_char_device() && there.rdev() == 0, "{path}");
    }
}

#[test]
fn names_of_images_stay_in_their_directory() {
    for name in
        ["checkpoint/../../evil", "checkpoint/a/b", "checkpoint/.hidden", "checkpoint/a b", "checkpoint/\u{e9}.img"]
    {
        let (place, result) = outcome(&[(name, EntryType::Regular, b"x")]);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Corrupt, "{name}");
        assert!(!place.at("evil").exists());
    }
}

#[test]
fn what_is_wanted_must_be_a_file() {
    for kind in [EntryType::Symlink, EntryType::Link, EntryType::Fifo, EntryType::Char, EntryType::Block] {
        for name in ["checkpoint/pages-1.img", "rootfs-diff.tar", "config.dump", "deleted.files"] {
            let (_place, result) = outcome(&[(name, kind, b"/etc/passwd")]);
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Corrupt, "{name} as {kind:?}");
        }
    }
}

#[test]
fn what_has_criu_run_programs_is_refused() {
    for name in ["checkpoint/tmpfs-dev-7.tar.gz.img", "checkpoint/iptables-8.img", "checkpoint/netdev-8.img"] {
        let error = outcome(&[(name, EntryType::Regular, b"x")]).1.unwrap_err();
        assert!(error.to_string().contains("it is refused"), "{error}");
    }
}

#[test]
fn other_entries_are_not_looked_at() {
    let (place, result) = outcome(&[
        ("spec.dump", EntryType::Symlink, b"/etc/shadow"),
        ("../outside", EntryType::Regular, b"x"),
        ("/absolute", EntryType::Regular, b"x"),
        ("status.dump", EntryType::Regular, b"not json"),
    ]);
    assert_eq!(result.unwrap(), "r.example/x:1");
    let names: Vec<_> = std::fs::read_dir(place.at("images")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["core-1.img"]);
    assert!(!place.0.path().parent().unwrap().join("outside").exists());
}

#[test]
fn changes_do_not_leave_their_directory() {
    let decoy = tempfile::tempdir().unwrap();
    let target = decoy.path().to_str().unwrap().to_owned();
    let (_place, _) =
        changes_of(&[("link", EntryType::Symlink, target.as_bytes()), ("link/through", EntryType::Regular, b"x")]);
    let (_other, _) = changes_of(&[("../../../../../../../../tmp/podwright-evil", EntryType::Regular, b"x")]);
    assert_eq!(std::fs::read_dir(decoy.path()).unwrap().count(), 0, "something was written outside");
    assert!(!Path::new("/tmp/podwright-evil").exists());
}

#[test]
fn too_large_is_said_before_it_is_written() {
    let place = Place::new();
    let all = [CONFIG, CORE, ("checkpoint/pages-1.img", EntryType::Regular, [7; 4096].as_slice())];
    std::fs::write(place.at("a.tar"), archive(&all)).unwrap();
    let limits = Limits { layer_unpacked_bytes: 2048, ..Limits::default() };
    assert_eq!(place.open(&place.at("a.tar"), &limits).unwrap_err().kind(), ErrorKind::LimitExceeded);
    assert!(!place.at("images/pages-1.img").exists());
}

#[test]
fn every_cut_is_an_error_in_words() {
    let whole = archive(&[CONFIG, CORE, ("checkpoint/pages-1.img", EntryType::Regular, [7; 900].as_slice())]);
    for end in (1..whole.len() - 1024).step_by(173) {
        let place = Place::new();
        std::fs::write(place.at("a.tar"), &whole[..end]).unwrap();
        // A cut between two entries, or in what pads one, is the end of a shorter archive.
        if let Err(error) = place.open(&place.at("a.tar"), &Limits::default()) {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        } else {
            let pages = std::fs::read(place.at("images/pages-1.img")).ok();
            assert!(pages.is_none_or(|pages| pages == [7; 900]), "a part of a file was taken as whole at {end}");
        }
    }
}

#[test]
fn what_is_no_archive_is_refused() {
    let place = Place::new();
    std::fs::write(place.at("a.tar"), "no archive at all").unwrap();
    assert_eq!(place.open(&place.at("a.tar"), &Limits::default()).unwrap_err().kind(), ErrorKind::Corrupt);
    let place = Place::new();
    let fifo = place.at("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert_eq!(place.open(&fifo, &Limits::default()).unwrap_err().kind(), ErrorKind::Invalid);
    let missing = Place::new();
    assert_eq!(missing.open(&missing.at("none"), &Limits::default()).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_place_that_is_none_is_refused() {
    let place = Place::new();
    std::fs::write(place.at("changes.tar"), "").unwrap();
    let contents = Contents { images: &place.at("upper"), changes: &place.at("changes.tar"), documents: &[], by: "c1" };
    for bad in ["upper", "missing/a.tar"] {
        assert_eq!(write(&contents, &place.at(bad)).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
    }
}

#[test]
fn changes_are_given_up_at_the_deadline() {
    let place = Place::new();
    std::fs::write(place.at("upper/file"), "changed").unwrap();
    let late = changes(&place.at("upper"), &place.at("changes.tar"), &Limits::default(), Instant::now());
    let error = late.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
}

#[test]
fn two_writers_of_one_place_do_not_mix() {
    let place = Place::new();
    std::fs::write(place.at("changes.tar"), "").unwrap();
    // What another one has written so far.
    std::fs::write(place.at(".c2.unfinished"), "half").unwrap();
    let contents = Contents { images: &place.at("upper"), changes: &place.at("changes.tar"), documents: &[], by: "c1" };
    write(&contents, &place.at("out.tar")).unwrap();
    assert_eq!(std::fs::read(place.at(".c2.unfinished")).unwrap(), b"half");
    assert!(place.at("out.tar").exists());
}
