//! How messages with secrets are printed: without them, so that no log line can hold one.

use std::fmt;

use crate::v1::{AuthConfig, KeyValue};

/// What is printed in place of a secret.
const HIDDEN: &str = "<hidden>";

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("server_address", &self.server_address)
            .field("credentials", &HIDDEN)
            .finish()
    }
}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyValue").field("key", &self.key).field("value", &HIDDEN).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{ContainerConfig, PullImageRequest};

    #[test]
    fn secrets_are_not_printed() {
        let auth = AuthConfig {
            username: "s3cret-u".into(),
            password: "s3cret-p".into(),
            auth: "s3cret-a".into(),
            server_address: "registry.example".into(),
            identity_token: "s3cret-i".into(),
            registry_token: "s3cret-r".into(),
        };
        let printed = format!("{:?}", PullImageRequest { auth: Some(auth), ..Default::default() });
        assert!(!printed.contains("s3cret"), "{printed}");
        assert!(printed.contains("registry.example"), "{printed}");
    }

    #[test]
    fn values_of_the_environment_are_not_printed() {
        let env = KeyValue { key: "TOKEN".into(), value: b"abc".to_vec() };
        let printed = format!("{:?}", ContainerConfig { envs: vec![env], ..Default::default() });
        assert!(printed.contains("TOKEN") && !printed.contains("97"), "{printed}");
    }
}
