use super::*;

struct Dirs {
    top: tempfile::TempDir,
    registry: Registry,
}

impl Dirs {
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        let dirs = ["etc", "run"].map(|name| top.path().join(name));
        dirs.iter().for_each(|dir| fs::create_dir(dir).unwrap());
        Self { registry: Registry::new(dirs.to_vec()), top }
    }

    fn write(&self, path: &str, devices: &[&str], says: &str) {
        let devices: Vec<String> = devices
            .iter()
            .map(|name| format!(r#"{{"name": "{name}", "containerEdits": {{"env": ["SAYS={says}", "D{name}=1"]}}}}"#))
            .collect();
        let json = format!(
            r#"{{"cdiVersion": "0.6.0", "kind": "v.com/c", "devices": [{}], "containerEdits": {{"env": ["COMMON={says}"]}}}}"#,
            devices.join(",")
        );
        fs::write(self.top.path().join(path), json).unwrap();
    }

    fn inject(&self, names: &[&str]) -> Result<Vec<String>, String> {
        let names: Vec<Name> = names.iter().map(|name| name.parse().unwrap()).collect();
        let mut spec = Spec::default();
        spec.set_process(Some(oci_spec::runtime::Process::default().set_env(None).clone()));
        self.registry.inject(&names, &mut spec).map_err(|error| error.to_string())?;
        Ok(spec.process().as_ref().unwrap().env().clone().unwrap_or_default())
    }
}

#[test]
fn a_later_directory_goes_before_an_earlier_one() {
    let dirs = Dirs::new();
    dirs.write("etc/a.json", &["x", "y"], "etc");
    dirs.write("run/b.yaml", &["x"], "run");
    assert_eq!(dirs.inject(&["v.com/c=x", "v.com/c=x"]).unwrap(), ["COMMON=run", "SAYS=run", "Dx=1"]);
    assert_eq!(dirs.inject(&["v.com/c=y"]).unwrap(), ["COMMON=etc", "SAYS=etc", "Dy=1"]);
    assert_eq!(dirs.registry.devices(), ["v.com/c=x", "v.com/c=y"]);
}

#[test]
fn two_files_of_one_directory_are_a_conflict_for_that_device_alone() {
    let dirs = Dirs::new();
    dirs.write("etc/a.json", &["x", "y"], "a");
    dirs.write("etc/b.json", &["x"], "b");
    let error = dirs.inject(&["v.com/c=x"]).unwrap_err();
    assert!(error.contains("a.json and ") && error.contains("b.json both describe it"), "{error}");
    assert!(dirs.inject(&["v.com/c=y"]).is_ok());
    // Unless a later directory has it.
    dirs.write("run/c.json", &["x"], "c");
    assert!(dirs.inject(&["v.com/c=x"]).is_ok());
}

#[test]
fn files_are_read_again_when_they_change() {
    let dirs = Dirs::new();
    let error = dirs.inject(&["v.com/c=x"]).unwrap_err();
    assert!(error.contains("CDI device v.com/c=x: no file in ") && error.contains("/etc or "), "{error}");
    dirs.write("run/a.json", &["x"], "first");
    assert_eq!(dirs.inject(&["v.com/c=x"]).unwrap()[0], "COMMON=first");
    dirs.write("run/a.json", &["x"], "second, longer");
    assert_eq!(dirs.inject(&["v.com/c=x"]).unwrap()[0], "COMMON=second, longer");
    fs::remove_file(dirs.top.path().join("run/a.json")).unwrap();
    assert!(dirs.inject(&["v.com/c=x"]).is_err());
}

#[test]
fn a_broken_file_takes_no_other_along() {
    let dirs = Dirs::new();
    dirs.write("etc/a.json", &["x"], "a");
    fs::write(dirs.top.path().join("etc/broken.json"), "{").unwrap();
    fs::write(dirs.top.path().join("etc/notes.txt"), "{").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dirs.top.path().join("run/fifo.yaml"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    assert!(dirs.inject(&["v.com/c=x"]).is_ok());
    let problems = dirs.registry.problems();
    let reasons: Vec<&str> = problems.iter().map(|problem| problem.reason.as_str()).collect();
    assert_eq!(reasons.len(), 2);
    assert_eq!(reasons[0], "it is no regular file");
    assert!(reasons[1].contains("EOF"), "{reasons:?}");
    let error = dirs.inject(&["v.com/c=z"]).unwrap_err();
    assert!(error.contains("one is broken"), "{error}");
}
