//! Names of devices: `vendor.com/class=name`, as they are asked for by name and by annotation.

use std::collections::BTreeMap;
use std::fmt;

use crate::Error;

/// Annotations whose values are names of devices.
const ANNOTATION_PREFIX: &str = "cdi.k8s.io/";

/// The fully qualified name of a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// `vendor.com/class`.
    pub(crate) kind: String,
    /// Its name among them.
    pub(crate) device: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.device)
    }
}

impl std::str::FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |reason| Error::Name { name: text.to_owned(), reason };
        let (kind, device) = text.split_once('=').ok_or_else(|| refuse("it has no `=`"))?;
        check_kind(kind).map_err(refuse)?;
        check_device(device).map_err(refuse)?;
        Ok(Self { kind: kind.to_owned(), device: device.to_owned() })
    }
}

fn is_inside(extra: &'static str) -> impl Fn(char) -> bool {
    move |c| c.is_ascii_alphanumeric() || extra.contains(c)
}

fn is_word(text: &str, extra: &'static str, first: fn(&char) -> bool) -> bool {
    let mut chars = text.chars();
    chars.next().as_ref().is_some_and(first)
        && text.chars().all(is_inside(extra))
        && text.chars().next_back().is_some_and(|c| c.is_ascii_alphanumeric())
}

/// `vendor.com/class`.
pub(crate) fn check_kind(kind: &str) -> Result<(), &'static str> {
    let (vendor, class) = kind.split_once('/').ok_or("it has no vendor before a `/`")?;
    if !is_word(vendor, "_-.", char::is_ascii_alphabetic) {
        return Err("a vendor has letters, digits, `_`, `-` and `.`, begins with a letter and ends with no sign");
    }
    if !is_word(class, "_-.", char::is_ascii_alphabetic) {
        return Err("a class has letters, digits, `_`, `-` and `.`, begins with a letter and ends with no sign");
    }
    Ok(())
}

/// The name of a device.
pub(crate) fn check_device(name: &str) -> Result<(), &'static str> {
    if is_word(name, "_-.:", char::is_ascii_alphanumeric) {
        return Ok(());
    }
    Err("a device's name has letters, digits, `_`, `-`, `.` and `:`, and neither begins nor ends with a sign")
}

/// Devices that annotations ask for: in values of keys that begin with `cdi.k8s.io/`, separated by commas.
///
/// # Errors
/// The first that is no name.
pub fn asked_by_annotations(annotations: &BTreeMap<String, String>) -> Result<Vec<Name>, Error> {
    let values = annotations.iter().filter(|(key, _)| key.starts_with(ANNOTATION_PREFIX)).map(|(_, value)| value);
    values.flat_map(|value| value.split(',')).map(|name| name.trim().parse()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_three_parts() {
        let name: Name = "vendor.com/gpu=0".parse().unwrap();
        assert_eq!((name.kind.as_str(), name.device.as_str()), ("vendor.com/gpu", "0"));
        for good in ["v/c=all", "vendor-1.com/net.sriov=a:b.c-d_e", "nvidia.com/gpu=GPU-1"] {
            assert_eq!(good.parse::<Name>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "gpu0",
            "vendor.com/gpu",
            "vendor.com=0",
            "/gpu=0",
            "v/=0",
            "v/c=",
            "1v/c=0",
            "v/c=-a",
            "v/c=a/b",
            "v/c=a=b",
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn annotations_ask() {
        let annotations = [("cdi.k8s.io/x", "v/c=a, v/c=b"), ("other", "v/c=z")];
        let annotations: BTreeMap<_, _> = annotations.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let names: Vec<_> = asked_by_annotations(&annotations).unwrap().iter().map(Name::to_string).collect();
        assert_eq!(names, ["v/c=a", "v/c=b"]);
        let bad = [("cdi.k8s.io/x".to_owned(), "nothing".to_owned())].into();
        assert!(asked_by_annotations(&bad).is_err());
    }
}
