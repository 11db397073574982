//! The corpus is replayed by every test run, so that what fuzzing has found stays mended.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use podwright_fuzz::TARGETS;

/// Larger files make the corpus heavy and libFuzzer slow.
const MOST_BYTES: u64 = 16 << 10;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

#[test]
fn every_target_takes_its_corpus() {
    for target in TARGETS {
        let files = entries(&corpus().join(target.name));
        assert!(!files.is_empty(), "corpus/{} is empty", target.name);
        for file in files {
            assert!(file.metadata().unwrap().len() <= MOST_BYTES, "{} is too large", file.display());
            println!("{}", file.display());
            (target.run)(&fs::read(&file).unwrap());
        }
    }
}

#[test]
fn every_corpus_has_its_target() {
    let names: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names.len(), TARGETS.len(), "two targets have one name");
    for dir in entries(&corpus()) {
        assert!(names.contains(dir.file_name().unwrap().to_str().unwrap()), "{} has no target", dir.display());
    }
}
