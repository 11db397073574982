//! `cargo xtask demo`: a pod with two containers, shown step by step. Started by xtask, which builds the parts.
//!
//! Everything runs in a network and a mount namespace and a directory of its own, which end with this program.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)] // It is a program for a terminal.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use podwright_critest::{Cri, Pod, container, read_log, shell};
use podwright_testutil::{Daemon, Registry, TestHost, base};

const SERVER: &str = "mkdir -p /www; echo 'Hello from the server container.' > /www/index.html
echo 'the server listens on port 8080'; exec httpd -f -vv -p 8080 -h /www";
const CLIENT: &str = "until wget -q -O /tmp/page http://127.0.0.1:8080/; do sleep 0.1; done
echo \"the client got over localhost: $(cat /tmp/page)\"; exec sleep 3600";
const LIMIT: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = tokio::select! {
        outcome = demo() => outcome,
        // The demo's future is dropped, and with it all that it started.
        _ = tokio::signal::ctrl_c() => {
            println!("\nInterrupted; everything that was started is removed.");
            return ExitCode::from(130);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("The demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<()> {
    say(
        "Making a place for the demo: a network of its own, a directory of its own. Your host's network is not touched.",
    );
    let host = TestHost::new()?;
    say("Making an image from this machine's busybox, and putting it into a registry that serves on 127.0.0.1 there.");
    let registry = Registry::start_in(&host)?;
    let image = registry.push(&base::busybox()?, "busybox", "demo")?;
    say("Starting podwrightd. It serves the CRI on a unix socket; the embedded network needs no configuration.");
    let daemon = Daemon::builder().log_level("info").start_in(host)?;
    daemon.trust(&registry)?;
    let outcome = show(&daemon, &image).await;
    if outcome.is_err() {
        eprintln!("The daemon's log:\n{}", daemon.log());
    }
    outcome?;
    say("Done. Daemon, registry, namespaces and files are removed.");
    Ok(())
}

async fn show(daemon: &Daemon, image: &str) -> Result<()> {
    let mut cri = Cri::connect(daemon).await?;
    say(&format!("Pulling {image}."));
    cri.pull(image).await?;
    say("Making a pod, and in it two containers: a web server, and a client that asks it over localhost.");
    let pod = cri.run_pod_named("demo").await?;
    cri.run(&pod, &shell("server", image, SERVER)).await?;
    let client = cri.run(&pod, &container("client", image, &["sh", "-c", CLIENT])).await?;
    cri.wait_for_log(&pod, "client", "over localhost").await?;

    say("The containers' logs, as kubelet finds them in the pod's log directory:");
    print_logs(&cri, &pod)?;
    say("A command in the client container (crictl exec, kubectl exec): ps");
    indent(&cri.sh(&client, "ps").await?);
    let address = cri.pod_ip(&pod.id).await?;
    say(&format!("The pod's address is {address}. The host asks it for its page:"));
    let page = daemon.host().in_network(|| get(&address))?;
    indent(page.lines().last().unwrap_or_default());
    say("Stopping and removing the pod.");
    cri.remove_pod(&pod.id).await
}

fn print_logs(cri: &Cri, pod: &Pod) -> Result<()> {
    for name in ["server", "client"] {
        for line in read_log(&cri.log_path(pod, name))? {
            indent(&format!("{name} {} {}", line.stream, String::from_utf8_lossy(&line.text)));
        }
    }
    Ok(())
}

fn get(address: &str) -> Result<String> {
    let target = format!("{address}:8080").parse().context("the pod's address")?;
    let mut stream = TcpStream::connect_timeout(&target, LIMIT).with_context(|| format!("connecting to {target}"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).context("reading the page")?;
    Ok(reply)
}

fn say(text: &str) {
    println!("\n==> {text}");
}

fn indent(text: &str) {
    for line in text.lines() {
        println!("    {line}");
    }
}
