use std::os::unix::fs::symlink;

use super::*;

/// Layers, the topmost first, from lists of directories (`a/`), links (`a>target`), and files.
fn layers(lists: &[&[&str]]) -> (tempfile::TempDir, Vec<PathBuf>) {
    let top = tempfile::tempdir().unwrap();
    let layers: Vec<PathBuf> = (0..lists.len()).map(|n| top.path().join(n.to_string())).collect();
    for (layer, list) in layers.iter().zip(lists) {
        std::fs::create_dir(layer).unwrap();
        for name in *list {
            match name.split_once('>') {
                Some((link, target)) => symlink(target, layer.join(link)).unwrap(),
                None if name.ends_with('/') => std::fs::create_dir_all(layer.join(name)).unwrap(),
                None => std::fs::write(layer.join(name), b"").unwrap(),
            }
        }
    }
    (top, layers)
}

fn shown(layers: &[PathBuf], path: &str) -> Result<Vec<String>, String> {
    let top = layers[0].parent().unwrap();
    let name = |directory: PathBuf| directory.strip_prefix(top).unwrap().display().to_string();
    merged_directory(layers, Path::new(path))
        .map(|directories| directories.into_iter().map(name).collect())
        .map_err(|error| error.to_string())
}

#[test]
fn directories_of_all_layers_merge_until_something_else_hides_them() {
    let (_top, layers) = layers(&[&["a/b/", "f"], &["a/", "f/x/"], &["a/b/c/"], &["a/b/"]]);
    assert_eq!(shown(&layers, "").unwrap(), ["0", "1", "2", "3"]);
    assert_eq!(shown(&layers, "./a//b/").unwrap(), ["0/a/b", "2/a/b", "3/a/b"]);
    assert_eq!(shown(&layers, "a/b/c").unwrap(), ["2/a/b/c"]);
    assert!(shown(&layers, "f").unwrap_err().contains("no directory"));
    assert!(shown(&layers, "f/x").unwrap_err().contains("no directory"));
    assert!(shown(&layers, "a/none").unwrap_err().contains("nothing there"));
}

#[test]
fn links_are_followed_inside_the_image() {
    let (_top, layers) = layers(&[
        &["up>../../../../../..", "abs>/etc", "rel>d/e", "loop>loop2", "loop2>loop", "gone>/nowhere", "d/"],
        &["etc/", "d/e/", "d/out>../../../etc/."],
    ]);
    assert_eq!(shown(&layers, "abs").unwrap(), ["1/etc"]);
    assert_eq!(shown(&layers, "rel/../../etc").unwrap(), ["1/etc"]);
    assert_eq!(shown(&layers, "d/out").unwrap(), ["1/etc"]);
    assert_eq!(shown(&layers, "up").unwrap(), ["0", "1"]);
    assert_eq!(shown(&layers, "up/../../etc").unwrap(), ["1/etc"]);
    assert!(shown(&layers, "gone").unwrap_err().contains("nothing there"));
    assert!(shown(&layers, "loop").unwrap_err().contains("symbolic links"));
}

#[test]
fn links_that_grow_the_path_end() {
    let long = format!("grow>{}", "grow/".repeat(200));
    let (_top, layers) = layers(&[&[&long]]);
    assert!(shown(&layers, "grow").unwrap_err().contains("symbolic links"));
}

#[test]
fn root_whiteouts_and_opaque_directories_hide_what_is_below() {
    use rustix::fs::{FileType, Mode, XattrFlags};
    let (_top, layers) = layers(&[&["o/"], &["gone/", "o/x/"]]);
    let whiteout = layers[0].join("gone");
    rustix::fs::mknodat(rustix::fs::CWD, &whiteout, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    rustix::fs::setxattr(layers[0].join("o"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    assert!(shown(&layers, "gone").unwrap_err().contains("nothing there"));
    assert_eq!(shown(&layers, "o").unwrap(), ["0/o"]);
    assert!(shown(&layers, "o/x").unwrap_err().contains("nothing there"));
}
