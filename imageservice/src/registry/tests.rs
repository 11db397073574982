use super::*;

const HOSTS: &str = r#"
server = "https://r.example"
[host."https://safe.example:5000"]
[host."http://open.example"]
[host."http://127.0.0.1:30020"]
"#;

/// Which servers get credentials.
fn trusted(auth: Option<Auth>, docker_config: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("r.example")).unwrap();
    std::fs::write(dir.path().join("r.example/hosts.toml"), HOSTS).unwrap();
    let file = dir.path().join("config.json");
    std::fs::write(&file, docker_config).unwrap();
    let config = ImageConfig { docker_config: Some(file), ..ImageConfig::default() };
    let hosts = hosts::hosts_for(Some(dir.path()), "r.example").unwrap();
    let reference: ImageReference = "r.example/app".parse().unwrap();
    let gets = |host: &Host| credentials(host, &reference, auth.as_ref(), &config).unwrap() != Credentials::Anonymous;
    hosts.iter().filter(|host| gets(host)).map(Host::name).collect()
}

fn auth(server_address: &str) -> Option<Auth> {
    Some(Auth { username: "u".into(), server_address: server_address.into(), ..Auth::default() })
}

#[test]
fn credentials_for_any_server_are_not_shown_to_open_mirrors() {
    assert_eq!(trusted(auth(""), "{}"), ["safe.example:5000", "127.0.0.1:30020", "r.example"]);
}

#[test]
fn credentials_that_name_a_server_are_for_it_alone() {
    assert_eq!(trusted(auth("https://r.example/v2/"), "{}"), ["r.example"]);
    assert_eq!(trusted(auth("safe.example:5000"), "{}"), ["safe.example:5000"]);
    assert_eq!(trusted(auth("http://open.example"), "{}"), ["open.example"]);
    assert!(trusted(auth("other.example"), "{}").is_empty());
}

#[test]
fn entries_of_a_file_are_for_the_servers_that_they_name() {
    let file = r#"{"auths":{"r.example":{"username":"u"},"open.example":{"username":"u"}}}"#;
    assert_eq!(trusted(None, file), ["open.example", "r.example"]);
    assert_eq!(trusted(auth("safe.example:5000"), file), ["safe.example:5000", "open.example", "r.example"]);
}
