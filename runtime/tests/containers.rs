//! Containers from the inside: each test runs in a process of its own, with one thread, as the shim has.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "containers/basics.rs"]
mod basics;
#[path = "containers/bench.rs"]
mod bench;
#[path = "containers/fixture.rs"]
mod fixture;
#[path = "containers/harness.rs"]
mod harness;
#[path = "containers/hooks.rs"]
mod hooks;
#[path = "containers/hostile.rs"]
mod hostile;
#[path = "containers/mounts.rs"]
mod mounts;
#[path = "containers/pods.rs"]
mod pods;
#[path = "containers/security.rs"]
mod security;
#[path = "containers/users.rs"]
mod users;

fn main() -> std::process::ExitCode {
    let groups =
        [basics::TESTS, mounts::TESTS, security::TESTS, pods::TESTS, hostile::TESTS, users::TESTS, hooks::TESTS];
    harness::main(&groups.concat(), bench::TESTS)
}
