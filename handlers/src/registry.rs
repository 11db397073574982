//! The directories of drop-in files. They are looked at when somebody asks: a file that changed is read again. A broken file is told in
//! the log and by [`Registry::look`], and takes no other along.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;

use crate::Error;
use crate::drop_in::{self, Runtime};

/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 64 << 10;
/// Most files of one directory that are read.
const MAX_FILES: usize = 256;
/// Longest name of a handler, as Kubernetes has it for a label.
const MAX_NAME_BYTES: usize = 63;

/// A handler with what names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    /// Its name, that of its file.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// What the file says.
    pub runtime: Arc<Runtime>,
    /// Changes with its program.
    pub program: ProgramStamp,
}

/// What tells one installed program from the next.
pub type ProgramStamp = (u64, i64, i64);

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, or directory.
    pub path: PathBuf,
    /// What is wrong.
    pub reason: String,
}

/// How a file was when it was read.
type Stamp = (u64, u64, (i64, i64), (i64, i64));
type Parsed = Result<Arc<Runtime>, String>;

/// Handlers of the node.
#[derive(Debug)]
pub struct Registry {
    /// A file of a later one replaces that of the same name of an earlier one.
    directories: Vec<PathBuf>,
    known: Mutex<BTreeMap<PathBuf, (Stamp, Parsed)>>,
}

impl Registry {
    /// Of these directories, which need not exist.
    #[must_use]
    pub fn new(directories: Vec<PathBuf>) -> Self {
        Self { directories, known: Mutex::default() }
    }

    /// What a name stands for now. Looks at the disk.
    ///
    /// # Errors
    /// Nobody describes it, or its file is broken, or its program is not there.
    pub fn find(&self, name: &str) -> Result<Handler, Error> {
        let (files, problems) = self.files();
        let Some((file, parsed)) = files.get(name) else { return Err(self.unknown(name, &problems)) };
        let shown = || file.display().to_string();
        let runtime =
            parsed.clone().map_err(|reason| Error::Broken { name: name.to_owned(), file: shown(), reason })?;
        let program = program(&runtime.path).map_err(|reason| Error::Program {
            name: name.to_owned(),
            file: shown(),
            program: runtime.path.display().to_string(),
            reason,
        })?;
        Ok(Handler { name: name.to_owned(), file: file.clone(), runtime, program })
    }

    /// All that can be used now, by name, and what is wrong with the others. Looks at the disk.
    #[must_use]
    pub fn look(&self) -> (Vec<Handler>, Vec<Problem>) {
        let (files, mut problems) = self.files();
        let mut good = Vec::new();
        for (name, (file, parsed)) in files {
            let found = parsed.and_then(|runtime| {
                let absent = |reason| format!("its program {} can not be executed: {reason}", runtime.path.display());
                program(&runtime.path).map_err(absent).map(|stamp| (runtime.clone(), stamp))
            });
            match found {
                Ok((runtime, program)) => good.push(Handler { name, file, runtime, program }),
                Err(reason) => problems.push(Problem { path: file, reason }),
            }
        }
        (good, problems)
    }

    fn unknown(&self, name: &str, problems: &[Problem]) -> Error {
        let files = self.directories.iter().map(|dir| dir.join(format!("{name}.toml")).display().to_string());
        let hint = problems.first().map(|p| format!(" ({}: {})", p.path.display(), p.reason)).unwrap_or_default();
        Error::Unknown { name: name.to_owned(), directories: files.collect::<Vec<_>>().join(" or "), hint }
    }

    /// The file of each name as it is now, and what can not be looked at.
    fn files(&self) -> (BTreeMap<String, (PathBuf, Parsed)>, Vec<Problem>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut files, mut problems, mut seen) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        for directory in &self.directories {
            let listed = match list(directory) {
                Ok(listed) => listed,
                Err(reason) => {
                    problems.push(Problem { path: directory.clone(), reason });
                    continue;
                }
            };
            for (name, path) in listed {
                let Some((stamp, parsed)) = read(&name, &path, known.get(&path)) else { continue };
                if let Err(reason) = &parsed
                    && known.get(&path).is_none_or(|(before, _)| *before != stamp)
                {
                    tracing::warn!(file = %path.display(), reason, "the file of a runtime handler is broken; it can not be had");
                }
                seen.insert(path.clone(), (stamp, parsed.clone()));
                files.insert(name, (path, parsed));
            }
        }
        *known = seen;
        (files, problems)
    }
}

