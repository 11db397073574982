//! A neighbour of a test host: another network, one cable away.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{TestHost, in_network_of};

/// The world outside a [`TestHost`]: 192.0.2.2, linked to the host's 192.0.2.1, which routes to it by default.
pub struct Outside {
    holder: Child,
}

impl Outside {
    /// Address of the host as seen from outside.
    pub const HOST: &'static str = "192.0.2.1";
    /// Address of the outside.
    pub const ADDRESS: &'static str = "192.0.2.2";

    /// Links a new outside to `host`.
    ///
    /// # Errors
    /// A namespace or a link can not be made.
    pub fn of(host: &TestHost) -> Result<Self> {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("making a network namespace with unshare")?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take().context("the holder has no output")?).read_line(&mut line)?;
        let outside = Self { holder };
        ensure!(line.trim() == "ready", "the outside namespace did not come up");
        let pid = outside.holder.id().to_string();
        host.run(&["ip", "link", "add", "up0", "type", "veth", "peer", "name", "out0", "netns", &pid])?;
        host.run(&["ip", "address", "add", "192.0.2.1/24", "dev", "up0"])?;
        host.run(&["ip", "link", "set", "up0", "up"])?;
        outside.run(&["ip", "address", "add", "192.0.2.2/24", "dev", "out0"])?;
        outside.run(&["ip", "link", "set", "out0", "up"])?;
        host.run(&["ip", "route", "add", "default", "via", Self::ADDRESS])?;
        Ok(outside)
    }

    /// Runs `work` on a thread in the outside's network.
    ///
    /// # Errors
    /// The namespace can not be entered, or `work` failed.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        in_network_of(self.holder.id(), work)
    }

    fn run(&self, words: &[&str]) -> Result<()> {
        let status = Command::new("nsenter")
            .arg(format!("--net=/proc/{}/ns/net", self.holder.id()))
            .arg("--")
            .args(words)
            .status()
            .context("starting nsenter")?;
        ensure!(status.success(), "{} failed in the outside namespace with {status}", words.join(" "));
        Ok(())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
