//! A network configuration, read from a file. Does no I/O.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::version::Version;
use crate::networks::LoadedNetwork;

/// A list of plugins under a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Conflist {
    /// Name.
    pub(super) name: String,
    /// File that it came from.
    pub(super) path: PathBuf,
    /// Versions that it may be used with, the one to prefer first.
    pub(super) versions: Vec<String>,
    /// No CHECK.
    pub(super) disable_check: bool,
    /// No GC.
    pub(super) disable_gc: bool,
    /// Whether plugins may be added from a directory of the network's name.
    pub(super) takes_more: bool,
    /// Configurations of its plugins; each has a `type`.
    pub(super) plugins: Vec<Map<String, Value>>,
}

impl Conflist {
    /// Reads a configuration: a list, or (`.conf`, `.json`) a single plugin.
    pub(super) fn parse(path: PathBuf, bytes: &[u8]) -> Result<Self, String> {
        let mut value: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|error| format!("it is no JSON object: {error}"))?;
        let name = value.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !is_name(&name) {
            return Err(format!(
                "its name {name:?} must start with a letter or digit and go on with letters, digits, '_', '.' or '-'"
            ));
        }
        let versions = versions(&value)?;
        let flag = |key| {
            matches!(value.get(key), Some(Value::Bool(true))) || value.get(key).and_then(Value::as_str) == Some("true")
        };
        let (disable_check, disable_gc, only_inlined) =
            (flag("disableCheck"), flag("disableGC"), flag("loadOnlyInlinedPlugins"));
        let is_list =
            value.contains_key("plugins") || path.extension().is_some_and(|extension| extension == "conflist");
        let plugins = if is_list {
            match value.remove("plugins") {
                Some(Value::Array(plugins)) => plugins.into_iter().map(plugin).collect::<Result<_, _>>()?,
                None | Some(Value::Null) => Vec::new(),
                Some(_) => return Err("its plugins are no list".to_owned()),
            }
        } else {
            vec![plugin(Value::Object(value))?]
        };
        Ok(Self { name, path, versions, disable_check, disable_gc, takes_more: is_list && !only_inlined, plugins })
    }

    /// Adds a plugin from a file beside the list.
    pub(super) fn add_plugin(&mut self, bytes: &[u8]) -> Result<(), String> {
        let value = serde_json::from_slice(bytes).map_err(|error| format!("it is no JSON: {error}"))?;
        self.plugins.push(plugin(value)?);
        Ok(())
    }

    /// The version to use; [`Conflist::parse`] made sure of one.
    pub(super) fn version(&self) -> Version {
        self.versions.iter().find_map(|text| text.parse().ok()).unwrap_or(Version::WITH_CHECK)
    }

    /// Type of a plugin, its file's name.
    pub(super) fn type_of(plugin: &Map<String, Value>) -> &str {
        plugin.get("type").and_then(Value::as_str).unwrap_or_default()
    }

    /// What to show of it.
    pub(super) fn loaded(&self) -> LoadedNetwork {
        LoadedNetwork {
            name: self.name.clone(),
            path: self.path.clone(),
            cni_version: self.version().to_string(),
            plugins: self.plugins.iter().map(|plugin| Self::type_of(plugin).to_owned()).collect(),
            config: Value::Array(self.plugins.iter().cloned().map(Value::Object).collect()),
        }
    }
}

fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric()) && name.bytes().all(inner)
}

fn plugin(value: Value) -> Result<Map<String, Value>, String> {
    let Value::Object(plugin) = value else { return Err("one of its plugins is no object".to_owned()) };
    let kind = Conflist::type_of(&plugin);
    if kind.is_empty() || kind.contains('/') || kind.starts_with('.') {
        return Err(format!("the type {kind:?} of one of its plugins names no file of a plugin directory"));
    }
    Ok(plugin)
}

fn versions(value: &Map<String, Value>) -> Result<Vec<String>, String> {
    let single = value.get("cniVersion").and_then(Value::as_str);
    let several = value.get("cniVersions").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let mut parsed = several.chain(single).map(str::parse).collect::<Result<Vec<Version>, _>>()?;
    parsed.retain(|version| version.is_supported());
    parsed.sort_unstable();
    parsed.dedup();
    if parsed.is_empty() {
        return Err(format!(
            "its cniVersion {:?} is none of 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0",
            single.unwrap_or("(missing)")
        ));
    }
    Ok(parsed.iter().rev().map(Version::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, text: &str) -> Result<Conflist, String> {
        Conflist::parse(PathBuf::from(name), text.as_bytes())
    }

    #[test]
    fn lists_and_single_plugins_are_read() {
        let list = parse("a.conflist", r#"{"cniVersion":"0.4.0","cniVersions":["1.1.0","0.3.1","9.0.0"],"name":"n","disableCheck":true,"plugins":[{"type":"a"},{"type":"b"}]}"#).unwrap();
        assert_eq!(
            (list.versions.as_slice(), list.plugins.len()),
            (&["1.1.0".to_owned(), "0.4.0".to_owned(), "0.3.1".to_owned()][..], 2)
        );
        assert!(list.disable_check && !list.disable_gc && list.takes_more);
        let single = parse("a.conf", r#"{"cniVersion":"1.0.0","name":"n","type":"bridge","bridge":"x"}"#).unwrap();
        assert_eq!((single.loaded().plugins, single.takes_more), (vec!["bridge".to_owned()], false));
    }

    #[test]
    fn bad_ones_say_what_is_wrong() {
        for (text, word) in [
            ("[]", "object"),
            ("{", "JSON"),
            (r#"{"cniVersion":"1.0.0","name":"../x","plugins":[{"type":"a"}]}"#, "name"),
            (r#"{"name":"n","plugins":[{"type":"a"}]}"#, "cniVersion"),
            (r#"{"cniVersion":"0.2.0","name":"n","plugins":[{"type":"a"}]}"#, "cniVersion"),
            (r#"{"cniVersion":"1.0","name":"n","plugins":[{"type":"a"}]}"#, "version"),
            (r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"../a"}]}"#, "type"),
            (r#"{"cniVersion":"1.0.0","name":"n","plugins":[3]}"#, "object"),
            (r#"{"cniVersion":"1.0.0","name":"n","plugins":{}}"#, "list"),
        ] {
            let error = parse("a.conflist", text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
