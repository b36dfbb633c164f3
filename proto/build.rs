//! Compiles the `.proto` files without protoc: protox is a compiler in Rust, so a bare toolchain builds this.
use std::error::Error;
use std::path::Path;

const FILES: [&str; 4] = ["common", "collections", "points", "pipelines"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let files = FILES.map(|name| root.join(format!("proximadb/v1/{name}.proto")));
    let descriptors = protox::compile(files, [root])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
