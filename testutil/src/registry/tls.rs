//! Certificates and accounts of a test registry, made by openssl and htpasswd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Files of a certificate for 127.0.0.1 and localhost.
pub(super) struct Files {
    pub(super) ca: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// Makes a CA and a certificate in `dir`.
pub(super) fn make(dir: &Path) -> Result<Files> {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    fs::write(dir.join("san"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n")?;
    let mut ca = openssl(dir, &["req", "-x509", "-days", "2", "-subj", "/CN=Test CA"]);
    run(ca.args(key).args(["-keyout", "ca.key", "-out", "ca.pem"]))?;
    let mut request = openssl(dir, &["req", "-new", "-subj", "/CN=127.0.0.1"]);
    run(request.args(key).args(["-keyout", "tls.key", "-out", "tls.csr"]))?;
    let mut sign = openssl(dir, &["x509", "-req", "-days", "2", "-in", "tls.csr", "-CA", "ca.pem", "-CAkey", "ca.key"]);
    run(sign.args(["-CAcreateserial", "-extfile", "san", "-out", "tls.pem"]))?;
    Ok(Files { ca: dir.join("ca.pem"), certificate: dir.join("tls.pem"), key: dir.join("tls.key") })
}

/// Makes a password file with one account in `dir`.
pub(super) fn htpasswd(dir: &Path, user: &str, password: &str) -> Result<PathBuf> {
    // The registry takes bcrypt only; four rounds, because nothing is protected.
    let made = Command::new("htpasswd").args(["-B", "-C", "4", "-n", "-b", user, password]).output();
    let made = made.context("starting htpasswd; install apache2-utils")?;
    ensure!(made.status.success(), "htpasswd failed: {}", String::from_utf8_lossy(&made.stderr));
    let path = dir.join("htpasswd");
    fs::write(&path, made.stdout).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

fn openssl(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.current_dir(dir).args(words).stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().context("starting openssl; is it installed?")?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
