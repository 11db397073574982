//! Mounts of a process as proc(5) tells them.

/// More mounts than any container has.
pub const MAX_MOUNTS: usize = 4096;

/// One line of `/proc/PID/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The mount's own number.
    pub id: String,
    /// `major:minor` of the file system.
    pub device: String,
    /// Which directory or file of the file system is shown.
    pub root: String,
    /// Where.
    pub at: String,
    /// Options of the mount, as `ro`, `nosuid`.
    pub options: Vec<String>,
    /// Type of the file system.
    pub kind: String,
}

/// All mounts of a table, in its order.
///
/// # Errors
/// A line that is none, a path that is no UTF-8, or more mounts than [`MAX_MOUNTS`].
pub fn parse_mounts(text: &[u8]) -> Result<Vec<Mount>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "a path of a mount is no UTF-8".to_owned())?;
    let mounts = text.lines().map(parse).collect::<Result<Vec<_>, _>>()?;
    if mounts.len() > MAX_MOUNTS {
        return Err(format!("there are {} mounts, {MAX_MOUNTS} is the most", mounts.len()));
    }
    Ok(mounts)
}

fn parse(line: &str) -> Result<Mount, String> {
    let bad = || format!("{line:?} is no line of mountinfo");
    let mut words = line.split(' ');
    let id = words.next().ok_or_else(bad)?.to_owned();
    let device = words.nth(1).ok_or_else(bad)?.to_owned();
    let (root, at) = (words.next().ok_or_else(bad)?, words.next().ok_or_else(bad)?);
    let options = words.next().ok_or_else(bad)?.split(',').map(str::to_owned).collect();
    let kind = words.skip_while(|word| *word != "-").nth(1).ok_or_else(bad)?.to_owned();
    Ok(Mount { id, device, root: unescape(root)?, at: unescape(at)?, options, kind })
}

/// `\040` and the like to what they stand for.
fn unescape(text: &str) -> Result<String, String> {
    let mut parts = text.split('\\');
    let mut bytes: Vec<u8> = parts.next().unwrap_or_default().into();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        let code = code.ok_or_else(|| format!("{text:?} is escaped in a way that is not known"))?;
        bytes.push(code);
        bytes.extend_from_slice(part.get(3..).unwrap_or_default().as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| "a path of a mount is no UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_and_without_optional_fields() {
        let text = b"42 54 0:6 /null /proc/keys ro,relatime - devtmpfs devtmpfs rw\n\
            52 53 254:0 /a\\040b /mnt/x\\134y rw shared:1 master:2 - ext4 /dev/vda rw\n";
        let mounts = parse_mounts(text).unwrap();
        assert_eq!(
            (mounts[0].device.as_str(), mounts[0].root.as_str(), mounts[0].kind.as_str()),
            ("0:6", "/null", "devtmpfs")
        );
        assert_eq!(mounts[0].options, ["ro", "relatime"]);
        assert_eq!(
            (mounts[1].root.as_str(), mounts[1].at.as_str(), mounts[1].kind.as_str()),
            ("/a b", "/mnt/x\\y", "ext4")
        );
    }

    #[test]
    fn what_is_no_mountinfo_is_refused() {
        for bad in ["", "1 2 3", "1 2 0:1 / / rw ext4", "1 2 0:1 / /a\\9 rw - ext4 x rw"] {
            assert!(parse_mounts(format!("{bad}\n").as_bytes()).is_err(), "{bad:?}");
        }
    }
}
