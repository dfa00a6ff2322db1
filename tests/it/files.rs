//! What a gateway writes and where, besides the files of its log.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::support::{
    client::Client,
    gateway::Gateway,
    order::{self, TOPIC},
    wire::{PublishRequest, TopicInfo, TopicRequest},
};

/// Every file below `dir` with its mode, by its path from there.
fn files_below(dir: &Path) -> BTreeMap<PathBuf, u32> {
    let mut files = BTreeMap::new();
    let mut directories = vec![dir.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                directories.push(entry.path());
            } else {
                let path = entry.path().strip_prefix(dir).unwrap().to_owned();
                files.insert(path, metadata.permissions().mode() & 0o777);
            }
        }
    }
    files
}

async fn publish(gateway: &Gateway) {
    let client = Client::connect(gateway).await;
    let request = PublishRequest::new(TOPIC, order::events(0..100));
    client.publish(&request).await.unwrap();
}

#[test]
fn the_ready_file_says_all_that_a_script_needs_to_its_owner_alone() {
    let mut gateway = Gateway::start();
    let path = gateway.dir().join("ready.json");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let ready: BTreeMap<String, Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let keys: Vec<_> = ready.keys().map(String::as_str).collect();
    let wanted = [
        "access_token",
        "ca_pem",
        "grpc_addr",
        "grpc_tls_addr",
        "http_addr",
        "https_addr",
        "instance_url",
        "pid",
        "tenant_id",
    ];
    assert_eq!(keys, wanted);
    let text = |key: &str| ready[key].as_str().unwrap();
    for key in ["grpc_addr", "grpc_tls_addr", "http_addr", "https_addr"] {
        let addr: SocketAddr = text(key).parse().unwrap();
        assert!(addr.ip().is_loopback() && addr.port() != 0, "{key}: {addr}");
    }
    assert!(Path::new(text("ca_pem")).is_file());
    assert_eq!(text("tenant_id").len(), 18);
    let owner = format!("{}!", &text("tenant_id")[..15]);
    assert!(text("access_token").starts_with(&owner));
    assert!(text("instance_url").starts_with("https://localhost:"));

    gateway.terminate();
    gateway.wait_for_end();
    assert!(!path.exists(), "nothing is ready any more");
}

#[tokio::test]
async fn an_ephemeral_gateway_writes_a_profile_and_certificates_and_takes_them_away() {
    let mut gateway = Gateway::ephemeral();
    publish(&gateway).await;
    let temporary = gateway.temporary_dir();
    let home = fs::read_dir(&temporary).unwrap().next().unwrap().unwrap();
    let made: Vec<_> = files_below(&home.path()).into_iter().collect();
    let wanted = [
        ("profile.json", 0o600),
        ("tls/ca.key", 0o600),
        ("tls/ca.pem", 0o644),
        ("tls/server.key", 0o600),
        ("tls/server.pem", 0o644),
    ];
    assert_eq!(made, wanted.map(|(path, mode)| (path.into(), mode)));

    gateway.terminate();
    assert!(gateway.wait_for_end().success());
    let left: Vec<_> = files_below(gateway.dir()).into_keys().collect();
    assert_eq!(left, [PathBuf::from("stderr-0.log")]);
}

#[tokio::test]
async fn what_a_gateway_keeps_is_readable_by_its_owner_alone() {
    let gateway = Gateway::start();
    publish(&gateway).await;
    let data = files_below(&gateway.data_dir());
    assert!(
        data.keys()
            .any(|path| path.extension() == Some("seg".as_ref()))
    );
    for (path, mode) in data {
        let is_certificate = path.extension() == Some("pem".as_ref());
        let wanted = if is_certificate { 0o644 } else { 0o600 };
        assert_eq!(mode, wanted, "{}", path.display());
    }
}

#[tokio::test]
async fn a_lost_profile_is_made_again_with_a_token_of_its_own() {
    let mut gateway = Gateway::start();
    let before = gateway.ready().clone();
    gateway.kill();
    fs::remove_file(gateway.data_dir().join("profile.json")).unwrap();
    gateway.restart();
    let after = gateway.ready();
    assert_eq!(before.tenant_id, after.tenant_id);
    assert_ne!(before.access_token, after.access_token);
    // Whoever still has the earlier one was not shut out.
    let client = Client::connect(&gateway).await;
    for token in [&before.access_token, &after.access_token] {
        let topic_name = TOPIC.to_owned();
        client
            .with("accesstoken", token)
            .unary::<TopicInfo>("GetTopic", &TopicRequest { topic_name })
            .await
            .unwrap();
    }
}
