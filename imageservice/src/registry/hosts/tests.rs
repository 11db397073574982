//! hosts.toml as containerd documents it.

use super::*;

fn hosts(directory: &Path, domain: &str) -> Vec<Host> {
    hosts_for(Some(directory), domain).unwrap()
}

fn write(directory: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(directory.join(name)).unwrap();
    std::fs::write(directory.join(name).join("hosts.toml"), text).unwrap();
}

#[test]
fn without_a_file_the_registry_itself_answers() {
    let base = |domain| hosts_for(None, domain).unwrap()[0].base.to_string();
    assert_eq!(base("docker.io"), "https://registry-1.docker.io/v2");
    assert_eq!(base("r.example:5000"), "https://r.example:5000/v2");
    assert_eq!(base("localhost:5000"), "http://localhost:5000/v2");
    assert_eq!(base("127.0.0.1:5000"), "http://127.0.0.1:5000/v2");
    assert_eq!(base("[::1]:5000"), "http://[::1]:5000/v2");
    assert_eq!(base("localhost:443"), "https://localhost/v2");
}

#[test]
fn a_full_file_is_read_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"
server = "https://registry-1.docker.io"
[host."https://z-mirror.example"]
  capabilities = ["pull", "resolve"]
  ca = "z.pem"
  skip_verify = true
  dial_timeout = "500ms"
  [host."https://z-mirror.example".header]
    x-one = "1"
    x-many = ["2", "3"]
[host."http://a-mirror.example:5000/proxy"]
  capabilities = ["pull"]
  ca = ["/etc/a.pem", "b.pem"]
  client = [["c.cert", "c.key"], ["both.pem", ""]]
[host."https://over.example/odd/path"]
  override_path = true
  client = "one.pem"
"#;
    write(dir.path(), "docker.io", text);
    let found = hosts(dir.path(), "docker.io");
    let bases: Vec<_> = found.iter().map(|h| h.base.as_str()).collect();
    assert_eq!(
        bases,
        [
            "https://z-mirror.example/v2",
            "http://a-mirror.example:5000/proxy/v2",
            "https://over.example/odd/path",
            "https://registry-1.docker.io/v2"
        ]
    );
    let own = dir.path().join("docker.io");
    assert_eq!(found[0].ca, [own.join("z.pem")]);
    assert!(found[0].skip_verify && found[0].can_resolve);
    assert_eq!(found[0].connect_timeout, Some(Duration::from_millis(500)));
    assert_eq!(found[0].headers.len(), 3);
    assert!(found[1].can_pull && !found[1].can_resolve);
    assert_eq!(found[1].ca, [PathBuf::from("/etc/a.pem"), own.join("b.pem")]);
    assert_eq!(found[1].client_pairs, [(own.join("c.cert"), Some(own.join("c.key"))), (own.join("both.pem"), None)]);
    assert_eq!(found[2].client_pairs, [(own.join("one.pem"), None)]);
    assert_eq!(
        found[0].url("library/a/manifests/b").unwrap().as_str(),
        "https://z-mirror.example/v2/library/a/manifests/b?ns=docker.io"
    );
    assert_eq!(found[3].url("x").unwrap().as_str(), "https://registry-1.docker.io/v2/x");
}

#[test]
fn directories_are_tried_as_containerd_does() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "_default", "[host.\"http://default.example\"]\n");
    assert_eq!(hosts(dir.path(), "r.example:5000")[0].base.as_str(), "http://default.example/v2");
    assert_eq!(hosts(dir.path(), "r.example:5000")[1].base.as_str(), "https://r.example:5000/v2");
    write(dir.path(), "r.example:5000", "server = \"http://colon.example\"\n");
    assert_eq!(hosts(dir.path(), "r.example:5000")[0].base.as_str(), "http://colon.example/v2");
    write(dir.path(), "r.example_5000_", "server = \"http://line.example\"\n");
    assert_eq!(hosts(dir.path(), "r.example:5000")[0].base.as_str(), "http://line.example/v2");
    std::fs::create_dir(dir.path().join("bare.example")).unwrap();
    std::fs::write(dir.path().join("bare.example/ca.crt"), "").unwrap();
    assert_eq!(hosts(dir.path(), "bare.example")[0].ca.len(), 1);
}

#[test]
fn mistakes_name_the_file_and_the_key() {
    let dir = tempfile::tempdir().unwrap();
    for (text, expected) in [
        ("server = ", "line 1"),
        ("[host.\"https://a\"]\ncapabilities = [\"fly\"]", "fly"),
        ("[host.\"ftp://a\"]", "ftp://a"),
        ("[host.\"https://a\"]\ndial_timeout = \"soon\"", "soon"),
        ("[host.\"https://a\".header]\n\"bad name\" = \"x\"", "bad name"),
        ("[host.\"https://a\"]\nclient = [[\"1\", \"2\", \"3\"]]", "3 files"),
    ] {
        write(dir.path(), "r.example", text);
        let error = hosts_for(Some(dir.path()), "r.example").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("hosts.toml") && error.to_string().contains(expected), "{error}");
    }
}
