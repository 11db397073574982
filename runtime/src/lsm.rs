//! AppArmor profile and SELinux label of a process. The file of proc that takes them is opened in the host's mount
//! namespace, where nobody could have put another one.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use oci_spec::runtime::Process;

use crate::error::{Failure, Step};

/// What a process asks for, and the host has.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    apparmor: Option<String>,
    selinux: Option<String>,
}

impl Wanted {
    /// An error if the host does not have it. In the host's mount namespace.
    pub(crate) fn check(process: &Process) -> Result<Self, Failure> {
        let apparmor =
            process.apparmor_profile().clone().filter(|profile| !matches!(profile.as_str(), "" | "unconfined"));
        apparmor.as_deref().map_or(Ok(()), check_apparmor)?;
        let selinux = process.selinux_label().clone().filter(|label| !label.is_empty());
        if let Some(label) = &selinux
            && !Path::new("/sys/fs/selinux/enforce").exists()
        {
            return Err(Failure::because("use the SELinux label", label, "the host does not have SELinux enabled"));
        }
        Ok(Self { apparmor, selinux })
    }

    /// Opens the files of the calling process: nobody else's labels can be written through them.
    pub(crate) fn open(self) -> Result<Labels, Failure> {
        let mut labels = Vec::new();
        if let Some(profile) = self.apparmor {
            let file = open("/proc/self/attr/apparmor/exec").or_else(|_| open("/proc/self/attr/exec"))?;
            labels.push((file, format!("exec {profile}"), "the AppArmor profile"));
        }
        if let Some(label) = self.selinux {
            labels.push((open("/proc/self/attr/exec")?, label, "the SELinux label"));
        }
        Ok(Labels(labels))
    }
}

/// What is to be written just before the program is executed.
#[derive(Debug, Default)]
pub(crate) struct Labels(Vec<(File, String, &'static str)>);

impl Labels {
    pub(crate) fn write(self) -> Result<(), Failure> {
        for (mut file, text, what) in self.0 {
            file.write_all(text.as_bytes()).step("apply", || format!("{what} {text:?}; is it loaded?"))?;
        }
        Ok(())
    }
}

fn check_apparmor(profile: &str) -> Result<(), Failure> {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    if !enabled.is_ok_and(|text| text.starts_with('Y')) {
        return Err(Failure::because("use the AppArmor profile", profile, "the host does not have AppArmor enabled"));
    }
    if profile.chars().any(char::is_control) {
        return Err(Failure::because("use the AppArmor profile", profile, "its name holds a control character"));
    }
    Ok(())
}

fn open(path: &str) -> Result<File, Failure> {
    OpenOptions::new().write(true).open(path).step("open", || path)
}
