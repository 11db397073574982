//! Executing the program: environment, working directory, search in `$PATH`, and words for when it does not work.

use std::ffi::CString;
use std::path::Path;

use nix::unistd::execve;
use oci_spec::runtime::Process;
use podwright_sys::Errno;
use rustix::fs::{Access, OFlags};
use rustix::process::{fchdir, getcwd};

use crate::error::{Failure, FailureKind, Step};
use crate::root::Root;

/// Where programs are looked for when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What execve(2) takes.
pub(crate) struct Program {
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// Files to try, one after another.
    candidates: Vec<CString>,
    name: String,
    searched: bool,
}

impl Program {
    /// Everything that needs memory is done here.
    pub(crate) fn prepare(process: &Process, home: Option<&str>) -> Result<Self, Failure> {
        let arguments = process.args().as_deref().unwrap_or_default();
        let Some(name) = arguments.first().filter(|name| !name.is_empty()) else {
            return Err(Failure::because(
                "start",
                "the process",
                "no program is given; set a command or use an image with one",
            ));
        };
        let mut environment = process.env().clone().unwrap_or_default();
        if !environment.iter().any(|variable| variable.starts_with("HOME=")) {
            environment.push(format!("HOME={}", home.unwrap_or("/")));
        }
        let path = environment.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
        let searched = !name.contains('/');
        let candidates = if searched { search(path, name) } else { vec![name.clone()] };
        Ok(Self {
            arguments: strings(arguments, "argument")?,
            candidates: strings(&candidates, "program")?,
            environment: strings(&environment, "environment variable")?,
            name: name.clone(),
            searched,
        })
    }

    /// Fails if there is no program, or none that may be executed: by the rules of [`Self::execute`], as root.
    pub(crate) fn look(&self) -> Result<(), Failure> {
        let mut worst = Errno::NOENT;
        for candidate in &self.candidates {
            match rustix::fs::access(candidate.as_c_str(), Access::EXEC_OK) {
                Ok(()) => return Ok(()),
                Err(Errno::ACCESS) => worst = Errno::ACCESS,
                Err(_) => {}
            }
        }
        Err(self.failure(worst))
    }

    /// Returns only with the reason why nothing was executed.
    pub(crate) fn execute(&self) -> Failure {
        let mut worst = Errno::NOENT;
        for candidate in &self.candidates {
            let Err(errno) = execve(candidate.as_c_str(), &self.arguments, &self.environment);
            match Errno::from_raw_os_error(errno as i32) {
                // The shell's rule: a program that may not be executed is told only if no other is found.
                Errno::NOENT | Errno::NOTDIR => {}
                Errno::ACCESS => worst = Errno::ACCESS,
                other => return self.failure(other),
            }
        }
        self.failure(worst)
    }

    fn failure(&self, errno: Errno) -> Failure {
        let not_found = matches!(errno, Errno::NOENT | Errno::NOTDIR);
        let kind = if not_found { FailureKind::ProgramNotFound } else { FailureKind::ProgramNotExecutable };
        let reason = match (errno, self.searched) {
            (Errno::NOENT | Errno::NOTDIR, true) => "not found in $PATH".to_owned(),
            (Errno::NOENT, false) => "no such file or directory (nor its interpreter)".to_owned(),
            (Errno::NOEXEC, _) => {
                "exec format error; is it for another architecture, or a script without #! line?".to_owned()
            }
            (Errno::ACCESS, _) => "permission denied".to_owned(),
            (other, _) => std::io::Error::from(other).to_string(),
        };
        let text = format!("exec {:?}: {reason}", self.name);
        Failure { kind, step: "exec".to_owned(), object: self.name.clone(), errno: errno.raw_os_error(), text }
    }
}

fn search(path: &str, name: &str) -> Vec<String> {
    let absolute = path.split(':').filter(|directory| directory.starts_with('/'));
    absolute.map(|directory| format!("{}/{name}", directory.trim_end_matches('/'))).collect()
}

fn strings(list: &[String], what: &str) -> Result<Vec<CString>, Failure> {
    list.iter()
        .map(|text| CString::new(text.as_str()).map_err(|_| Failure::because("pass the", what, "it holds a NUL byte")))
        .collect()
}

/// Goes to the working directory. It is inside the root, or it is an error.
pub(crate) fn change_directory(root: &Root, path: &Path) -> Result<(), Failure> {
    let what = || path.display();
    if !path.is_absolute() {
        return Err(Failure::because("use the working directory", what(), "it must be absolute"));
    }
    let directory = root.open(path, OFlags::PATH | OFlags::DIRECTORY).step("open the working directory", what)?;
    fchdir(&directory).step("change to the working directory", what)?;
    let now = getcwd(Vec::new()).step("find the working directory", what)?;
    if !now.as_bytes().starts_with(b"/") {
        return Err(Failure::because("use the working directory", what(), "it lies outside of the root file system"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(args: &[&str], env: &[&str]) -> Process {
        let mut process = Process::default();
        let own = |list: &[&str]| Some(list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        process.set_args(own(args)).set_env(own(env));
        process
    }

    #[test]
    fn relative_parts_of_path_are_not_searched() {
        assert_eq!(search("/a:.::b:/c/", "x"), ["/a/x", "/c/x"]);
    }

    #[test]
    fn words_for_failures() {
        let text = |args: &[&str]| Program::prepare(&process(args, &["PATH=/nowhere"]), None).unwrap().execute();
        assert_eq!(text(&["foo"]).text, "exec \"foo\": not found in $PATH");
        assert_eq!(text(&["/etc"]).text, "exec \"/etc\": permission denied");
        assert_eq!(text(&["/etc"]).kind, FailureKind::ProgramNotExecutable);
        assert_eq!(text(&["/nowhere/foo"]).kind, FailureKind::ProgramNotFound);
        assert!(Program::prepare(&process(&[], &[]), None).is_err());
        assert!(Program::prepare(&process(&["a\0b"], &[]), None).is_err());
    }

    #[test]
    fn home_is_added_only_where_it_is_missing() {
        let of = |env: &[&str]| Program::prepare(&process(&["x"], env), Some("/srv")).unwrap().environment;
        assert!(of(&[]).contains(&CString::new("HOME=/srv").unwrap()));
        assert_eq!(of(&["HOME=/a"]).len(), 1);
    }
}
