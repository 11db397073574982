//! Debian's docker-registry, started for a test.
//!
//! Images are put into its storage directly: that is quicker than HTTP, and takes what a registry would refuse (wrong digests,
//! broken manifests), which it then serves all the same.

mod server;
mod storage;
mod tls;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::host::TestHost;
use crate::image::{Blob, Format, Image, index};
use server::Server;
pub use storage::Storage as RegistryStorage;

/// How a registry is to be.
#[derive(Debug, Clone, Default)]
pub struct RegistryBuilder {
    tls: bool,
    account: Option<(String, String)>,
}

impl RegistryBuilder {
    /// Serves HTTPS with a certificate of a CA of its own; see [`Registry::ca`].
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Asks for a user name and a password.
    #[must_use]
    pub fn account(mut self, user: &str, password: &str) -> Self {
        self.account = Some((user.into(), password.into()));
        self
    }

    /// Starts it on a free port of this machine's 127.0.0.1.
    ///
    /// # Errors
    /// docker-registry (or openssl, htpasswd) is missing or fails.
    pub fn start(self) -> Result<Registry> {
        self.launch(None)
    }

    /// Starts it on a free port of the test host's 127.0.0.1.
    ///
    /// # Errors
    /// docker-registry (or openssl, htpasswd) is missing or fails.
    pub fn start_in(self, host: &TestHost) -> Result<Registry> {
        self.launch(Some(host))
    }

    fn launch(self, host: Option<&TestHost>) -> Result<Registry> {
        // In a host's directory, so that its janitor removes it when the test is killed.
        let parent = host.map_or_else(std::env::temp_dir, |host| host.dir().to_owned());
        let dir = tempfile::Builder::new().prefix("pwt-registry-").tempdir_in(parent);
        let dir = dir.context("making a registry's directory")?;
        let files = if self.tls { Some(tls::make(dir.path())?) } else { None };
        let htpasswd = match &self.account {
            Some((user, password)) => Some(tls::htpasswd(dir.path(), user, password)?),
            None => None,
        };
        let storage = RegistryStorage::new(&dir.path().join("storage"));
        let config = server::config(storage.root(), files.as_ref(), htpasswd.as_deref());
        let server = Server::start(dir.path(), &config, host)?;
        Ok(Registry { server, storage, ca: files.map(|files| files.ca), _dir: dir })
    }
}

/// A running registry. It ends with this value.
pub struct Registry {
    server: Server,
    storage: RegistryStorage,
    ca: Option<PathBuf>,
    // Last, so that the directory is removed when the server has ended.
    _dir: TempDir,
}

impl Registry {
    /// Describes one.
    #[must_use]
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder::default()
    }

    /// A plain one in a test host.
    ///
    /// # Errors
    /// docker-registry is missing or fails.
    pub fn start_in(host: &TestHost) -> Result<Self> {
        RegistryBuilder::default().start_in(host)
    }

    /// Kills its process (signal 9), in the middle of whatever it sends.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.server.kill()
    }

    /// Starts it again after [`Self::kill`], in the same place and with the same content.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_again(&mut self, host: &TestHost) -> Result<()> {
        self.server.start_again(host)
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        self.server.address()
    }

    /// `http` or `https`, with the address.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    /// The certificate of the CA, where it serves HTTPS.
    #[must_use]
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// Its storage, for content that a registry would not take.
    #[must_use]
    pub fn storage(&self) -> &RegistryStorage {
        &self.storage
    }

    /// Puts an image under `name` and `tag`; returns the reference to pull.
    ///
    /// # Errors
    /// The storage can not be written.
    pub fn push(&self, image: &Image, name: &str, tag: &str) -> Result<String> {
        self.put_image(image, name)?;
        self.storage.put_manifest(name, Some(tag), &image.manifest)?;
        Ok(self.reference(name, tag))
    }

    /// Puts images for several platforms under one tag; returns the reference to pull.
    ///
    /// # Errors
    /// The storage can not be written.
    pub fn push_index(&self, format: Format, images: &[&Image], name: &str, tag: &str) -> Result<String> {
        for image in images {
            self.put_image(image, name)?;
            self.storage.put_manifest(name, None, &image.manifest)?;
        }
        let (_, manifest): (_, Blob) = index(format, images);
        self.storage.put_manifest(name, Some(tag), &manifest)?;
        Ok(self.reference(name, tag))
    }

    /// `address/name:tag`.
    #[must_use]
    pub fn reference(&self, name: &str, tag: &str) -> String {
        format!("{}/{name}:{tag}", self.address())
    }

    fn put_image(&self, image: &Image, name: &str) -> Result<()> {
        image.blobs().try_for_each(|blob| self.storage.put_blob(name, &blob.digest, &blob.bytes))
    }
}

#[cfg(test)]
mod tests;
