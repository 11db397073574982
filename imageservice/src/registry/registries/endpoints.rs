//! From an entry and an image's name to the servers to ask.

use podwright_types::ImageReference;

use super::super::hosts::{Host, api};
use super::file::{Entry, Serves};
use crate::error::{ErrorKind, ImageError, Result};

/// How much of a name a prefix takes, if the name is below it. Both have their hosts in lower case.
pub(super) fn matched(name: &str, prefix: &str) -> Option<usize> {
    match prefix.strip_prefix('*') {
        Some(domain) => {
            let end = name.find([':', '/', '@']).unwrap_or(name.len());
            let host = name.get(..end)?;
            (host.len() > domain.len() && host.ends_with(domain)).then_some(end)
        }
        None => {
            let is_whole = matches!(name.strip_prefix(prefix)?.bytes().next(), None | Some(b':' | b'/' | b'@'));
            is_whole.then_some(prefix.len())
        }
    }
}

/// A name or a prefix with its host in lower case, as which hosts are compared: `R.Example` is where `r.example` is.
pub(super) fn with_host_in_lower_case(name: &str) -> String {
    let (host, rest) = name.split_at(name.find('/').unwrap_or(name.len()));
    format!("{}{rest}", host.to_ascii_lowercase())
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
    let mut host = Host::plain(api("https", there.domain())?);
    host.repository = Some(there.path().to_owned());
    host.is_mirror = there.domain() != reference.domain();
    host.skip_verify = insecure;
    host.plain_base = if insecure { Some(api("http", there.domain())?) } else { None };
    Ok(host)
}

/// The image's name there.
fn there(entry: &Entry, location: &str, reference: &ImageReference) -> Result<ImageReference> {
    if location.is_empty() {
        return Ok(reference.clone());
    }
    let name = with_host_in_lower_case(&reference.to_string());
    let rest = matched(&name, &entry.prefix).and_then(|end| name.get(end..)).unwrap_or_default();
    let text = format!("{location}{rest}");
    text.parse().map_err(|error| {
        let cause = format!("by {}:{} it is {text}: {error}", entry.file.display(), entry.line);
        ImageError::new(ErrorKind::Invalid, "find registry of", reference, cause)
    })
}
