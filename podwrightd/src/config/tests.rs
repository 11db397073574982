//! The file, its defaults and its errors.

use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("config.toml"), text)
}

#[test]
fn the_printed_file_is_the_defaults_and_names_every_key() {
    assert_eq!(parse(DEFAULT_FILE).unwrap(), Config::default());
    assert_eq!(parse("").unwrap(), Config::default());
    let serialized = toml::to_string(&Config::default()).unwrap();
    for key in serialized.lines().filter(|line| line.contains('=') || line.starts_with('[')) {
        let name = key.split(" = ").next().unwrap();
        let written = DEFAULT_FILE.lines().any(|line| line == name || line.starts_with(&format!("{name} =")));
        assert!(written, "the printed file does not have {name}");
    }
    for optional in ["ipv4_pool", "ipv6_pool", "mtu"] {
        assert!(DEFAULT_FILE.contains(&format!("#{optional} = ")), "{optional}");
    }
}

#[test]
fn keys_in_comments_hold_valid_examples() {
    let text: String =
        DEFAULT_FILE.lines().map(|l| l.strip_prefix("#ip").map_or(l.to_owned(), |r| format!("ip{r}")) + "\n").collect();
    let config = parse(&text.replace("#mtu", "mtu")).unwrap();
    assert_eq!(config.network.embedded.mtu.unwrap().get(), 1500);
    assert!(config.network.embedded.ipv4_pool.is_some() && config.network.embedded.ipv6_pool.is_some());
}

#[test]
fn errors_point_at_key_and_line() {
    for (text, line, column, part) in [
        ("rooot = \"/x\"\n", 1, 1, "rooot"),
        ("\n[network]\nmode = \"embeded\"\n", 3, 8, "embeded"),
        ("[network.embedded]\nipv6 = 1\n", 2, 8, "boolean"),
        ("[images]\npinned = [\"a b\"]\n", 2, 10, "names no image"),
        ("[network.embedded]\nmtu = 12\n", 2, 7, "1280"),
        ("[network.embedded]\nipv4_pool = \"10.1\"\n", 2, 13, "10.1.0.0/16"),
        ("drain_seconds = 0\n", 1, 17, "out of range"),
        ("listen = \"tcp://1\"\n", 1, 10, "unix:///"),
        ("[streaming]\naddress = \"0.0.0.0:10010\"\n", 2, 11, "loopback"),
        ("[streaming]\naddress = \"127.0.0.1\"\n", 2, 11, "127.0.0.1:0"),
        ("root = \n", 1, 8, ""),
    ] {
        let error = parse(text).unwrap_err();
        let ConfigError::Invalid { line: l, column: c, .. } = &error else { panic!("{error}") };
        assert_eq!((*l, *c), (line, column), "{text:?}: {error}");
        assert!(error.to_string().contains(part), "{text:?}: {error}");
        assert!(error.to_string().starts_with(&format!("config.toml:{line}:{column}: ")), "{error}");
    }
}

#[test]
fn containers_from_archives_are_refused() {
    let config = parse("[checkpoint]\nrestore = true\n").unwrap();
    assert!(config.check().unwrap_err().to_string().contains("checkpoint.restore is true"));
    assert!(parse("[checkpoint]\nrestore = false\n").unwrap().check().is_ok());
}

#[test]
fn relative_paths_are_refused() {
    let config = parse("[network.cni]\nbin_dirs = [\"/ok\", \"bin\"]\n").unwrap();
    assert!(config.check().unwrap_err().to_string().contains("network.cni.bin_dirs"));
    assert!(Config::default().check().is_ok());
}
