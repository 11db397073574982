//! Compiles the protos of the CRI, without a system protoc.

use std::error::Error;

/// Files that pull in all others by import.
const ROOT: &str = "proto/service.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile([ROOT], ["proto"])?;
    tonic_prost_build::configure()
        .btree_map(".")
        // Hold secrets; `secret.rs` prints them without.
        .skip_debug(["AuthConfig", "KeyValue"])
        .build_transport(true)
        .compile_fds(descriptors)?;
    Ok(())
}
