//! One file of a hook, in the form that CRI-O and podman read (oci-hooks(5), version 1.0.0): the hook, its stages, and for which
//! containers it is.

use std::collections::{BTreeMap, HashMap};

use oci_spec::runtime::{Hook, Hooks};
use regex::Regex;
use serde::Deserialize;

/// The version that is read.
const VERSION: &str = "1.0.0";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    version: String,
    hook: Hook,
    when: When,
    stages: Vec<Stage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct When {
    always: Option<bool>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    commands: Vec<String>,
    has_bind_mounts: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Stage {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

/// A hook and the containers that it is for.
#[derive(Debug)]
pub(super) struct HookFile {
    hook: Hook,
    stages: Vec<Stage>,
    always: Option<bool>,
    annotations: Vec<(Regex, Regex)>,
    commands: Vec<Regex>,
    has_bind_mounts: Option<bool>,
}

/// What is known of a container.
pub(super) struct Subject<'a> {
    pub(super) annotations: &'a BTreeMap<String, String>,
    /// Its program.
    pub(super) command: Option<&'a str>,
    /// Whether its caller asked for mounts of the host.
    pub(super) has_bind_mounts: bool,
}

impl HookFile {
    /// Reads a file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let document: Document = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if document.version != VERSION {
            return Err(format!("version {:?} is not known; {VERSION} is read", document.version));
        }
        if !document.hook.path().is_absolute() {
            return Err(format!("the path {:?} of the hook is not absolute", document.hook.path()));
        }
        if document.hook.timeout().is_some_and(|seconds| seconds <= 0) {
            return Err("the timeout of the hook is not greater than 0 seconds".to_owned());
        }
        if document.stages.is_empty() {
            return Err("it names no stage".to_owned());
        }
        let when = document.when;
        let pattern = |text: &String| Regex::new(text).map_err(|error| format!("the pattern {text:?}: {error}"));
        let pair = |(key, value): (&String, &String)| Ok::<_, String>((pattern(key)?, pattern(value)?));
        let file = Self {
            hook: document.hook,
            stages: document.stages,
            always: when.always,
            annotations: when.annotations.iter().map(pair).collect::<Result<_, _>>()?,
            commands: when.commands.iter().map(pattern).collect::<Result<_, _>>()?,
            has_bind_mounts: when.has_bind_mounts,
        };
        if file.always.is_none()
            && file.annotations.is_empty()
            && file.commands.is_empty()
            && file.has_bind_mounts.is_none()
        {
            return Err("`when` says nothing; {\"always\": true} is for every container".to_owned());
        }
        Ok(file)
    }

    /// Whether everything that `when` says is so.
    pub(super) fn is_for(&self, subject: &Subject<'_>) -> bool {
        let annotated = |(key, value): &(Regex, Regex)| {
            subject.annotations.iter().any(|(own, text)| key.is_match(own) && value.is_match(text))
        };
        let commanded = subject.command.is_some_and(|command| self.commands.iter().any(|p| p.is_match(command)));
        self.always.unwrap_or(true)
            && self.annotations.iter().all(annotated)
            && (self.commands.is_empty() || commanded)
            && self.has_bind_mounts.is_none_or(|wanted| wanted && subject.has_bind_mounts)
    }

    /// The annotations that its patterns fit: those are what the hook wants to be told.
    pub(super) fn fitting<'a>(&'a self, subject: &Subject<'a>) -> impl Iterator<Item = (&'a String, &'a String)> + 'a {
        let fits = |key: &str, text: &str| self.annotations.iter().any(|(k, v)| k.is_match(key) && v.is_match(text));
        subject.annotations.iter().filter(move |(key, text)| fits(key, text))
    }

    /// Adds the hook to its stages.
    #[allow(deprecated, reason = "the stage is deprecated, its hooks are in use")]
    pub(super) fn add_to(&self, hooks: &mut Hooks) {
        for stage in &self.stages {
            let with =
                |list: &Option<Vec<Hook>>| Some(list.iter().flatten().cloned().chain([self.hook.clone()]).collect());
            let before = hooks.clone();
            match stage {
                Stage::Prestart => hooks.set_prestart(with(before.prestart())),
                Stage::CreateRuntime => hooks.set_create_runtime(with(before.create_runtime())),
                Stage::CreateContainer => hooks.set_create_container(with(before.create_container())),
                Stage::StartContainer => hooks.set_start_container(with(before.start_container())),
                Stage::Poststart => hooks.set_poststart(with(before.poststart())),
                Stage::Poststop => hooks.set_poststop(with(before.poststop())),
            };
        }
    }
}

