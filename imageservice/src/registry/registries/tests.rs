//! registries.conf as containers-registries.conf(5) documents it.

use super::*;

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

struct Files {
    dir: tempfile::TempDir,
    registries: Registries,
}

impl Files {
    fn new(text: &str) -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap(), registries: Registries::default() };
        std::fs::write(files.path(), text).unwrap();
        files
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("registries.conf")
    }

    fn drop_in(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.dir.path().join("registries.conf.d")).unwrap();
        std::fs::write(self.dir.path().join("registries.conf.d").join(name), text).unwrap();
    }

    /// Where an image is asked for, with `!` where TLS is not insisted on.
    fn ask(&self, name: &str) -> Vec<String> {
        let reference = name.parse().unwrap();
        let Some(choice) = self.registries.find(&self.path(), &reference).unwrap() else { return Vec::new() };
        let shown = |host: Host| {
            let mark = if host.plain_base.is_some() && host.skip_verify { "!" } else { "" };
            format!("{mark}{} {}", host.base, host.repository.unwrap())
        };
        choice.servers(&reference).unwrap().into_iter().map(shown).collect()
    }

    fn error(&self) -> String {
        let error = self.registries.find(&self.path(), &"app".parse().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        error.to_string()
    }
}

#[test]
fn names_are_rewritten_for_mirrors_and_for_the_registry_itself() {
    let files = Files::new(
        r#"
unqualified-search-registries = ["quay.example"]
short-name-mode = "enforcing"
credential-helpers = ["secret-tool"]
[aliases]
"app" = "quay.example/app"

[[registry]]
prefix = "r.example/team"
location = "inner.example:5000/moved"
[[registry.mirror]]
location = "one.example/"
insecure = true
[[registry.mirror]]
location = "two.example/deep/down"

[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "hub.example/proxy"
"#,
    );
    assert_eq!(
        files.ask("r.example/team/app:v1"),
        [
            "!https://one.example/v2 app",
            "https://two.example/v2 deep/down/app",
            "https://inner.example:5000/v2 moved/app"
        ]
    );
    assert_eq!(
        files.ask("app"),
        ["https://hub.example/v2 proxy/library/app", "https://registry-1.docker.io/v2 library/app"]
    );
    assert!(files.ask("r.example/teams/app").is_empty(), "a prefix ends where a part of the name ends");
    assert!(files.ask("r.example:5000/team/app").is_empty());
}

#[test]
fn the_longest_prefix_is_taken_and_of_equal_ones_the_first() {
    let files = Files::new(
        r#"
registry = [
  { prefix = "r.example", location = "short.example" },
  { prefix = "r.example/a/b", location = "long.example" },
  { prefix = "r.example/a", location = "first.example" },
  { prefix = "r.example/a", location = "second.example" },
  { prefix = "r.example/one:v1", location = "tagged.example/one:v2" },
]
"#,
    );
    assert_eq!(files.ask("r.example/x"), ["https://short.example/v2 x"]);
    assert_eq!(files.ask("r.example/a/b/c"), ["https://long.example/v2 c"]);
    assert_eq!(files.ask("r.example/a/c"), ["https://first.example/v2 c"]);
    assert_eq!(files.ask("r.example/one:v1"), ["https://tagged.example/v2 one"]);
}

#[test]
fn domains_are_matched_in_the_host_alone() {
    let files = Files::new(
        r#"
[[registry]]
prefix = "*.corp.example"
insecure = true
[[registry]]
prefix = "*.moved.example"
location = "new.example/old"
"#,
    );
    assert_eq!(files.ask("a.b.corp.example:5000/app"), ["!https://a.b.corp.example:5000/v2 app"]);
    assert_eq!(files.ask("a.moved.example/team/app"), ["https://new.example/v2 old/team/app"]);
    assert_eq!(files.ask("a.corp.example.corp.example/app"), ["!https://a.corp.example.corp.example/v2 app"]);
    assert_eq!(files.ask("A.Corp.Example/app"), ["!https://a.corp.example/v2 app"], "hosts are the same in any case");
    assert!(files.ask("corp.example/app").is_empty());
    assert!(files.ask("x.example/a.corp.example/app").is_empty());
    assert!(files.ask("a.corp.example.org/app").is_empty());
}

#[test]
fn mirrors_serve_tags_or_digests() {
    let mirrors = |keys: &str, first: &str, second: &str| {
        let text = format!(
            "[[registry]]\nlocation = \"r.example\"\n{keys}\n[[registry.mirror]]\nlocation = \"one.example\"\n{first}\n\
             [[registry.mirror]]\nlocation = \"two.example\"\n{second}\n"
        );
        let files = Files::new(&text);
        let hosts = |name: &str| {
            let asked = files.ask(name);
            asked.iter().map(|host| host["https://".len()..].split('.').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        (hosts("r.example/app:v1"), hosts(&format!("r.example/app@{DIGEST}")))
    };
    let (tag, digest) = mirrors("", "pull-from-mirror = \"digest-only\"", "pull-from-mirror = \"tag-only\"");
    assert_eq!((tag, digest), (vec!["two".into(), "r".into()], vec!["one".into(), "r".into()]));
    let (tag, digest) = mirrors("mirror-by-digest-only = true", "", "pull-from-mirror = \"\"");
    assert_eq!((tag, digest), (vec!["r".into()], vec!["one".into(), "two".into(), "r".into()]));
    let (tag, digest) = mirrors("", "pull-from-mirror = \"all\"", "");
    assert_eq!(tag, ["one", "two", "r"]);
    assert_eq!(tag, digest);
}

#[test]
fn drop_ins_replace_entries_and_changes_are_seen() {
    let files = Files::new("[[registry]]\nprefix = \"r.example\"\nlocation = \"main.example\"\n");
    assert_eq!(files.ask("r.example/app"), ["https://main.example/v2 app"]);
    files.drop_in("20-b.conf", "[[registry]]\nprefix = \"r.example\"\nlocation = \"b.example\"\n");
    files.drop_in("10-a.conf", "[[registry]]\nprefix = \"r.example\"\nlocation = \"a.example\"\n");
    files.drop_in("30-c.off", "no toml");
    assert_eq!(files.ask("r.example/app"), ["https://b.example/v2 app"]);
    std::fs::remove_file(files.path()).unwrap();
    std::fs::remove_file(files.dir.path().join("registries.conf.d/20-b.conf")).unwrap();
    assert_eq!(files.ask("r.example/app"), ["https://a.example/v2 app"]);
    std::fs::remove_dir_all(files.dir.path().join("registries.conf.d")).unwrap();
    assert!(files.ask("r.example/app").is_empty());
    files.drop_in("10-a.conf", "\n[[registry]]\n");
    assert!(files.error().contains("registries.conf.d/10-a.conf:2"), "{}", files.error());
}

#[test]
fn mistakes_name_file_line_and_remedy() {
    for (text, line, part) in [
        ("[[registry]\n", 1, "]"),
        ("\n[[registry]]\nblocked = 1\n", 3, "boolean"),
        ("\n\n[[registry]]\nblocked = true\n", 3, "neither prefix nor location"),
        ("[[registry]]\nlocation = \"https://r.example\"\n", 1, "scheme"),
        ("[[registry]]\nprefix = \"a*.example\"\n", 1, "*.example.com"),
        ("[[registry]]\nprefix = \"*.a.example/b\"\n", 1, "*.example.com"),
        ("[[registry]]\nlocation = \"r.example\"\n[[registry.mirror]]\ninsecure = true\n", 3, "needs a location"),
        (
            "[[registry]]\nlocation = \"r.example\"\n[[registry.mirror]]\nlocation = \"m\"\npull-from-mirror = \"never\"\n",
            5,
            "never",
        ),
        (
            "[[registry]]\nlocation = \"r.example\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \"m\"\npull-from-mirror = \"all\"\n",
            6,
            "leave one out",
        ),
        ("[registries.search]\nregistries = [\"r.example\"]\n", 1, "version 1"),
        (
            "[[registry]]\nlocation = \"r.example\"\n[[registry]]\nprefix = \"x.example\"\nlocation = \"r.example\"\nblocked = true\n",
            3,
            "another blocked",
        ),
    ] {
        let error = Files::new(text).error();
        assert!(error.contains(&format!("registries.conf:{line}: ")) && error.contains(part), "{text:?}: {error}");
    }
    let path = std::path::Path::new("/dev/null");
    assert!(Registries::default().find(path, &"app".parse().unwrap()).unwrap_err().to_string().contains("regular"));
}
