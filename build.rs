//! Compiles `proto/` with a compiler written in Rust, so that a build needs no `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

/// The messages on the way of an event: mapped to hand-written types that keep bytes.
const RAW_MESSAGES: [&str; 4] = [
    "PublishRequest",
    "PublishResponse",
    "FetchResponse",
    "ManagedFetchResponse",
];

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["pubsub_api.proto", "tidegate/admin/v1/admin.proto"];
    for file in files {
        println!("cargo::rerun-if-changed=proto/{file}");
    }
    let descriptors = protox::compile(files, ["proto"])?;

    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    // Reflection serves the descriptors as they are.
    fs::write(
        out_dir.join("descriptors.bin"),
        prost::Message::encode_to_vec(&descriptors),
    )?;

    let mut builder = tonic_prost_build::configure()
        .build_server(env::var("CARGO_FEATURE_SERVER").is_ok())
        .build_client(env::var("CARGO_FEATURE_CLIENT").is_ok())
        .build_transport(false)
        .codec_path("crate::proto::codec::Codec")
        .bytes(".");
    for message in RAW_MESSAGES {
        builder = builder.extern_path(
            format!(".eventbus.v1.{message}"),
            format!("crate::proto::raw::{message}"),
        );
    }
    builder.compile_fds(descriptors)?;
    Ok(())
}
