//! AppArmor profile and SELinux label of a process. The file of proc that takes them is opened in the host's mount
//! namespace, where nobody could have put another one.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use oci_spec::runtime::Process;

use crate::error::{Failure, Step};

/// What is to be written just before the program is executed.
#[derive(Debug, Default)]
pub(crate) struct Labels(Vec<(File, String, &'static str)>);

impl Labels {
    /// Opens what the process asks for; an error if the host does not have it.
    pub(crate) fn prepare(process: &Process) -> Result<Self, Failure> {
        let mut labels = Vec::new();
        if let Some(profile) =
            process.apparmor_profile().as_deref().filter(|profile| !matches!(*profile, "" | "unconfined"))
        {
            labels.push((apparmor_file(profile)?, format!("exec {profile}"), "the AppArmor profile"));
        }
        if let Some(label) = process.selinux_label().as_deref().filter(|label| !label.is_empty()) {
            if !Path::new("/sys/fs/selinux/enforce").exists() {
                return Err(Failure::because("use the SELinux label", label, "the host does not have SELinux enabled"));
            }
            labels.push((open("/proc/self/attr/exec")?, label.to_owned(), "the SELinux label"));
        }
        Ok(Self(labels))
    }

    pub(crate) fn write(self) -> Result<(), Failure> {
        for (mut file, text, what) in self.0 {
            file.write_all(text.as_bytes()).step("apply", || format!("{what} {text:?}; is it loaded?"))?;
        }
        Ok(())
    }
}

fn apparmor_file(profile: &str) -> Result<File, Failure> {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    if !enabled.is_ok_and(|text| text.starts_with('Y')) {
        return Err(Failure::because("use the AppArmor profile", profile, "the host does not have AppArmor enabled"));
    }
    if profile.chars().any(char::is_control) {
        return Err(Failure::because("use the AppArmor profile", profile, "its name holds a control character"));
    }
    open("/proc/self/attr/apparmor/exec").or_else(|_| open("/proc/self/attr/exec"))
}

fn open(path: &str) -> Result<File, Failure> {
    OpenOptions::new().write(true).open(path).step("open", || path)
}
