//! CNI plugins, which the embedded network does not need. Whether they are missed is the daemon's configuration to say.

use std::fs;
use std::path::Path;

use super::Finding;

/// Where network add-ons put their configuration, and their plugins.
const CONFIGURATIONS: &str = "/etc/cni/net.d";
const PLUGINS: &str = "/opt/cni/bin";

pub(super) fn finding() -> Finding {
    look(Path::new(CONFIGURATIONS), Path::new(PLUGINS))
}

fn look(configurations: &Path, plugins: &Path) -> Finding {
    let subject = "CNI";
    let mut files: Vec<_> = fs::read_dir(configurations).into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.retain(|path| path.extension().is_some_and(|kind| ["conf", "conflist", "json"].iter().any(|k| kind == *k)));
    files.sort();
    let Some(first) = files.first() else {
        let text = format!(
            "no configuration in {}; pods get the embedded network, unless mode = \"cni\"",
            configurations.display()
        );
        return Finding::ok(subject, text);
    };
    let text = fs::read_to_string(first).unwrap_or_default();
    let Ok(parsed) = serde_json::from_str::<serde_json::Value>(&text) else {
        return Finding::warn(
            subject,
            format!("{} is no JSON; correct it, or pods get no network by plugins", first.display()),
        );
    };
    let listed = parsed.get("plugins").and_then(|list| list.as_array()).cloned().unwrap_or_else(|| vec![parsed]);
    let types = listed.iter().filter_map(|plugin| plugin.get("type")?.as_str());
    let missing: Vec<&str> = types.filter(|name| !plugins.join(name).is_file()).collect();
    match missing.as_slice() {
        [] => Finding::ok(subject, format!("{} and its plugins", first.display())),
        missing => Finding::warn(
            subject,
            format!(
                "{} wants {}, not in {}; install them, or name their directory in the daemon's configuration",
                first.display(),
                missing.join(", "),
                plugins.display()
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    #[test]
    fn missing_plugins_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (configurations, plugins) = (dir.path().join("net.d"), dir.path().join("bin"));
        assert_eq!(look(&configurations, &plugins).grade, Grade::Ok);
        fs::create_dir(&configurations).unwrap();
        fs::create_dir(&plugins).unwrap();
        let file = configurations.join("10-net.conflist");
        fs::write(&file, r#"{"plugins":[{"type":"bridge"},{"type":"portmap"}]}"#).unwrap();
        fs::write(plugins.join("bridge"), "").unwrap();
        let found = look(&configurations, &plugins);
        assert!(found.grade == Grade::Warn && found.text.contains("wants portmap, not in"), "{found:?}");
        fs::write(plugins.join("portmap"), "").unwrap();
        assert_eq!(look(&configurations, &plugins).grade, Grade::Ok);
        fs::write(&file, "{").unwrap();
        assert!(look(&configurations, &plugins).text.contains("no JSON"));
    }
}
