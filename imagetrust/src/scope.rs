//! The names under which a policy, and `registries.d`, may speak about an image: from the most specific to the least.
//!
//! Names of hosts are compared in lower case, as the servers that they stand for do not depend on it. A port that need not be written is
//! written all the same: `host:443` is not `host`.

use podwright_types::ImageReference;

/// A name, or the start of one, with its host in lower case.
pub(crate) fn folded(name: &str) -> String {
    let (host, rest) = name.split_at(name.find('/').unwrap_or(name.len()));
    format!("{}{rest}", host.to_ascii_lowercase())
}

/// Registry and path of an image.
pub(crate) fn repository(image: &ImageReference) -> String {
    folded(&image.repository())
}

/// The whole name of an image; a digest goes before a tag.
pub(crate) fn canonical(image: &ImageReference) -> String {
    folded(&image.canonical())
}

/// `host/a/b:tag`, `host/a/b`, `host/a`, `host`, `*.parent.of.host`, …
pub(crate) fn names(image: &ImageReference) -> Vec<String> {
    let mut found = vec![canonical(image)];
    let repository = repository(image);
    let mut rest = repository.as_str();
    while let Some((parent, _)) = rest.rsplit_once('/') {
        found.push(rest.to_owned());
        rest = parent;
    }
    found.push(rest.to_owned());
    let host = rest.split(':').next().unwrap_or(rest);
    let mut parents = host;
    while let Some((_, parent)) = parents.split_once('.') {
        found.push(format!("*.{parent}"));
        parents = parent;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_go_from_the_image_to_the_parents_of_its_host() {
        let of = |text: &str| names(&text.parse().unwrap());
        let all = ["a.b.example:5000/x/y:v1", "a.b.example:5000/x/y", "a.b.example:5000/x", "a.b.example:5000"];
        let parents = ["*.b.example", "*.example"];
        assert_eq!(of("a.b.example:5000/x/y:v1"), [&all[..], &parents[..]].concat());
        assert_eq!(
            of("busybox"),
            ["docker.io/library/busybox:latest", "docker.io/library/busybox", "docker.io/library", "docker.io", "*.io"]
        );
        let digest = format!("sha256:{}", "0".repeat(64));
        // A digest decides, and then the tag says nothing.
        assert_eq!(of(&format!("localhost/a:v1@{digest}"))[0], format!("localhost/a@{digest}"));
        assert_eq!(of("localhost/a")[1..], ["localhost/a", "localhost"]);
        assert_eq!(of("A.B.Example:5000/x/y:V1"), [&["a.b.example:5000/x/y:V1"], &all[1..], &parents[..]].concat());
        assert_eq!(of("Docker.io/library/busybox"), of("busybox"));
    }
}
