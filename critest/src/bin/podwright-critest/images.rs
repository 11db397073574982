//! The images that critest pulls, made from Debian's busybox and nginx, under the names of the public ones.
//!
//! What lies in them besides busybox is read from the directory of parts, which has one tree of files per image.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use podwright_testutil::image::{Compression, Format, Image, ImageBuilder, Layer, LayerBuilder};
use podwright_testutil::{Registry, base};
use serde_json::json;

/// Repositories of the specs' own images.
const CRI_TOOLS: &str = "k8s-staging-cri-tools";
/// Repositories of the images that Kubernetes' tests share.
const E2E: &str = "e2e-test-images";

/// Debian's busybox lacks it.
const PGREP: &str = "#!/bin/sh
found=1
for comm in /proc/[0-9]*/comm; do
    read -r name <\"$comm\" || continue
    case $name in *\"$1\"*) pid=${comm#/proc/}; echo \"${pid%/comm}\"; found=0 ;; esac
done 2>/dev/null
exit $found
";
/// Debian's busybox lacks it.
const IPCS: &str = "#!/bin/sh\nexec cat /proc/sysvipc/shm\n";

const NGINX_PAGE: &str = "<html><title>Welcome to nginx!</title><h1>Welcome to nginx!</h1></html>\n";
const HTTPD: &str = "#!/bin/sh\necho \"httpd: serving on port 80\"\nexec busybox httpd -f -p 80 -h /var/www\n";

/// Makes all images and puts them into the registry.
pub(crate) fn push(registry: &Registry, parts: &Path) -> Result<()> {
    let maker = Maker { base: base_layer(&parts.join("busybox"))?, registry };
    maker.plain()?;
    maker.of_users()?;
    maker.servers(&parts.join("nginx"))?;
    maker.programs(parts)
}

struct Maker<'a> {
    base: Layer,
    registry: &'a Registry,
}