/// Names and files; a missing directory has none.
fn list(directory: &Path) -> Result<Vec<(String, PathBuf)>, String> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("it can not be listed: {error}")),
    };
    let named = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.strip_suffix(".toml")?.to_owned();
        Some((name, path))
    };
    let files: Vec<_> = entries.flatten().filter_map(|entry| named(entry.path())).take(MAX_FILES + 1).collect();
    match files.len() {
        0..=MAX_FILES => Ok(files),
        _ => Err(format!("it has more than {MAX_FILES} files, which are not read")),
    }
}

/// A file as it is now; `None` if it is gone or is no file.
fn read(name: &str, path: &Path, before: Option<&(Stamp, Parsed)>) -> Option<(Stamp, Parsed)> {
    let meta = fs::metadata(path).ok().filter(|meta| !meta.is_dir())?;
    let stamp = (meta.ino(), meta.size(), (meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
    if let Some((_, parsed)) = before.filter(|(at, _)| *at == stamp) {
        return Some((stamp, parsed.clone()));
    }
    let parsed = check_name(name).and_then(|()| bytes(path)).and_then(|bytes| drop_in::parse(&bytes)).map(Arc::new);
    Some((stamp, parsed))
}

/// A name that Kubernetes takes for a handler.
fn check_name(name: &str) -> Result<(), String> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [name.bytes().next(), name.bytes().last()].into_iter().all(|byte| byte.is_some_and(letter));
    if ends && name.len() <= MAX_NAME_BYTES && name.bytes().all(|byte| letter(byte) || byte == b'-') {
        return Ok(());
    }
    Err(format!("{name:?} is no name of a handler: a to z, 0 to 9 and - inside, up to {MAX_NAME_BYTES} letters"))
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    // A FIFO opens at once and is refused.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = fs::File::options().read(true).custom_flags(flags).open(path).map_err(|e| e.to_string())?;
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err("it is no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("it is larger than {MAX_FILE_BYTES} bytes"));
    }
    Ok(bytes)
}

fn program(path: &Path) -> Result<ProgramStamp, String> {
    let meta = fs::metadata(path).map_err(|error| error.to_string())?;
    if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
        return Err("it is no executable file".to_owned());
    }
    Ok((meta.ino(), meta.ctime(), meta.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dir(tempfile::TempDir);

    impl Dir {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.0.path().join(name), text).unwrap();
        }

        fn registry(&self) -> Registry {
            Registry::new(vec![self.0.path().to_owned()])
        }
    }

    const GOOD: &str = "[runtime]\ntype = \"oci\"\npath = \"/bin/true\"\n";

    #[test]
    fn files_come_change_and_go() {
        let dir = Dir::new();
        let registry = dir.registry();
        let error = registry.find("a").unwrap_err().to_string();
        assert!(error.contains("a.toml") && error.contains(dir.0.path().to_str().unwrap()), "{error}");
        dir.write("a.toml", GOOD);
        assert_eq!(registry.find("a").unwrap().runtime.path, Path::new("/bin/true"));
        dir.write("a.toml", &GOOD.replace("true", "false"));
        assert_eq!(registry.find("a").unwrap().runtime.path, Path::new("/bin/false"));
        fs::remove_file(dir.0.path().join("a.toml")).unwrap();
        assert!(matches!(registry.find("a"), Err(Error::Unknown { .. })));
    }

    #[test]
    fn a_broken_file_takes_no_other_along() {
        let dir = Dir::new();
        dir.write("good.toml", GOOD);
        dir.write("bad.toml", "[runtime");
        dir.write("gone.toml", &GOOD.replace("/bin/true", "/there/is/none"));
        dir.write("No Name.toml", GOOD);
        dir.write("readme.txt", "no handler");
        let (good, problems) = dir.registry().look();
        assert_eq!(good.iter().map(|handler| handler.name.as_str()).collect::<Vec<_>>(), ["good"]);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(matches!(dir.registry().find("bad"), Err(Error::Broken { .. })));
        assert!(matches!(dir.registry().find("gone"), Err(Error::Program { .. })));
    }

    #[test]
    fn a_later_directory_goes_before_an_earlier_one() {
        let (one, two) = (Dir::new(), Dir::new());
        one.write("a.toml", GOOD);
        two.write("a.toml", &GOOD.replace("true", "false"));
        let registry = Registry::new(vec![one.0.path().to_owned(), two.0.path().to_owned()]);
        assert_eq!(registry.find("a").unwrap().runtime.path, Path::new("/bin/false"));
        assert_eq!(registry.look().0.len(), 1);
    }

    #[test]
    fn a_fifo_is_refused_and_holds_nobody_up() {
        let dir = Dir::new();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.0.path().join("a.toml"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(matches!(dir.registry().find("a"), Err(Error::Broken { .. })));
    }
}
