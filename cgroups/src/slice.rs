//! Names of the systemd driver: `slice:prefix:name` and the paths that systemd gives to slices and scopes.

use crate::Error;

/// The cgroup path of a slice: `a-b.slice` is `/a.slice/a-b.slice`, and `-.slice` is the root.
///
/// # Errors
/// `Invalid` if it is no name of a slice.
pub fn expand_slice(slice: &str) -> Result<String, Error> {
    let invalid = || Error::Invalid(format!("{slice:?} is no slice; it must look like a-b.slice"));
    let name = slice.strip_suffix(".slice").ok_or_else(invalid)?;
    if name == "-" {
        return Ok("/".to_owned());
    }
    if name.is_empty() || name.split('-').any(str::is_empty) || name.contains('/') || name.chars().any(char::is_control)
    {
        return Err(invalid());
    }
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    Ok(ends.filter_map(|end| name.get(..end)).map(|part| format!("/{part}.slice")).collect())
}

/// The name of the unit that `prefix` and `name` mean: `prefix-name.scope`, or `name` itself if it is a slice.
#[must_use]
pub fn scope_name(prefix: &str, name: &str) -> String {
    match (name.ends_with(".slice"), prefix) {
        (true, _) => name.to_owned(),
        (false, "") => format!("{name}.scope"),
        (false, _) => format!("{prefix}-{name}.scope"),
    }
}

/// The cgroup path that `slice:prefix:name` means.
///
/// # Errors
/// `Invalid` if it has another form.
pub fn systemd_path(triple: &str) -> Result<String, Error> {
    let parts: Vec<&str> = triple.split(':').collect();
    let [slice, prefix, name] = parts.as_slice() else {
        return Err(Error::Invalid(format!("{triple:?} is not of the form slice:prefix:name")));
    };
    if name.is_empty()
        || triple.contains("..")
        || triple.chars().any(char::is_control)
        || [*prefix, *name].iter().any(|part| part.contains('/'))
    {
        return Err(Error::Invalid(format!("{triple:?} does not name a unit")));
    }
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    Ok(format!("{}/{}", expand_slice(slice)?.trim_end_matches('/'), scope_name(prefix, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expands() {
        assert_eq!(
            expand_slice("kubepods-burstable-pod1_2.slice").unwrap(),
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice"
        );
        assert_eq!(expand_slice("-.slice").unwrap(), "/");
        assert_eq!(systemd_path("a-b.slice:podwright:c1").unwrap(), "/a.slice/a-b.slice/podwright-c1.scope");
        assert_eq!(systemd_path("-.slice:p:c").unwrap(), "/p-c.scope");
        assert_eq!(systemd_path("::c").unwrap(), "/system.slice/c.scope");
    }

    #[test]
    fn refuses_what_is_no_unit() {
        for bad in [
            "",
            "a",
            "a:b",
            "a.slice:b:",
            "a--b.slice:p:c",
            "x/y.slice:p:c",
            "-a.slice:p:c",
            "a.slice:p:../c",
            "a:b:c:d",
        ] {
            assert!(systemd_path(bad).is_err(), "{bad:?} was taken");
        }
    }
}
