//! `WWW-Authenticate`: how a server wants to be convinced.

/// A server's demand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Challenge {
    /// Name and password with each request.
    Basic,
    /// A token from `realm`.
    Bearer { realm: String, service: String, scope: String },
}

/// Parses the values of the header; Bearer is preferred where several are offered.
pub(crate) fn parse<'a>(values: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut found = None;
    for (scheme, parameters) in values.flat_map(split) {
        if scheme.eq_ignore_ascii_case("bearer") {
            let get = |name: &str| {
                parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
            };
            if let Some(realm) = get("realm") {
                return Some(Challenge::Bearer {
                    realm,
                    service: get("service").unwrap_or_default(),
                    scope: get("scope").unwrap_or_default(),
                });
            }
        } else if scheme.eq_ignore_ascii_case("basic") {
            found = Some(Challenge::Basic);
        }
    }
    found
}

type Parameters = Vec<(String, String)>;

/// Splits `Scheme key=value, key="value", Scheme ...`.
fn split(header: &str) -> Vec<(String, Parameters)> {
    let mut challenges: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header.trim_start();
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || c == ',' || c.is_whitespace()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        match after.trim_start().strip_prefix('=') {
            Some(after) if !word.is_empty() => {
                let (value, after) = value(after.trim_start());
                if let Some((_, parameters)) = challenges.last_mut() {
                    parameters.push((word.to_owned(), value));
                }
                rest = after;
            }
            Some(after) => rest = after,
            None => {
                if !word.is_empty() {
                    challenges.push((word.to_owned(), Vec::new()));
                }
                rest = after;
            }
        }
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
    }
    challenges
}

/// A token or a quoted string, and what follows.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Option<Challenge> {
        parse(std::iter::once(text))
    }

    #[test]
    fn usual_forms_are_read() {
        let bearer = |realm: &str, service: &str, scope: &str| {
            Some(Challenge::Bearer { realm: realm.into(), service: service.into(), scope: scope.into() })
        };
        assert_eq!(
            one(
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#
            ),
            bearer("https://auth.docker.io/token", "registry.docker.io", "repository:a/b:pull,push")
        );
        assert_eq!(one(r#"bearer realm = "https://a\"b" , error="x""#), bearer("https://a\"b", "", ""));
        assert_eq!(one(r#"Basic realm="r", Bearer realm=https://t"#), bearer("https://t", "", ""));
        assert_eq!(one("Basic"), Some(Challenge::Basic));
        assert_eq!(parse(["Negotiate", "Basic realm=\"x\""].into_iter()), Some(Challenge::Basic));
        for none in ["", "Bearer", "Digest realm=\"x\"", "=", ",,,", "\"", "Bearer service=\"s\""] {
            assert_eq!(one(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn any_text_ends(text in "\\PC*") {
            let _ = one(&text);
        }
    }
}
