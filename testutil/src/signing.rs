//! Signatures of images as others make them: gpg for simple signing, openssl keys for cosign's format.
//!
//! What is signed is written here, so that a test can sign what no tool would.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::image::Blob;

/// The media type of a payload in cosign's manifests.
const COSIGN_PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation with its signature.
const COSIGN_SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// A home of gpg with keys without passphrases. Its agent ends with this value.
pub struct Gpg {
    home: TempDir,
}

impl Gpg {
    /// An empty one.
    ///
    /// # Errors
    /// A directory can not be made.
    pub fn new() -> Result<Self> {
        // Sockets of the agent lie in it, and their paths must be short.
        Ok(Self { home: tempfile::Builder::new().prefix("pwt-gpg-").tempdir_in("/tmp")? })
    }

    /// `GNUPGHOME`.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Makes a primary key that signs: `ed25519`, `rsa2048`, …; `expires` is `never`, or a time as gpg reads it.
    ///
    /// # Errors
    /// gpg is missing or fails.
    pub fn generate(&self, user: &str, algorithm: &str, expires: &str) -> Result<()> {
        self.run(&["--quick-generate-key", user, algorithm, "sign", expires], b"").map(drop)
    }

    /// The public key in armour.
    ///
    /// # Errors
    /// gpg fails.
    pub fn public_key(&self, user: &str) -> Result<Vec<u8>> {
        self.run(&["--armor", "--export", user], b"")
    }

    /// A signed message around these bytes.
    ///
    /// # Errors
    /// gpg fails.
    pub fn sign(&self, user: &str, content: &[u8]) -> Result<Vec<u8>> {
        self.run(&["--local-user", user, "--sign"], content)
    }

    /// Runs gpg on some input.
    ///
    /// # Errors
    /// It is missing or fails.
    pub fn run(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>> {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--quiet", "--yes", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""]);
        command.args(arguments).env("GNUPGHOME", self.home());
        piped(command, input).context("gpg; is gnupg installed?")
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").args(["--kill", "all"]).env("GNUPGHOME", self.home()).output();
    }
}

/// A key pair of openssl.
pub struct KeyPair {
    directory: TempDir,
    is_raw: bool,
}

impl KeyPair {
    /// Makes one: `ec:P-256`, `ec:P-384`, `ec:P-521`, `ed25519`, `rsa:2048`, …
    ///
    /// # Errors
    /// openssl is missing or fails.
    pub fn generate(kind: &str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("pwt-key-").tempdir()?;
        let (algorithm, option) = match kind.split_once(':') {
            Some(("ec", curve)) => ("EC", Some(format!("ec_paramgen_curve:{curve}"))),
            Some((_, bits)) => ("RSA", Some(format!("rsa_keygen_bits:{bits}"))),
            None => (kind, None),
        };
        let mut command = Command::new("openssl");
        command.current_dir(directory.path()).args(["genpkey", "-algorithm", algorithm, "-out", "key.pem"]);
        if let Some(option) = option {
            command.args(["-pkeyopt", &option]);
        }
        piped(command, b"")?;
        let mut command = Command::new("openssl");
        command.current_dir(directory.path()).args(["pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"]);
        piped(command, b"")?;
        Ok(Self { directory, is_raw: algorithm == "ed25519" })
    }

    /// The file of the public key.
    #[must_use]
    pub fn public_key(&self) -> PathBuf {
        self.directory.path().join("public.pem")
    }

    /// The signature over these bytes (over SHA-256 but for Ed25519), in base64.
    ///
    /// # Errors
    /// openssl fails.
    pub fn sign(&self, content: &[u8]) -> Result<String> {
        let directory = self.directory.path();
        fs::write(directory.join("content"), content)?;
        let mut command = Command::new("openssl");
        command.current_dir(directory);
        if self.is_raw {
            command.args(["pkeyutl", "-sign", "-inkey", "key.pem", "-rawin", "-in", "content"]);
        } else {
            command.args(["dgst", "-sha256", "-sign", "key.pem", "content"]);
        }
        let signature = piped(command, b"")?;
        let mut command = Command::new("openssl");
        command.args(["base64", "-A"]);
        Ok(String::from_utf8(piped(command, &signature)?)?)
    }
}

/// What simple signing signs.
#[must_use]
pub fn simple_payload(reference: &str, digest: &str) -> Vec<u8> {
    payload("atomic container signature", reference, digest, json!({"creator": "podwright-testutil", "timestamp": 1}))
}

/// What cosign signs.
#[must_use]
pub fn cosign_payload(reference: &str, digest: &str) -> Vec<u8> {
    payload("cosign container image signature", reference, digest, Value::Null)
}

fn payload(kind: &str, reference: &str, digest: &str, optional: Value) -> Vec<u8> {
    let critical = json!({
        "type": kind,
        "image": {"docker-manifest-digest": digest},
        "identity": {"docker-reference": reference},
    });
    json!({"critical": critical, "optional": optional}).to_string().into_bytes()
}

/// A manifest as cosign keeps signatures in a registry, and the blobs that it names. Each signature is a payload, its signature, and
/// further annotations.
#[must_use]
pub fn cosign_manifest(signatures: &[(Vec<u8>, String, Value)]) -> (Blob, Vec<Blob>) {
    let config =
        Blob::new(br#"{"architecture":"","os":"","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec());
    let mut blobs = vec![config.clone()];
    let mut layers = Vec::new();
    for (payload, signature, more) in signatures {
        let blob = Blob::new(payload.clone());
        let mut annotations = json!({COSIGN_SIGNATURE: signature});
        if let (Some(all), Some(more)) = (annotations.as_object_mut(), more.as_object()) {
            all.extend(more.clone());
        }
        layers.push(json!({
            "mediaType": COSIGN_PAYLOAD, "digest": blob.digest, "size": blob.bytes.len(), "annotations": annotations,
        }));
        blobs.push(blob);
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.digest, "size": config.bytes.len()},
        "layers": layers,
    });
    (Blob::new(manifest.to_string().into_bytes()), blobs)
}

fn piped(mut command: Command, input: &[u8]) -> Result<Vec<u8>> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
    child.stdin.take().context("no pipe")?.write_all(input)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}
