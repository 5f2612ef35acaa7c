//! Compiles the protocol without `protoc`.

use std::{error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("proto");
    let file = root.join("collm/v1/collm.proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let descriptors = protox::compile([file], [root])?;
    // States are megabytes: `Bytes` shares them with the receive buffer instead of copying.
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
