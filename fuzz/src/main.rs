//! All targets in one program, so that there is one build and one link. `PODWRIGHT_FUZZ_TARGET` names the one to run; the arguments are
//! libFuzzer's.

#![forbid(unsafe_code)]
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use podwright_fuzz::{Target, find};

static CHOSEN: OnceLock<Option<Target>> = OnceLock::new();

fn chosen() -> Option<Target> {
    find(&std::env::var("PODWRIGHT_FUZZ_TARGET").unwrap_or_default())
}

fuzz_target!(|bytes: &[u8]| {
    let target = CHOSEN.get_or_init(chosen);
    assert!(target.is_some(), "PODWRIGHT_FUZZ_TARGET names no target");
    if let Some(target) = target {
        (target.run)(bytes);
    }
});
