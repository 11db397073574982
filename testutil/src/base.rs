//! The images that tests run: busybox as Debian packages it.
//!
//! Owns what lies in them; how images are written is [`crate::image`]'s part.

use std::process::Command;
use std::sync::LazyLock;

use anyhow::{Context, Result, anyhow, ensure};

use crate::image::{Compression, Format, Image, ImageBuilder, Layer, LayerBuilder};

/// Users of the images.
pub const USERS: &str = "root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
sync:x:4:100:sync:/bin:/bin/sync
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
";

/// Groups of the images.
pub const GROUPS: &str = "root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
mail:x:8:
www-data:x:33:
operator:x:37:
users:x:100:
staff:x:50:www-data
nobody:x:65534:
";

/// The program that everything in the images is a link to.
const BUSYBOX: &str = "/bin/busybox";

/// The layer with busybox and its users.
///
/// # Errors
/// busybox is not installed, or is not static.
pub fn busybox_layer() -> Result<Layer> {
    static LAYER: LazyLock<Result<Layer, String>> = LazyLock::new(|| make_layer().map_err(|e| format!("{e:#}")));
    LAYER.clone().map_err(|text| anyhow!(text))
}

/// An image of [`busybox_layer`] alone.
///
/// # Errors
/// See [`busybox_layer`].
pub fn busybox() -> Result<Image> {
    Ok(ImageBuilder::new(Format::Oci).layer(&busybox_layer()?).build())
}

/// busybox with one file more, so that its id is another one, and with a changed configuration.
///
/// # Errors
/// See [`busybox_layer`].
pub fn variant(marker: &str, change: impl FnOnce(ImageBuilder) -> ImageBuilder) -> Result<Image> {
    let mark = LayerBuilder::new().file("etc/variant", 0o644, marker.as_bytes()).finish(Compression::Gzip)?;
    Ok(change(ImageBuilder::new(Format::Oci).layer(&busybox_layer()?).layer(&mark)).build())
}

fn make_layer() -> Result<Layer> {
    busybox_entries(&[])?.finish(Compression::Gzip)
}

/// The entries of [`busybox_layer`], less some applets that the caller puts in another way.
///
/// # Errors
/// busybox is not installed, or is not static.
pub fn busybox_entries(left_out: &[&str]) -> Result<LayerBuilder> {
    let program = std::fs::read(BUSYBOX).with_context(|| format!("reading {BUSYBOX}; install busybox-static"))?;
    ensure!(!contains(&program, b"/ld-linux"), "{BUSYBOX} is not static; install busybox-static in its place");
    let listed = Command::new(BUSYBOX).arg("--list").output().context("asking busybox for its applets")?;
    let applets = String::from_utf8(listed.stdout).context("the list of applets is not text")?;
    let mut layer = LayerBuilder::new();
    for dir in ["bin", "etc", "dev", "proc", "sys", "run", "usr", "usr/bin", "usr/sbin", "var", "var/www", "home"] {
        layer = layer.dir(dir, 0o755);
    }
    layer = layer.dir("tmp", 0o1777).dir("root", 0o700).file("bin/busybox", 0o755, &program);
    for applet in applets.lines().filter(|name| *name != "busybox" && !left_out.contains(name)) {
        layer = layer.hard_link(&format!("bin/{applet}"), "bin/busybox");
    }
    Ok(layer.file("etc/passwd", 0o644, USERS.as_bytes()).file("etc/group", 0o644, GROUPS.as_bytes()))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
