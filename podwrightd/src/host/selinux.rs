//! SELinux labels of the image store: containers may read what is unpacked there, through image volumes. Labels of containers are the
//! engine's.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use rustix::fs::{XattrFlags, lsetxattr};

/// What policies call files that containers read and do not write.
const LABEL: &str = "system_u:object_r:container_ro_file_t:s0";
/// Takes labels that the policy knows.
const CONTEXT: &str = "/sys/fs/selinux/context";
const ATTRIBUTE: &str = "security.selinux";
/// Where layers are unpacked, and where they lie. What is made in a directory has its type.
const DIRECTORIES: [&str; 2] = ["ingest", "layers"];

/// Labels the directories where the host has SELinux and its policy knows containers. Layers of an earlier start without labels stay
/// as they are.
pub(crate) fn label_layers(root: &Path) {
    let known =
        OpenOptions::new().write(true).open(CONTEXT).is_ok_and(|mut file| file.write_all(LABEL.as_bytes()).is_ok());
    if !known {
        return;
    }
    for directory in DIRECTORIES.map(|name| root.join(name)) {
        if let Err(error) = lsetxattr(&directory, ATTRIBUTE, LABEL.as_bytes(), XattrFlags::empty()) {
            let advice = "containers may be denied reading image volumes; set [security] selinux = false or label it";
            tracing::warn!(directory = %directory.display(), %error, advice, "cannot give the image store its SELinux label");
        }
    }
}