impl Maker<'_> {
    fn busybox(&self) -> ImageBuilder {
        ImageBuilder::new(Format::Oci).layer(&self.base)
    }

    /// busybox with one file more, so that its id is another one.
    fn marked(&self, name: &str) -> Result<ImageBuilder> {
        let mark = LayerBuilder::new().file("etc/variant", 0o644, name.as_bytes()).finish(Compression::Gzip)?;
        Ok(self.busybox().layer(&mark))
    }

    fn push(&self, image: &Image, name: &str, tags: &[&str]) -> Result<()> {
        tags.iter().try_for_each(|tag| self.registry.push(image, name, tag).map(|_| ()))
    }

    fn plain(&self) -> Result<()> {
        self.push(&self.busybox().build(), &format!("{E2E}/busybox"), &["1.29-2"])?;
        for name in ["1", "2", "3", "latest", "digest"] {
            self.push(&self.marked(name)?.build(), &format!("{CRI_TOOLS}/test-image-{name}"), &["latest"])?;
        }
        self.push(&self.marked("tags")?.build(), &format!("{CRI_TOOLS}/test-image-tags"), &["1", "2", "3"])?;
        self.push(&self.marked("tag")?.build(), &format!("{CRI_TOOLS}/test-image-tag"), &["test", "all"])?;
        for tag in ["1.35.0-glibc", "1-uclibc", "1", "1-glibc", "1-musl"] {
            self.push(&self.marked(tag)?.build(), "docker/library/busybox", &[tag])?;
        }
        Ok(())
    }

    fn of_users(&self) -> Result<()> {
        for (name, user) in
            [("uid", "1002"), ("username", "www-data"), ("uid-group", "1003:1004"), ("username-group", "www-data:1004")]
        {
            let image = self.marked(name)?.set("User", json!(user)).build();
            self.push(&image, &format!("{CRI_TOOLS}/test-image-user-{name}"), &["latest"])?;
        }
        let users = format!("{}default-user:x:1000:1000::/home/default-user:/bin/sh\n", base::USERS);
        let groups = format!("{}default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n", base::GROUPS);
        let layer = LayerBuilder::new()
            .file("etc/passwd", 0o644, users.as_bytes())
            .file("etc/group", 0o644, groups.as_bytes())
            .finish(Compression::Gzip)?;
        let image = self.busybox().layer(&layer).set("User", json!("1000")).build();
        self.push(&image, &format!("{CRI_TOOLS}/test-image-predefined-group"), &["latest"])
    }

    fn servers(&self, nginx: &Path) -> Result<()> {
        let program = tree(LayerBuilder::new(), nginx)?
            .dir("var/run", 0o755)
            .dir("var/log", 0o755)
            .dir("var/log/nginx", 0o755)
            .file("var/www/index.html", 0o644, NGINX_PAGE.as_bytes())
            .finish(Compression::Gzip)?;
        let serve = |port: u16| -> Result<Image> {
            let config = nginx_config(port);
            let layer = LayerBuilder::new()
                .dir("etc/nginx", 0o755)
                .file("etc/nginx/nginx.conf", 0o644, config.as_bytes())
                .finish(Compression::Gzip)?;
            let image = self.busybox().layer(&program).layer(&layer);
            Ok(image.set("Cmd", json!(["nginx", "-g", "daemon off;"])).build())
        };
        self.push(&serve(80)?, &format!("{E2E}/nginx"), &["1.14-2"])?;
        let hostnet = serve(12_003)?;
        for name in ["hostnet-nginx", "hostnet-nginx-amd64", "hostnet-nginx-arm64"] {
            self.push(&hostnet, &format!("{CRI_TOOLS}/{name}"), &["latest"])?;
        }
        let script = LayerBuilder::new()
            .file("bin/httpd-foreground", 0o755, HTTPD.as_bytes())
            .file("var/www/index.html", 0o644, b"<html><body><h1>It works!</h1></body></html>\n")
            .finish(Compression::Gzip)?;
        let httpd = self.busybox().layer(&script).set("Cmd", json!(["httpd-foreground"])).build();
        self.push(&httpd, &format!("{E2E}/httpd"), &["2.4.39-4"])
    }

    fn programs(&self, parts: &Path) -> Result<()> {
        let path = parts.join("nonewprivs");
        let program = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let layer = LayerBuilder::new().file("nnp", 0o4755, &program).finish(Compression::Gzip)?;
        let image = self.busybox().layer(&layer).set("Entrypoint", json!(["/nnp"])).set("Cmd", json!(null)).build();
        self.push(&image, &format!("{E2E}/nonewprivs"), &["1.3"])?;
        let path = parts.join("pause");
        let program = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let layer = LayerBuilder::new().file("pause", 0o755, &program).finish(Compression::Gzip)?;
        let pause = |version: &str| {
            let image = ImageBuilder::new(Format::Oci).layer(&layer);
            let image =
                image.set("Entrypoint", json!(["/pause"])).set("Cmd", json!(null)).set("User", json!("65535:65535"));
            image.set("Labels", json!({"version": version})).build()
        };
        // Specs delete 3.9, which must not be the others.
        self.push(&pause("3.9"), "pause", &["3.9"])?;
        self.push(&pause("3.10"), "pause", &["3.10", "3.10.1"])
    }
}

/// busybox-static, but for the shell: the static one runs applets without executing them, which hides whether they may be executed,
/// and its errors are worded in another way than the specs expect.
fn base_layer(dynamic: &Path) -> Result<Layer> {
    tree(base::busybox_entries(&["sh"])?, dynamic)?
        .file("bin/pgrep", 0o755, PGREP.as_bytes())
        .file("bin/ipcs", 0o755, IPCS.as_bytes())
        .finish(Compression::Gzip)
}

fn nginx_config(port: u16) -> String {
    let scratch: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("  {name}_temp_path /tmp/nginx-{name};\n"))
        .concat();
    format!(
        "user www-data;\nworker_processes 1;\npid /var/run/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n  access_log off;\n{scratch}  \
         server {{\n    listen {port};\n    root /var/www;\n  }}\n}}\n"
    )
}

/// Adds all files below a directory, links followed, in the order of their names.
fn tree(mut layer: LayerBuilder, root: &Path) -> Result<LayerBuilder> {
    let mut open = vec![root.to_owned()];
    let mut files = Vec::new();
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("listing {}", dir.display()))? {
            let path = entry?.path();
            if path.is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    for path in files {
        let content = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let name = path.strip_prefix(root).context("a file outside of its tree")?.display().to_string();
        layer = layer.file(&name, path.metadata()?.permissions().mode() & 0o777, &content);
    }
    Ok(layer)
}
