//! `registries.d`: where the signatures of an image are. The format is containers-registries.d(5).

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use podwright_types::ImageReference;
use serde::Deserialize;

use crate::error::PlacesError;
use crate::scope;

/// Most bytes of one file.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Most files.
const MAX_FILES: usize = 1024;
/// Where signatures are when nothing is said, as skopeo and podman of root have it.
const DEFAULT_LOOKASIDE: &str = "file:///var/lib/containers/sigstore";

/// Where the signatures of one image are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// URL (`http`, `https` or `file`) of the directory with simple signatures, for all repositories.
    pub lookaside: String,
    /// Whether signatures beside the image in the registry (cosign's tags) count.
    pub attachments: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawFile {
    default_docker: Option<RawPlace>,
    docker: Option<BTreeMap<String, Option<RawPlace>>>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawPlace {
    lookaside: Option<String>,
    // The name of the same until 2022.
    sigstore: Option<String>,
    use_sigstore_attachments: Option<bool>,
}

impl RawPlace {
    fn lookaside(&self) -> Option<&str> {
        self.lookaside.as_deref().or(self.sigstore.as_deref()).filter(|url| !url.is_empty())
    }
}

/// Reads a directory; one that is not there says nothing.
///
/// # Errors
/// A file can not be read, is wrong, or says again what another one says.
pub fn read_places(directory: &Path, image: &ImageReference) -> Result<Places, PlacesError> {
    let mut merged = RawFile::default();
    for path in files(directory)? {
        merge(&mut merged, &path, read(&path)?)?;
    }
    Ok(of(&merged, image))
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, PlacesError> {
    let unreadable = |cause| PlacesError::Unreadable { path: directory.to_owned(), cause };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    if found.len() > MAX_FILES {
        let cause = format!("it holds more than {MAX_FILES} files");
        return Err(PlacesError::Wrong { path: directory.to_owned(), cause });
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<RawFile, PlacesError> {
    let unreadable = |cause| PlacesError::Unreadable { path: path.to_owned(), cause };
    let wrong = |cause: String| PlacesError::Wrong { path: path.to_owned(), cause };
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(wrong("it is no file".to_owned()));
    }
    let mut text = String::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(wrong(format!("it has more than {MAX_FILE_BYTES} bytes")));
    }
    parse(&text).map_err(wrong)
}

fn parse(text: &str) -> Result<RawFile, String> {
    // Debian's own file holds only comments.
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(RawFile::default());
    }
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

fn merge(all: &mut RawFile, path: &Path, file: RawFile) -> Result<(), PlacesError> {
    let twice =
        |what: &str| PlacesError::Wrong { path: path.to_owned(), cause: format!("an earlier file says {what} too") };
    if let Some(default) = file.default_docker
        && all.default_docker.replace(default).is_some()
    {
        return Err(twice("default-docker"));
    }
    let known = all.docker.get_or_insert_default();
    for (scope, place) in file.docker.unwrap_or_default() {
        let scope = scope::folded(&scope);
        if known.contains_key(&scope) {
            return Err(twice(&format!("docker.{scope:?}")));
        }
        known.insert(scope, place);
    }
    Ok(())
}

/// Each of the two from the most specific name that says it.
fn of(all: &RawFile, image: &ImageReference) -> Places {
    let names = scope::names(image);
    let named = || names.iter().filter_map(|name| all.docker.as_ref()?.get(name)?.as_ref()).chain(&all.default_docker);
    let lookaside = named().find_map(RawPlace::lookaside).unwrap_or(DEFAULT_LOOKASIDE).to_owned();
    let attachments = named().find_map(|place| place.use_sigstore_attachments).unwrap_or(false);
    Places { lookaside, attachments }
}

/// Reads a file of the directory, and forgets what it says.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(text: &str) {
    if let (Ok(file), Ok(image)) = (parse(text), "registry.example:5000/a/b:v1".parse()) {
        let _ = of(&file, &image);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn places(files: &[(&str, &str)], image: &str) -> Result<Places, PlacesError> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        read_places(dir.path(), &image.parse().unwrap())
    }

    #[test]
    fn the_most_specific_name_says_where() {
        let one = "# a comment\ndefault-docker:\n  lookaside: http://default\ndocker:\n  r.example:\n    use-sigstore-attachments: true\n  r.example/ns/a:\n    sigstore: file:///x\n";
        let other = "docker:\n  '*.example':\n    lookaside: https://wide\n  r.Example/ns/b:v1:\n    lookaside: https://one\n    lookaside-staging: file:///y\n";
        let files = [("one.yaml", one), ("other.yaml", other), ("not.txt", "}}")];
        for (image, lookaside, attachments) in [
            ("r.example/ns/a:v9", "file:///x", true),
            ("r.example/ns/b:v1", "https://one", true),
            ("R.example/ns/b:v1", "https://one", true),
            ("r.example/ns/b:v2", "https://wide", true),
            ("s.example/x", "https://wide", false),
            ("busybox", "http://default", false),
        ] {
            let found = places(&files, image).unwrap();
            assert_eq!((found.lookaside.as_str(), found.attachments), (lookaside, attachments), "{image}");
        }
        let nothing = places(&[("debian.yaml", "# only\n\n# comments\n")], "busybox").unwrap();
        assert_eq!(nothing, Places { lookaside: DEFAULT_LOOKASIDE.into(), attachments: false });
        assert_eq!(read_places(Path::new("/no/such/directory"), &"busybox".parse().unwrap()).unwrap(), nothing);
    }

    #[test]
    fn what_is_wrong_or_there_twice_is_named() {
        let one = "default-docker:\n  lookaside: http://a\n";
        let error = places(&[("a.yaml", one), ("b.yaml", one)], "busybox").unwrap_err().to_string();
        assert!(error.contains("b.yaml") && error.contains("default-docker"), "{error}");
        let one = "docker:\n  a.example:\n    lookaside: http://a\n";
        let error = places(&[("a.yaml", one), ("b.yaml", one)], "busybox").unwrap_err().to_string();
        assert!(error.contains("a.example"), "{error}");
        let error = places(&[("a.yaml", "docker: [1, 2]\n")], "busybox").unwrap_err().to_string();
        assert!(error.contains("a.yaml"), "{error}");
    }
}
