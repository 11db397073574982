//! Hostile roots, on a directory of the host.

use std::os::unix::fs::symlink;

use super::*;

fn root(directory: &Path) -> Root {
    Root::new(rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap())
}

#[test]
fn nothing_is_made_or_read_outside() {
    let top = tempfile::tempdir().unwrap();
    let inside = top.path().join("root");
    std::fs::create_dir_all(inside.join("sub")).unwrap();
    std::fs::write(top.path().join("secret"), "x").unwrap();
    symlink("../../../..", inside.join("up")).unwrap();
    symlink("/missing/target", inside.join("dangling")).unwrap();
    symlink("../../gone/file", inside.join("sub/file")).unwrap();
    symlink("loop2", inside.join("loop1")).unwrap();
    symlink("loop1", inside.join("loop2")).unwrap();
    symlink(top.path().join("secret"), inside.join("secret")).unwrap();
    let root = root(&inside);
    root.ensure_directory(Path::new("/up/a/b"), Mode::from_raw_mode(0o755)).unwrap();
    root.ensure_directory(Path::new("/dangling/c"), Mode::from_raw_mode(0o755)).unwrap();
    root.ensure_file(Path::new("/sub/file")).unwrap();
    assert!(root.ensure_directory(Path::new("/loop1/x"), Mode::from_raw_mode(0o755)).is_err());
    assert_eq!(root.read(Path::new("/secret"), 10).unwrap(), None);
    for made in ["a/b", "missing/target/c", "gone/file"] {
        assert!(inside.join(made).exists(), "{made} was not made inside");
    }
    let mut outside: Vec<_> = std::fs::read_dir(top.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    outside.sort();
    assert_eq!(outside, ["root", "secret"]);
}

#[test]
fn only_small_regular_files_are_read() {
    let top = tempfile::tempdir().unwrap();
    let root = root(top.path());
    rustix::fs::mknodat(rustix::fs::CWD, top.path().join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    std::fs::write(top.path().join("large"), [0; 11]).unwrap();
    std::fs::create_dir(top.path().join("directory")).unwrap();
    for bad in ["fifo", "large", "directory"] {
        assert!(root.read(Path::new(bad), 10).is_err(), "{bad} was read");
    }
    assert_eq!(root.read(Path::new("large"), 11).unwrap().map(|b| b.len()), Some(11));
}

#[test]
fn normalizes() {
    assert_eq!(normalized(Path::new("/a/../../b/./c")), Path::new("/b/c"));
}
