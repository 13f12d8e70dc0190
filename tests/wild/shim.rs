//! File systems and kernels that answer otherwise than this machine's: a library that stands before the C library's calls.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use crate::support::adapter::Plan;

pub const EPERM: i32 = 1;
pub const EIO: i32 = 5;
pub const EBADF: i32 = 9;
pub const EACCES: i32 = 13;
pub const EISDIR: i32 = 21;
pub const EINVAL: i32 = 22;
pub const ENOSPC: i32 = 28;
pub const ENOLCK: i32 = 37;
pub const ENOSYS: i32 = 38;
pub const EOPNOTSUPP: i32 = 95;
pub const EAFNOSUPPORT: i32 = 97;
pub const EADDRNOTAVAIL: i32 = 99;

/// The library, built once a process: two may build it at a time, and neither may see half of it.
static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (half, library) = (folder.join(format!("shim.{}", std::process::id())), folder.join("shim.so"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wild/shim.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&half).args([source, "-ldl"]).status();
    assert!(built.unwrap().success(), "the C compiler that builds the dependencies builds this too");
    std::fs::rename(&half, &library).unwrap();
    library
});

/// The same on a kernel that answers these calls so.
pub fn on_a_kernel_with(plan: Plan, answers: &[(&str, i32)]) -> Plan {
    on_a_file_system_with(plan, answers)
}

/// The same on a file system on which these calls are answered so; `shim.c` has their names.
pub fn on_a_file_system_with(plan: Plan, answers: &[(&str, i32)]) -> Plan {
    let plan = plan.env("LD_PRELOAD", LIBRARY.to_str().unwrap());
    answers.iter().fold(plan, |plan, (call, error)| plan.env(&format!("SHIM_{call}"), error.to_string()))
}

/// The same where the host `sink.example` has these addresses, separated by commas.
pub fn with_addresses(plan: Plan, addresses: &str) -> Plan {
    plan.env("LD_PRELOAD", LIBRARY.to_str().unwrap()).env("SHIM_ADDRESSES", addresses)
}
