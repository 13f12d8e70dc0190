//! Prints the Rust code of the service that KEDA calls: `src/scaler/externalscaler.rs`, below its first lines.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env!("CARGO_MANIFEST_DIR");
    let out = tempfile::tempdir()?;
    let proto = protox::compile(["externalscaler.proto"], [folder])?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .btree_map(".")
        .out_dir(out.path())
        .compile_fds(proto)?;
    print!("{}", std::fs::read_to_string(out.path().join("externalscaler.rs"))?);
    Ok(())
}
