//! Mount options of the OCI specification, sorted by what they become: attributes, propagation, data of the file system.

use podwright_sys::Propagation;

const RDONLY: u64 = 0x01;
const NOSUID: u64 = 0x02;
const NODEV: u64 = 0x04;
const NOEXEC: u64 = 0x08;
const ATIME: u64 = 0x70;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const NODIRATIME: u64 = 0x80;
const NOSYMFOLLOW: u64 = 0x0020_0000;

/// Attributes to set and to clear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) set: u64,
    pub(crate) clear: u64,
}

impl Change {
    fn add(&mut self, (set, clear): (u64, u64)) {
        // The last word on an attribute holds.
        self.set = (self.set & !clear) | set;
        self.clear = (self.clear & !set) | clear;
    }

    pub(crate) fn is_nothing(self) -> bool {
        self == Self::default()
    }

    pub(crate) const READONLY: Self = Self { set: RDONLY, clear: 0 };
}

/// All options of one mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// `bind` (`false`) or `rbind` (`true`).
    pub(crate) bind: Option<bool>,
    /// For the topmost mount.
    pub(crate) top: Change,
    /// For the whole tree.
    pub(crate) tree: Change,
    /// Propagation; `true` for the whole tree.
    pub(crate) propagation: Option<(Propagation, bool)>,
    /// `idmap` (`false`) or `ridmap` (`true`).
    pub(crate) mapped: Option<bool>,
    /// `z` or `Z`: the source gets the container's SELinux label.
    pub(crate) relabel: bool,
    /// `tmpcopyup`: a tmpfs begins with what the image has in its place.
    pub(crate) copy_up: bool,
    /// The rest.
    pub(crate) data: Vec<String>,
}

pub(crate) fn parse(options: &[String]) -> Options {
    let mut parsed = Options::default();
    for option in options {
        parsed.take(option);
    }
    parsed
}

impl Options {
    fn take(&mut self, option: &str) {
        if let Some(propagation) = propagation(option) {
            self.propagation = Some(propagation);
        } else if let Some(change) = attribute(option) {
            self.top.add(change);
        } else if let Some(change) = option.strip_prefix('r').and_then(attribute) {
            self.tree.add(change);
        } else {
            match option {
                "bind" => self.bind = Some(false),
                "rbind" => self.bind = Some(true),
                "idmap" => self.mapped = Some(false),
                "ridmap" => self.mapped = Some(true),
                "z" | "Z" => self.relabel = true,
                "tmpcopyup" => self.copy_up = true,
                "notmpcopyup" => self.copy_up = false,
                "" | "defaults" | "async" | "rdefaults" => {}
                other => self.data.push(other.to_owned()),
            }
        }
    }
}

fn attribute(option: &str) -> Option<(u64, u64)> {
    Some(match option {
        "ro" => (RDONLY, 0),
        "rw" => (0, RDONLY),
        "nosuid" => (NOSUID, 0),
        "suid" => (0, NOSUID),
        "nodev" => (NODEV, 0),
        "dev" => (0, NODEV),
        "noexec" => (NOEXEC, 0),
        "exec" => (0, NOEXEC),
        "noatime" => (NOATIME, ATIME),
        "relatime" | "atime" | "nostrictatime" | "norelatime" => (0, ATIME),
        "strictatime" => (STRICTATIME, ATIME),
        "nodiratime" => (NODIRATIME, 0),
        "diratime" => (0, NODIRATIME),
        "nosymfollow" => (NOSYMFOLLOW, 0),
        "symfollow" => (0, NOSYMFOLLOW),
        _ => return None,
    })
}

pub(crate) fn propagation(option: &str) -> Option<(Propagation, bool)> {
    Some(match option {
        "private" => (Propagation::Private, false),
        "rprivate" => (Propagation::Private, true),
        "slave" => (Propagation::Slave, false),
        "rslave" => (Propagation::Slave, true),
        "shared" => (Propagation::Shared, false),
        "rshared" => (Propagation::Shared, true),
        "unbindable" => (Propagation::Unbindable, false),
        "runbindable" => (Propagation::Unbindable, true),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Options {
        parse(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn sorts() {
        let options = of(&["rbind", "ro", "nosuid", "rslave", "rro", "size=64k"]);
        assert_eq!(options.bind, Some(true));
        assert_eq!(options.top, Change { set: RDONLY | NOSUID, clear: 0 });
        assert_eq!(options.tree, Change { set: RDONLY, clear: 0 });
        assert_eq!(options.propagation, Some((Propagation::Slave, true)));
        assert_eq!(options.data, ["size=64k"]);
    }

    #[test]
    fn the_last_word_holds() {
        assert_eq!(of(&["ro", "rw"]).top, Change { set: 0, clear: RDONLY });
        assert_eq!(of(&["noatime", "strictatime"]).top, Change { set: STRICTATIME, clear: ATIME });
        assert_eq!(of(&["relatime"]).top, Change { set: 0, clear: ATIME });
    }
}
