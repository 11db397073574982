//! What a fresh Debian or Ubuntu lacks for building and testing.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, installed, step};

/// A program, the package that has it, and what it is for.
struct Need {
    program: &'static str,
    package: &'static str,
    purpose: &'static str,
}

const fn need(program: &'static str, package: &'static str, purpose: &'static str) -> Need {
    Need { program, package, purpose }
}

/// For the daemon and the demo.
const TO_BUILD: &[Need] = &[
    need("cc", "gcc", "linking, and the C parts of ring, aws-lc and zstd"),
    need("ld", "binutils", "linking"),
    need("busybox", "busybox-static", "the images of demo and tests"),
    need("ip", "iproute2", "network namespaces of demo and tests"),
    need("unshare", "util-linux", "namespaces of demo and tests"),
    need("nft", "nftables", "looking at what the network leaves"),
    need("ps", "procps", "finding processes of a test"),
    need("docker-registry", "docker-registry", "a real registry"),
];

/// For the tests only.
const TO_TEST: &[Need] = &[
    need("protoc", "protobuf-compiler", "the independent CRI client k8s-cri"),
    need("skopeo", "skopeo", "reading our image store as others do"),
    need("openssl", "openssl", "certificates of test registries, keys and signatures of images"),
    need("gpg", "gnupg", "signatures of images"),
    need("htpasswd", "apache2-utils", "accounts of test registries"),
    need("iptables", "iptables", "the firewall and portmap plugins"),
    need("git", "git", "cargo xtask check"),
    need("podman", "podman", "a caller of podwright-oci"),
    need("ipcmk", "util-linux", "critest's shared memory"),
    need("readelf", "binutils", "the libraries of critest's images"),
];

/// For fuzzing.
const TO_FUZZ: &[Need] = &[need("g++", "g++", "libFuzzer")];

/// For guests.
const FOR_GUESTS: &[Need] = &[
    need("mmdebstrap", "mmdebstrap", "making the guest's Debian, and unpacking qemu"),
    need("mke2fs", "e2fsprogs", "making the guest's disks"),
];

/// Debian keeps plugins out of PATH.
const DEBIAN_PLUGIN: &str = "/usr/lib/cni/bridge";

/// Older ones can not fetch the toolchain that critest/go.mod asks for.
const GO_MINOR_AT_LEAST: u32 = 21;

/// `cargo xtask setup`.
pub(crate) fn run() -> Result<()> {
    for_tests()?;
    println!("everything needed is installed");
    Ok(())
}

/// What the demo needs.
pub(crate) fn for_demo() -> Result<()> {
    install(&missing(TO_BUILD))
}

/// What the tests need, the demo's needs included.
pub(crate) fn for_tests() -> Result<()> {
    let mut packages = missing(TO_BUILD);
    packages.extend(missing(TO_TEST));
    if !std::path::Path::new(DEBIAN_PLUGIN).exists() {
        println!("    containernetworking-plugins: CNI plugins as Debian has them");
        packages.push("containernetworking-plugins");
    }
    let go = go_minor();
    if go.is_none() {
        println!("    golang-go: building crictl and the pinned CNI plugins");
        packages.push("golang-go");
    }
    install(&packages)?;
    check_go()
}

/// What `cargo xtask fuzz` needs.
pub(crate) fn for_fuzzing() -> Result<()> {
    install(&missing(TO_BUILD))?;
    install(&missing(TO_FUZZ))
}

/// What `cargo xtask vm` needs.
pub(crate) fn for_guests() -> Result<()> {
    for_tests()?;
    install(&missing(FOR_GUESTS))
}

fn missing(needs: &[Need]) -> Vec<&'static str> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !installed(need.program)).collect();
    for need in &missing {
        println!("    {}: {}", need.package, need.purpose);
    }
    missing.iter().map(|need| need.package).collect()
}

fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let line = packages.join(" ");
    if !process::is_root() {
        bail!("these packages are missing; as root: apt-get install {line}");
    }
    if !installed("apt-get") {
        bail!("packages are missing, and this is no Debian or Ubuntu; install what corresponds to: {line}");
    }
    step(&format!("installing {line}"));
    process::run(apt(&["update", "-qq"]).env("DEBIAN_FRONTEND", "noninteractive"))?;
    process::run(apt(&["install", "-y", "-qq", "--no-install-recommends"]).args(packages))?;
    if packages.contains(&"docker-registry") && std::path::Path::new("/run/systemd/system").exists() {
        step("stopping the docker-registry service that the package started; tests start their own");
        process::run(Command::new("systemctl").args(["disable", "--quiet", "--now", "docker-registry"]))?;
    }
    Ok(())
}

fn apt(words: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(words);
    command
}

/// `24` for go1.24.3.
fn go_minor() -> Option<u32> {
    let output = Command::new("go").args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local").output().ok()?;
    parse_go_minor(&String::from_utf8(output.stdout).ok()?)
}

fn parse_go_minor(version: &str) -> Option<u32> {
    version.trim().strip_prefix("go1.")?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn check_go() -> Result<()> {
    let minor = go_minor().context("`go` is not in PATH; put it there (often /usr/local/go/bin)")?;
    if minor < GO_MINOR_AT_LEAST {
        bail!(
            "Go 1.{minor} is too old to build crictl: 1.{GO_MINOR_AT_LEAST} or later is needed, which fetches the toolchain that \
             critest/go.mod names. On Debian 12: apt-get install -t bookworm-backports golang-go, or unpack a release of Go to /usr/local/go"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_versions_are_read() {
        assert_eq!(parse_go_minor("go1.26.2\n"), Some(26));
        assert_eq!(parse_go_minor("go1.22rc1"), Some(22));
        assert_eq!(parse_go_minor("devel"), None);
    }
}
