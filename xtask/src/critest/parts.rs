//! What critest's images are made of, gathered in target/critest: one tree of files per image.
//!
//! busybox and nginx with their libraries come from Debian packages, which are downloaded and unpacked, not installed; two small
//! programs come from critest/fixtures. Putting images together is the runner's part.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, step};
use crate::workspace::Workspace;

/// Bump when other files are gathered.
const VERSION: u32 = 1;

/// Packages with the programs; those of their libraries follow from them.
const PACKAGES: [&str; 2] = ["busybox", "nginx"];

/// A program: its places in the package, and its tree and place in the image.
const PROGRAMS: [(&[&str], &str, &str); 2] =
    [(&["bin/busybox", "usr/bin/busybox"], "busybox", "bin/sh"), (&["usr/sbin/nginx"], "nginx", "usr/sbin/nginx")];

/// Programs of critest/fixtures.
const FIXTURES: [&str; 2] = ["nonewprivs", "pause"];

/// Gathers the parts, or finds them there.
pub(crate) fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    let top = workspace.target.join("critest");
    let parts = top.join(format!("parts-{VERSION}"));
    if parts.is_dir() {
        return Ok(parts);
    }
    step("gathering the parts of critest's images from Debian packages (once)");
    fs::create_dir_all(&top).with_context(|| format!("making {}", top.display()))?;
    let work = tempfile::tempdir_in(&top)?;
    let made = work.path().join("parts");
    let unpacked = work.path().join("unpacked");
    download(&work.path().join("packages"), &unpacked)?;
    for (places, image, target) in PROGRAMS {
        let found = places.iter().map(|place| unpacked.join(place)).find(|path| path.is_file());
        let found = found.with_context(|| format!("the packages hold none of {}", places.join(", ")))?;
        with_libraries(&found, &unpacked, &made.join(image), target)?;
    }
    for name in FIXTURES {
        fixture(workspace, name, &made.join(name))?;
    }
    fs::rename(&made, &parts).with_context(|| format!("moving the parts to {}", parts.display()))?;
    Ok(parts)
}

/// Downloads and unpacks. The lists of packages may be missing or old: then they are fetched, once.
fn download(packages: &Path, unpacked: &Path) -> Result<()> {
    fs::create_dir_all(packages)?;
    if let Err(first) = try_download(packages) {
        println!("    {first:#}; updating the lists of packages");
        process::run(Command::new("apt-get").args(["update", "-qq"]))?;
        try_download(packages)?;
    }
    for entry in fs::read_dir(packages)? {
        process::run(Command::new("dpkg-deb").arg("-x").arg(entry?.path()).arg(unpacked))?;
    }
    Ok(())
}

fn try_download(dir: &Path) -> Result<()> {
    let names = closure()?;
    // Quiet about root's directory, which the user _apt can not write to.
    let output = Command::new("apt-get").current_dir(dir).args(["download", "-qq"]).args(names).output();
    let output = output.context("starting apt-get")?;
    if !output.status.success() {
        bail!("apt-get download failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// The packages, and those of the libraries that they depend on.
fn closure() -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut open: Vec<String> = PACKAGES.map(str::to_owned).to_vec();
    while let Some(name) = open.pop() {
        if found.insert(name.clone()) {
            let listed = process::read(Command::new("apt-cache").args(["depends", "--important", &name]))?;
            open.extend(libraries_of(&listed));
        }
    }
    Ok(found)
}

/// Packages of libraries among the lines `  Depends: NAME` of apt-cache.
fn libraries_of(listed: &str) -> Vec<String> {
    let names = listed.lines().filter_map(|line| line.split_once("epends: ").map(|(_, name)| name.trim()));
    let names = names.filter(|name| name.starts_with("lib") || name.starts_with("zlib"));
    names.map(|name| name.split(':').next().unwrap_or(name).to_owned()).collect()
}

/// Copies a program, its loader and the libraries that it needs, each to where the loader looks for it.
fn with_libraries(program: &Path, unpacked: &Path, tree: &Path, target: &str) -> Result<()> {
    put(program, &tree.join(target))?;
    let (loader, mut open) = needs(program)?;
    let loader = loader.with_context(|| format!("{} names no loader", program.display()))?;
    let name = loader.rsplit('/').next().unwrap_or(&loader);
    put(&library(unpacked, name)?, &tree.join(loader.trim_start_matches('/')))?;
    let mut done = BTreeSet::from([name.to_owned()]);
    while let Some(name) = open.pop() {
        if done.insert(name.clone()) {
            let found = library(unpacked, &name)?;
            put(&found, &tree.join("lib").join(triplet()).join(&name))?;
            open.extend(needs(&found)?.1);
        }
    }
    Ok(())
}

/// The loader that a program asks for, and the libraries that a file needs.
fn needs(file: &Path) -> Result<(Option<String>, Vec<String>)> {
    let listed = process::read(Command::new("readelf").args(["-l", "-d", "-W"]).arg(file))?;
    Ok(parse_needs(&listed))
}

fn parse_needs(listed: &str) -> (Option<String>, Vec<String>) {
    let between = |line: &str, mark: &str| {
        let (_, rest) = line.split_once(mark)?;
        Some(rest.split(']').next().unwrap_or(rest).trim().to_owned())
    };
    let loader = listed.lines().find_map(|line| between(line, "program interpreter:"));
    let needed = listed.lines().filter(|line| line.contains("(NEEDED)"));
    (loader, needed.filter_map(|line| between(line, "[")).collect())
}

fn library(unpacked: &Path, name: &str) -> Result<PathBuf> {
    let dirs = [format!("lib/{}", triplet()), format!("usr/lib/{}", triplet()), "lib64".into(), "lib".into()];
    let found = dirs.iter().map(|dir| unpacked.join(dir).join(name)).find(|path| path.is_file());
    found.with_context(|| format!("the packages hold no {name}; their list follows from {}", PACKAGES.join(", ")))
}

fn triplet() -> String {
    format!("{}-linux-gnu", std::env::consts::ARCH)
}

fn put(from: &Path, to: &Path) -> Result<()> {
    let parent = to.parent().context("a path without a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    fs::copy(from, to).with_context(|| format!("copying {}", from.display())).map(|_| ())
}

/// Builds a program that is one file and runs in an image without libraries.
fn fixture(workspace: &Workspace, name: &str, output: &Path) -> Result<()> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command.current_dir(&workspace.root).args([
        "--edition",
        "2024",
        "-O",
        "-C",
        "target-feature=+crt-static",
        "-C",
        "strip=symbols",
    ]);
    process::run(command.arg("-o").arg(output).arg(format!("critest/fixtures/{name}.rs")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_readelf_and_apt() {
        let listed =
            "      [Requesting program interpreter: /lib64/ld.so.2]\n 0x1 (NEEDED)  Shared library: [libz.so.1]\n";
        assert_eq!(parse_needs(listed), (Some("/lib64/ld.so.2".into()), vec!["libz.so.1".into()]));
        let listed =
            "nginx\n  Depends: nginx-common\n |Depends: libc6\n  PreDepends: zlib1g:any\n  Depends: <virtual>\n";
        assert_eq!(libraries_of(listed), ["libc6", "zlib1g"]);
    }
}
