//! Feeds one of the library's targets, which the variable `FUZZ_TARGET` names, with what libFuzzer makes up.
#![no_main]

use std::sync::LazyLock;

use dynamodb_streams_adapter::fuzzing::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let target = TARGETS.iter().find(|target| target.name == name);
    let names = || TARGETS.map(|target| target.name).join(", ");
    *target.unwrap_or_else(|| panic!("FUZZ_TARGET is {name:?} and none of these: {}", names()))
});

fuzz_target!(|input: &[u8]| (TARGET.feed)(input));
