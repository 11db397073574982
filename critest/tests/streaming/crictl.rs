//! What crictl's users see: output, input, exit codes, terminals, ports; over SPDY and over WebSocket.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use podwright_critest::{World, shell, with_world};
use podwright_testutil::Daemon;

use podwright_critest::streaming::echo_in_pod_of;

/// crictl's names of the transports.
const TRANSPORTS: [&str; 2] = ["spdy", "websocket"];
/// Time for what is about to happen.
const SOON: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(50);

fn crictl(daemon: &Daemon, words: &[&str]) -> Result<Command> {
    let mut command = daemon.crictl_command()?;
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// Runs crictl with an input, to its end.
fn fed(daemon: &Daemon, words: &[&str], input: &[u8]) -> Result<Output> {
    let mut child = crictl(daemon, words)?.spawn().context("starting crictl")?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    let input = input.to_vec();
    let feeding = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output()?;
    // It may end before it has read everything.
    drop(feeding.join());
    Ok(output)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn root_crictl_executes_with_output_input_and_exit_codes() {
    with_world(async |world| {
        let pod = world.run_pod_named("exec").await?;
        let id = world.run_shell(&pod, "main", "sleep 1000").await?;
        for transport in TRANSPORTS {
            let exec = |words: &[&str], input: &[u8]| {
                let mut all = vec!["exec", "--transport", transport];
                all.extend_from_slice(words);
                fed(&world.daemon, &all, input).context(transport)
            };
            let both = exec(&[&id, "sh", "-c", "echo out; echo err >&2; exit 0"], b"")?;
            ensure!(both.status.success() && text(&both.stdout) == "out\n", "{transport}: {both:?}");
            ensure!(text(&both.stderr) == "err\n", "{transport}: {both:?}");

            let failed = exec(&[&id, "sh", "-c", "exit 7"], b"")?;
            ensure!(!failed.status.success(), "{transport}: {failed:?}");
            ensure!(text(&failed.stderr).contains("command terminated with exit code 7"), "{transport}: {failed:?}");

            let missing = exec(&[&id, "no-such-program"], b"")?;
            ensure!(!missing.status.success() && text(&missing.stderr).contains("no-such-program"), "{missing:?}");

            // Its end reaches the command; more bytes than any window or buffer has.
            let input = vec![b'x'; 3_000_000];
            let counted = exec(&["-i", &id, "wc", "-c"], &input)?;
            ensure!(text(&counted.stdout).trim() == "3000000", "{transport}: {counted:?}");
            let echoed = exec(&["-i", &id, "cat"], &input)?;
            ensure!(echoed.stdout == input, "{transport}: {} bytes came back", echoed.stdout.len());
        }
        Ok(())
    });
}

/// Runs crictl on a terminal of 100 columns and 40 rows.
fn on_a_terminal(daemon: &Daemon, words: &[&str], input: &[u8]) -> Result<String> {
    let command = crictl(daemon, words)?;
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"));
    let line: Vec<String> = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted).collect();
    let script = format!("stty cols 100 rows 40; {}", line.join(" "));
    let mut child = Command::new("script")
        .args(["-qec", &script, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting script")?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    stdin.write_all(input)?;
    let output = child.wait_with_output()?;
    drop(stdin);
    Ok(text(&output.stdout))
}

#[test]
fn root_crictl_executes_on_a_terminal_of_its_size() {
    with_world(async |world| {
        let pod = world.run_pod_named("tty").await?;
        let id = world.run_shell(&pod, "main", "sleep 1000").await?;
        for transport in TRANSPORTS {
            // The size arrives on its own stream, perhaps a moment later.
            let script = "tty; until stty size | grep -q '40 100'; do sleep 0.1; done; stty size; echo err >&2";
            let words = ["exec", "--transport", transport, "-it", &id, "timeout", "60", "sh", "-c", script];
            let said = on_a_terminal(&world.daemon, &words, b"")?;
            ensure!(said.contains("/dev/pts/"), "{transport}: {said:?}");
            ensure!(said.contains("40 100\r\n") && said.contains("err\r\n"), "{transport}: {said:?}");
        }
        Ok(())
    });
}

/// A container that reads lines and says them.
async fn parrot(world: &mut World, name: &str, once: bool) -> Result<String> {
    let pod = world.run_pod_named(name).await?;
    let script = "echo hello; while read line; do echo \"said $line\"; done; echo end of input; exec sleep 1000";
    let mut config = shell("main", &world.image, script);
    config.stdin = true;
    config.stdin_once = once;
    world.run(&pod, &config).await
}

fn read_until(child: &mut Child, expected: &str) -> Result<String> {
    let stdout = child.stdout.as_mut().context("no stdout")?;
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    while !text(&all).contains(expected) {
        let read = stdout.read(&mut buffer)?;
        ensure!(read > 0, "crictl ended and had said {:?}", text(&all));
        all.extend_from_slice(buffer.get(..read).unwrap_or_default());
    }
    Ok(text(&all))
}

#[test]
fn root_a_client_that_leaves_an_attach_leaves_the_container_running() {
    with_world(async |world| {
        let id = parrot(world, "attach", false).await?;
        for transport in TRANSPORTS {
            for word in ["one", "two"] {
                let mut child = crictl(&world.daemon, &["attach", "--transport", transport, "-i", &id])?.spawn()?;
                let stdin = child.stdin.as_mut().context("no stdin")?;
                stdin.write_all(format!("{transport}-{word}\n").as_bytes())?;
                read_until(&mut child, &format!("said {transport}-{word}\n"))?;
                child.kill()?;
                child.wait()?;
            }
        }
        ensure!(world.status(&id).await?.state() == podwright_cri_api::v1::ContainerState::ContainerRunning, "it runs");
        Ok(())
    });
}

#[test]
fn root_input_once_ends_with_the_first_client() {
    with_world(async |world| {
        for transport in TRANSPORTS {
            let id = parrot(world, &format!("once-{transport}"), true).await?;
            let mut child = crictl(&world.daemon, &["attach", "--transport", transport, "-i", &id])?.spawn()?;
            child.stdin.take().context("no stdin")?.write_all(b"word\n")?;
            let said = read_until(&mut child, "end of input\n")?;
            ensure!(said.contains("said word\n"), "{transport}: {said:?}");
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    });
}

#[test]
fn root_an_attach_ends_with_its_container() {
    with_world(async |world| {
        for transport in TRANSPORTS {
            let pod = world.run_pod_named(&format!("end-{transport}")).await?;
            let mut config = shell("main", &world.image, "read line; echo \"got $line\"; exit 3");
            config.stdin = true;
            let id = world.run(&pod, &config).await?;
            let output = fed(&world.daemon, &["attach", "--transport", transport, "-i", &id], b"it\n")?;
            ensure!(output.status.success() && text(&output.stdout) == "got it\n", "{transport}: {output:?}");
            let gone = fed(&world.daemon, &["attach", "--transport", transport, &id], b"")?;
            ensure!(text(&gone.stderr).contains("has ended"), "{transport}: {gone:?}");
        }
        Ok(())
    });
}

#[test]
fn root_a_client_that_leaves_an_exec_takes_its_command_along() {
    with_world(async |world| {
        let pod = world.run_pod_named("leave").await?;
        let id = world.run_shell(&pod, "main", "sleep 1000").await?;
        for transport in TRANSPORTS {
            let script = "echo here; exec sleep 4321";
            let mut child =
                crictl(&world.daemon, &["exec", "--transport", transport, &id, "sh", "-c", script])?.spawn()?;
            read_until(&mut child, "here\n")?;
            child.kill()?;
            child.wait()?;
            let end = Instant::now() + SOON;
            while world.sh(&id, "ps | grep -c '[s]leep 4321' || true").await? != "0" {
                ensure!(Instant::now() < end, "{transport}: the command runs on without its client");
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    });
}

#[test]
fn root_ports_are_forwarded_to_what_listens_on_the_pods_loopback() {
    with_world(async |world| {
        let pod = world.run_pod_named("ports").await?;
        let id = world.run_shell(&pod, "main", "sleep 1000").await?;
        let remote = echo_in_pod_of(world.pid(&id).await?)?;
        for transport in TRANSPORTS {
            let words = ["port-forward", "--transport", transport, &pod.id, &format!("0:{remote}")];
            let mut child = crictl(&world.daemon, &words)?.spawn()?;
            let said = read_until(&mut child, "127.0.0.1:")?;
            let said = if said.contains(" -> ") { said } else { said + &read_until(&mut child, " -> ")? };
            let port = said.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()).context("no port")?;
            let port: u16 = port.parse().with_context(|| format!("a port in {said:?}"))?;
            for word in ["one", "two", "three"] {
                let answer = world.daemon.host().in_network(|| {
                    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connecting")?;
                    stream.set_read_timeout(Some(SOON))?;
                    stream.write_all(word.as_bytes())?;
                    stream.shutdown(Shutdown::Write)?;
                    let mut answer = String::new();
                    stream.read_to_string(&mut answer).context("reading")?;
                    Ok(answer)
                })?;
                ensure!(answer == word, "{transport}: {answer:?}");
            }
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    });
}
