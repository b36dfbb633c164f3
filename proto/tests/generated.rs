//! The generated code that is kept in `src/` is what the `.proto` files give. `PROXIMADB_UPDATE=1` writes it anew.
//!
//! Kept rather than made by each build: that would cost thirty crates more on the way to the first question.
#![allow(clippy::unwrap_used)]
use std::path::Path;

#[test]
fn generated_code_is_what_the_proto_files_give() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kept = root.join("src/proximadb.v1.rs");
    let protos = root.join("proto");
    let folder = std::fs::read_dir(protos.join("proximadb/v1")).unwrap();
    let mut files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    // A compiler in Rust: no protoc is needed.
    let descriptors = protox::compile(files, [protos]).unwrap();
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("generated");
    std::fs::create_dir_all(&out).unwrap();
    tonic_prost_build::configure().out_dir(&out).compile_fds(descriptors).unwrap();
    let made = std::fs::read_to_string(out.join("proximadb.v1.rs")).unwrap();
    if std::env::var_os("PROXIMADB_UPDATE").is_some() {
        std::fs::write(&kept, &made).unwrap();
    }
    let is_current = std::fs::read_to_string(&kept).unwrap() == made;
    assert!(
        is_current,
        "the .proto files have changed: PROXIMADB_UPDATE=1 scripts/cargo.sh test -p proximadb-proto"
    );
}
