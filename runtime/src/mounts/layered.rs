//! The options of an overlay in a specification, as mount(8) writes them: which directories it shows. Mounting it is left to
//! `rootfs`.

use std::path::{Path, PathBuf};

use crate::error::Failure;

/// Most directories that overlayfs stacks.
const MAX_DIRECTORIES: usize = 500;

/// The directories of `lowerdir=`, the topmost first. An overlay that can be written to is refused: only the container's root is one.
pub(super) fn directories(data: &[String], at: &Path) -> Result<Vec<PathBuf>, Failure> {
    let refuse = |reason: &str| Err(Failure::because("mount an overlay on", at.display(), reason));
    let [option] = data else { return refuse("it takes one option beside the flags: lowerdir") };
    let Some(list) = option.strip_prefix("lowerdir=") else {
        return refuse("only lowerdir is known here; what is written to has to be a volume of another kind");
    };
    let directories = split(list);
    if !directories.iter().all(|directory| directory.is_absolute()) {
        return refuse("its directories have to be absolute paths");
    }
    match directories.len() {
        0 | 1 => refuse("it needs two directories at least; bind a single one"),
        count if count > MAX_DIRECTORIES => refuse("overlayfs takes 500 directories"),
        _ => Ok(directories),
    }
}

/// Parts between colons; a backslash takes the next character as it is.
fn split(list: &str) -> Vec<PathBuf> {
    let mut parts = vec![String::new()];
    let mut letters = list.chars();
    while let Some(letter) = letters.next() {
        match (letter, parts.last_mut()) {
            (':', _) => parts.push(String::new()),
            ('\\', Some(part)) => part.extend(letters.next()),
            (other, Some(part)) => part.push(other),
            (_, None) => {}
        }
    }
    parts.into_iter().map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[&str]) -> Result<Vec<PathBuf>, String> {
        let options: Vec<String> = options.iter().map(|o| (*o).to_owned()).collect();
        directories(&options, Path::new("/at")).map_err(|failure| failure.text)
    }

    #[test]
    fn colons_and_backslashes_in_names_are_escaped() {
        let found = of(&[r"lowerdir=/a\:b:/c\\d:/e,f"]).unwrap();
        assert_eq!(found, ["/a:b", r"/c\d", "/e,f"].map(PathBuf::from));
    }

    #[test]
    fn what_is_no_stack_of_directories_is_refused() {
        for bad in [
            &["lowerdir=/a"] as &[&str],
            &["lowerdir="],
            &["lowerdir=/a:b"],
            &["lowerdir=/a:/b", "upperdir=/c"],
            &["upperdir=/c"],
            &[],
        ] {
            assert!(of(bad).unwrap_err().contains("/at"), "{bad:?}");
        }
    }
}
