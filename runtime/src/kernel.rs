//! The version of the running kernel, for what can not be probed without leaving a trace in its log.

use std::str::FromStr;

/// Whether the running kernel is of this version or a later one.
pub(crate) fn is_at_least(major: u32, minor: u32) -> bool {
    version(&release()).is_some_and(|running| running >= (major, minor))
}

/// As `uname -r` prints it.
pub(crate) fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The first two numbers of a release.
pub(crate) fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(u32::from_str);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_read() {
        assert_eq!(version("6.1.0-50-cloud-amd64"), Some((6, 1)));
        assert_eq!(version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(version("6.8+"), Some((6, 8)));
        assert_eq!(version("next"), None);
        assert!(is_at_least(2, 6) && !is_at_least(1000, 0));
    }
}