/// Annotations as the specification has them.
pub(super) fn merged(
    into: &Option<HashMap<String, String>>,
    more: BTreeMap<String, String>,
) -> HashMap<String, String> {
    // What is there is the runtime's own word, and stays.
    more.into_iter().chain(into.iter().flatten().map(|(k, v)| (k.clone(), v.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn file(when: Value) -> Result<HookFile, String> {
        let document =
            json!({"version": "1.0.0", "hook": {"path": "/h"}, "when": when, "stages": ["createRuntime", "poststop"]});
        HookFile::parse(document.to_string().as_bytes())
    }

    fn fits(when: Value) -> bool {
        let annotations = [("io.trace".to_owned(), "on".to_owned()), ("b".to_owned(), "c".to_owned())].into();
        let subject = Subject { annotations: &annotations, command: Some("/bin/sh"), has_bind_mounts: false };
        file(when).unwrap().is_for(&subject)
    }

    #[test]
    fn all_conditions_have_to_hold() {
        assert!(fits(json!({"always": true})));
        assert!(!fits(json!({"always": false})));
        assert!(fits(json!({"annotations": {"^io\\.trace$": "o."}})));
        assert!(!fits(json!({"annotations": {"^io\\.trace$": "off", "b": "c"}})));
        assert!(fits(json!({"commands": ["nothing", "/sh$"]})));
        assert!(!fits(json!({"commands": ["/bash$"]})));
        assert!(!fits(json!({"hasBindMounts": true})));
        assert!(!fits(json!({"hasBindMounts": false})), "as podman has it");
        assert!(!fits(json!({"always": true, "hasBindMounts": true})));
    }

    #[test]
    fn bad_files_say_why() {
        let error = |text: &str| HookFile::parse(text.as_bytes()).unwrap_err();
        assert!(error("{").contains("EOF"));
        let base = |version: &str, path: &str, stages: &str, when: &str| {
            error(&format!(
                r#"{{"version": "{version}", "hook": {{"path": "{path}"}}, "when": {when}, "stages": {stages}}}"#
            ))
        };
        let always = r#"{"always": true}"#;
        assert!(base("2.0.0", "/h", r#"["poststop"]"#, always).contains("1.0.0 is read"));
        assert!(base("1.0.0", "h", r#"["poststop"]"#, always).contains("not absolute"));
        assert!(base("1.0.0", "/h", "[]", always).contains("no stage"));
        assert!(base("1.0.0", "/h", r#"["later"]"#, always).contains("unknown variant"));
        assert!(base("1.0.0", "/h", r#"["poststop"]"#, "{}").contains("says nothing"));
        assert!(base("1.0.0", "/h", r#"["poststop"]"#, r#"{"commands": ["("]}"#).contains("the pattern \"(\""));
    }

    #[test]
    fn the_hook_comes_into_its_stages() {
        let mut hooks = Hooks::default();
        file(json!({"always": true})).unwrap().add_to(&mut hooks);
        file(json!({"always": true})).unwrap().add_to(&mut hooks);
        assert_eq!(hooks.poststop().as_ref().unwrap().len(), 2);
        assert_eq!(hooks.create_runtime().as_ref().unwrap()[0].path().to_str(), Some("/h"));
        assert!(hooks.poststart().is_none());
    }
}
