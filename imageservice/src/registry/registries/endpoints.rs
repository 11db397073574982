//! From an entry and an image's name to the servers to ask.

use podwright_types::ImageReference;

use super::super::hosts::{Host, https_origin};
use super::file::{Entry, Serves};
use crate::error::{ErrorKind, ImageError, Result};

/// How much of a name a prefix takes, if the name is below it.
pub(super) fn matched(name: &str, prefix: &str) -> Option<usize> {
    let end = match prefix.strip_prefix('*') {
        Some(domain) => {
            let at = name.find(domain)?;
            // In the host, and not in the path.
            if name.get(..at)?.contains('/') {
                return None;
            }
            at + domain.len()
        }
        None => name.starts_with(prefix).then_some(prefix.len())?,
    };
    let is_whole = matches!(name.as_bytes().get(end), None | Some(b':' | b'/' | b'@'));
    is_whole.then_some(end)
}

/// The mirrors that serve such a name, then the registry itself.
pub(super) fn servers(entry: &Entry, reference: &ImageReference) -> Result<Vec<Host>> {
    let is_by_digest = reference.digest().is_some();
    let fits = |serves: Serves| match serves {
        Serves::All => true,
        Serves::DigestOnly => is_by_digest,
        Serves::TagOnly => !is_by_digest,
    };
    let mirrors = entry.mirrors.iter().filter(|mirror| fits(mirror.serves));
    let places = mirrors.map(|mirror| (mirror.location.as_str(), mirror.insecure));
    places
        .chain([(entry.location.as_str(), entry.insecure)])
        .map(|(location, insecure)| server(entry, location, insecure, reference))
        .collect()
}

fn server(entry: &Entry, location: &str, insecure: bool, reference: &ImageReference) -> Result<Host> {
    let there = there(entry, location, reference)?;
    let mut base = https_origin(there.domain())?;
    base.set_path("/v2");
    let mut host = Host::plain(base);
    host.repository = Some(there.path().to_owned());
    host.is_mirror = there.domain() != reference.domain();
    host.is_insecure = insecure;
    host.skip_verify = insecure;
    Ok(host)
}

/// The image's name there.
fn there(entry: &Entry, location: &str, reference: &ImageReference) -> Result<ImageReference> {
    if location.is_empty() {
        return Ok(reference.clone());
    }
    let name = reference.to_string();
    let rest = matched(&name, &entry.prefix).and_then(|end| name.get(end..)).unwrap_or_default();
    let text = format!("{location}{rest}");
    text.parse().map_err(|error| {
        let cause = format!("by {}:{} it is {text}: {error}", entry.file.display(), entry.line);
        ImageError::new(ErrorKind::Invalid, "find registry of", reference, cause)
    })
}
