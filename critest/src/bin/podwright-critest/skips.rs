//! critest/skips.toml: which specs may skip, with what reason, and why; and which are left out.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Skips {
    /// Specs that may skip themselves.
    #[serde(default)]
    skip: Vec<Skip>,
    /// Specs that can not pass where the registry is local; they are not run.
    #[serde(default)]
    left_out: Vec<LeftOut>,
}

/// Specs that may skip themselves.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Skip {
    /// Part of the spec's name.
    spec: String,
    /// Part of what it says when it skips.
    reason: String,
    /// Why that is right.
    pub(crate) why: String,
}

/// A spec that is not run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeftOut {
    /// Part of the spec's name.
    pub(crate) spec: String,
    /// Why.
    pub(crate) why: String,
}

impl Skips {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("in {}", path.display()))
    }

    /// Why a spec may skip with this reason.
    pub(crate) fn allows(&self, spec: &str, reason: &str) -> Option<&str> {
        let found = self.skip.iter().find(|skip| spec.contains(&skip.spec) && reason.contains(&skip.reason));
        found.map(|skip| skip.why.as_str())
    }

    /// Why a spec is not run.
    pub(crate) fn leaves_out(&self, spec: &str) -> Option<&str> {
        self.left_out.iter().find(|left_out| spec.contains(&left_out.spec)).map(|left_out| left_out.why.as_str())
    }

    /// Parts of the names of the specs that are not run.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = &str> {
        self.left_out.iter().map(|left_out| left_out.spec.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_is_allowed_by_spec_and_reason_together() {
        let text = "[[skip]]\nspec = 'AppArmor'\nreason = 'disabled'\nwhy = 'no'\n[[left_out]]\nspec = 'digest'\nwhy = 'bytes'";
        let skips: Skips = toml::from_str(text).unwrap();
        assert_eq!(skips.allows("x AppArmor y", "is disabled here"), Some("no"));
        assert_eq!(skips.allows("x AppArmor y", "broken"), None);
        assert_eq!(skips.allows("seccomp", "is disabled here"), None);
        assert_eq!(skips.leaves_out("by digest"), Some("bytes"));
        assert!(toml::from_str::<Skips>("[[skip]]\nspec = 'x'\n").is_err());
    }

    #[test]
    fn the_real_file_is_valid() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("skips.toml");
        let skips = Skips::read(&path).unwrap();
        assert!(skips.skip.iter().all(|skip| !skip.why.is_empty() && !skip.reason.is_empty()));
    }
}
