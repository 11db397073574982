//! What a runtime answers to its `features` command: the part of it that callers are told.

use serde::Deserialize;

/// What a runtime can.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// Mounts that are read-only with all below them.
    pub recursive_read_only_mounts: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    mount_options: Option<Vec<String>>,
}

/// Reads the answer.
///
/// # Errors
/// It is no JSON of the OCI runtime specification, "Features Structure".
pub fn read_features(bytes: &[u8]) -> Result<Features, String> {
    let answer: Answer = serde_json::from_slice(bytes)
        .map_err(|error| format!("it answers no features of the OCI specification: {error}"))?;
    let knows = |option: &str| answer.mount_options.iter().flatten().any(|known| known == option);
    Ok(Features { recursive_read_only_mounts: knows("rro") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_rubbish_refused() {
        let answer = br#"{"ociVersionMin": "1.0.0", "mountOptions": ["ro", "rro"], "linux": {}}"#;
        assert!(read_features(answer).unwrap().recursive_read_only_mounts);
        assert_eq!(read_features(b"{}").unwrap(), Features::default());
        for rubbish in [b"".as_slice(), b"usage: crun", b"5", br#"{"mountOptions": "all"}"#] {
            assert!(read_features(rubbish).is_err(), "{rubbish:?}");
        }
    }
}
