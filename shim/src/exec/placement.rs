//! The cgroup that an exec goes to: that of the container, or the one below it that its first process has moved to.
//!
//! With v2 a cgroup whose controllers are handed on holds no processes of its own, so in a container that runs an init system
//! or containers of its own, the kernel refuses newcomers at the top with EBUSY.

use podwright_cgroups::Cgroup;

/// Where a new process goes beside the container's first one.
pub(super) fn cgroup_beside(init: i32, container: &Cgroup) -> Cgroup {
    if !container.hierarchy().is_v2() {
        return container.clone();
    }
    let of_init = std::fs::read_to_string(format!("/proc/{init}/cgroup")).unwrap_or_default();
    let path = path_below(&of_init, &container.path());
    path.and_then(|path| container.hierarchy().cgroup(path).ok()).unwrap_or_else(|| container.clone())
}

/// The path of v2, if it lies below `top`: nothing that a container does leads an exec out of its limits.
fn path_below<'a>(text: &'a str, top: &str) -> Option<&'a str> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    path.strip_prefix(top)?.starts_with('/').then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_the_container_counts() {
        assert_eq!(path_below("0::/pod/c/init.scope\n", "/pod/c"), Some("/pod/c/init.scope"));
        for text in ["0::/pod/c\n", "0::/pod/cc/x\n", "0::/other\n", "0::/../x\n", "3:cpu:/pod/c/x\n", ""] {
            assert_eq!(path_below(text, "/pod/c"), None, "{text}");
        }
    }
}
