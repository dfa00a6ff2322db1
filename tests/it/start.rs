//! What the gateway cannot start with: it ends at once and says what it found and what to do.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::support::{
    client::Client,
    gateway::{Gateway, serve_command},
    order::{self, TOPIC},
    wait,
    wire::PublishRequest,
};

/// A user without rights of its own.
const NOBODY: u32 = 65_534;

fn new_dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    // So that another user can look into it.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// Runs `command` in `dir` and holds it to end with an error that has all of `words`.
#[track_caller]
fn expect_refusal(mut command: Command, dir: &Path, words: &[&str]) {
    let mut child = command
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.join("stderr")).unwrap())
        .spawn()
        .unwrap();
    let status = wait::until("refusal to start", || child.try_wait().unwrap());
    let stderr = fs::read_to_string(dir.join("stderr")).unwrap();
    assert!(!status.success(), "{stderr}");
    assert_ne!(status.code(), Some(101), "a panic is no refusal: {stderr}");
    let errors: Vec<_> = stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    let error = errors.join("\n");
    for word in words {
        assert!(error.contains(word), "{word} is in: {stderr}");
    }
    let mut parts: Vec<_> = error.split(": ").collect();
    parts.sort_unstable();
    assert!(
        parts.windows(2).all(|pair| pair[0] != pair[1]),
        "nothing is said twice: {error}"
    );
}

#[test]
fn a_data_directory_in_use_is_refused_with_who_uses_it() {
    let gateway = Gateway::start();
    let dir = new_dir();
    let mut command = serve_command();
    command.arg("--data-dir").arg(gateway.data_dir());
    let pid = gateway.ready().pid.to_string();
    expect_refusal(command, dir.path(), &[&pid, "in use"]);
}

#[test]
fn a_data_directory_of_a_newer_version_is_refused() {
    let mut gateway = Gateway::start();
    gateway.kill();
    let version = gateway.data_dir().join("version");
    fs::write(&version, "tidegate 999\n").unwrap();
    let dir = new_dir();
    let mut command = serve_command();
    command.arg("--data-dir").arg(gateway.data_dir());
    expect_refusal(command, dir.path(), &["999", "version"]);
    assert_eq!(
        fs::read_to_string(version).unwrap(),
        "tidegate 999\n",
        "it is left alone"
    );
}

/// The data directory of a gateway that has an event and has stopped in order.
async fn stopped() -> Gateway {
    let mut gateway = Gateway::start();
    let request = PublishRequest::new(TOPIC, order::events(0..1));
    let client = Client::connect(&gateway).await;
    client.publish(&request).await.unwrap();
    // A connection would hold the stop up.
    drop(client);
    gateway.terminate();
    assert!(gateway.wait_for_end().success());
    gateway
}

fn metadata_of(gateway: &Gateway) -> PathBuf {
    let tenants = gateway.data_dir().join("tenants");
    tenants
        .join(&gateway.ready().tenant_id)
        .join("metadata.redb")
}

/// Holds the gateway not to start on the data directory of `gateway`.
#[track_caller]
fn expect_refused_start(gateway: &Gateway, words: &[&str]) {
    let dir = new_dir();
    let mut command = serve_command();
    command.arg("--data-dir").arg(gateway.data_dir());
    command.args(["--schemas", concat!(env!("CARGO_MANIFEST_DIR"), "/schemas")]);
    expect_refusal(command, dir.path(), words);
}

#[tokio::test]
async fn lost_or_foreign_metadata_are_refused_before_anything_is_made_anew() {
    let gateway = stopped().await;
    let metadata = metadata_of(&gateway);
    let whole = fs::read(&metadata).unwrap();
    fs::remove_file(&metadata).unwrap();
    let unknown = [
        "/event/OrderCreated__e",
        "do not know",
        "put back the metadata.redb",
    ];
    for _ in 0..2 {
        expect_refused_start(&gateway, &unknown);
        assert!(!metadata.exists(), "nothing that would pass the next time");
    }

    let other = stopped().await;
    fs::copy(metadata_of(&other), &metadata).unwrap();
    let mine = gateway.ready().tenant_id.clone();
    let theirs = other.ready().tenant_id.clone();
    expect_refused_start(&gateway, &["metadata.redb", &mine, &theirs, "put back"]);

    fs::write(&metadata, &whole[..whole.len() / 8]).unwrap();
    expect_refused_start(&gateway, &["metadata.redb", "restore it from a backup"]);
    assert_eq!(fs::read(&metadata).unwrap().len(), whole.len() / 8);

    fs::write(&metadata, &whole).unwrap();
    let mut gateway = gateway;
    gateway.restart();
}

#[tokio::test]
async fn a_lost_or_foreign_server_file_is_refused_rather_than_a_tenant_made() {
    let gateway = stopped().await;
    let server = gateway.data_dir().join("server.redb");
    let whole = fs::read(&server).unwrap();
    let tenant = gateway.ready().tenant_id.clone();
    let words = [&*tenant, "server.redb", "put back"];
    fs::remove_file(&server).unwrap();
    expect_refused_start(&gateway, &words);
    assert!(!server.exists());

    let other = stopped().await;
    fs::copy(other.data_dir().join("server.redb"), &server).unwrap();
    expect_refused_start(&gateway, &words);

    fs::write(&server, "something else").unwrap();
    expect_refused_start(&gateway, &["server.redb", "restore it from a backup"]);

    fs::write(&server, &whole).unwrap();
    // A tenant's files that were only put beside: the gateway's own is served.
    let theirs = &other.ready().tenant_id;
    let stranger = gateway.data_dir().join("tenants").join(theirs);
    fs::rename(other.data_dir().join("tenants").join(theirs), stranger).unwrap();
    let mut gateway = gateway;
    gateway.restart();
    assert_eq!(gateway.ready().tenant_id, tenant);
    assert!(gateway.log().contains("it is left alone"), "it is told");
}

#[tokio::test]
async fn the_log_of_another_tenant_is_refused() {
    let (gateway, other) = (stopped().await, stopped().await);
    let log_of = |gateway: &Gateway| metadata_of(gateway).with_file_name("log");
    fs::remove_dir_all(log_of(&gateway)).unwrap();
    fs::rename(log_of(&other), log_of(&gateway)).unwrap();
    let tenants = [&*gateway.ready().tenant_id, &*other.ready().tenant_id];
    expect_refused_start(
        &gateway,
        &[tenants[0], tenants[1], ".seg", "belongs to tenant"],
    );
}

#[tokio::test]
async fn small_files_that_are_something_else_are_named() {
    let gateway = stopped().await;
    let data = gateway.data_dir();
    for (name, content, words) in [
        ("version", "", &["should read", "tidegate 2"][..]),
        ("version", "PG_VERSION 17", &["should read", "tidegate 2"]),
        (
            "profile.json",
            "",
            &["not what a gateway writes", "remove it"],
        ),
        (
            "profile.json",
            "{\"a\": 1}",
            &["not what a gateway writes", "remove it"],
        ),
    ] {
        let path = data.join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, content).unwrap();
        expect_refused_start(&gateway, &[&[path.to_str().unwrap()], words].concat());
        assert_eq!(fs::read_to_string(&path).unwrap(), content, "left alone");
        fs::write(&path, whole).unwrap();
    }
    let lock = data.join("LOCK");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    expect_refused_start(&gateway, &[lock.to_str().unwrap(), "cannot lock"]);
    fs::remove_dir(&lock).unwrap();
    fs::write(&lock, "something else, and longer than a number\n").unwrap();
    fs::remove_file(data.join("version")).unwrap();
    let mut gateway = gateway;
    gateway.restart();
}

#[test]
fn a_data_directory_that_cannot_be_written_is_refused() {
    let dir = new_dir();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = as_nobody(dir.path());
    command.arg("--data-dir").arg(&data);
    expect_refusal(command, dir.path(), &["data", "Permission denied"]);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for option in [
        "--grpc-addr",
        "--grpc-tls-addr",
        "--http-addr",
        "--https-addr",
    ] {
        let dir = new_dir();
        let mut command = serve_command();
        command.args(["--ephemeral", option, &address]);
        expect_refusal(command, dir.path(), &[&address, "in use"]);
    }
}

#[test]
fn a_certificate_that_cannot_be_used_is_named() {
    let dir = new_dir();
    let [garbage, secret] = ["garbage.pem", "secret.pem"].map(|name| dir.path().join(name));
    fs::write(&garbage, "not a certificate").unwrap();
    fs::write(&secret, "").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    let missing = dir.path().join("missing.pem");
    for (file, reason) in [
        (&missing, "No such file"),
        (&garbage, "certificate"),
        (&secret, "Permission denied"),
    ] {
        let mut command = as_nobody(dir.path());
        command.arg("--ephemeral");
        command.env("TIDEGATE_TLS__CERT_FILE", file);
        command.env("TIDEGATE_TLS__KEY_FILE", &garbage);
        expect_refusal(command, dir.path(), &[file.to_str().unwrap(), reason]);
    }
}

#[test]
fn a_setting_that_is_none_is_named() {
    let dir = new_dir();
    let mut command = serve_command();
    command
        .arg("--ephemeral")
        .env("TIDEGATE_BROKER__KEEPALIFE", "1s");
    expect_refusal(command, dir.path(), &["TIDEGATE_BROKER__KEEPALIFE"]);
    let mut command = serve_command();
    command
        .arg("--ephemeral")
        .env("TIDEGATE_BROKER__KEEPALIVE", "soon");
    expect_refusal(command, dir.path(), &["TIDEGATE_BROKER__KEEPALIVE", "soon"]);
}

/// `tidegate serve` as a user whom file permissions bind; root's are not asked for them.
fn as_nobody(dir: &Path) -> Command {
    use std::os::unix::fs::MetadataExt;
    let mut command = serve_command();
    let is_root = fs::metadata(dir).unwrap().uid() == 0;
    if is_root {
        // The build's directory may be closed to others.
        let program = dir.join("tidegate");
        if !program.exists() {
            // Not by this process: a child that another test forks meanwhile would hold the file
            // open for writing, and what is being written cannot be run.
            let copy = Command::new("cp")
                .arg(command.get_program())
                .arg(&program)
                .status();
            assert!(copy.unwrap().success());
        }
        let mut copied = Command::new(program);
        copied.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => copied.env(name, value),
                None => copied.env_remove(name),
            };
        }
        copied.uid(NOBODY).gid(NOBODY).stdin(Stdio::null());
        command = copied;
    }
    command
}

#[test]
fn a_file_of_channels_that_cannot_be_applied_keeps_the_gateway_from_starting() {
    let channel = "[[channel]]\nname = '/event/A__chn'\n";
    for (text, words) in [
        (
            format!("{channel}colour = 'red'"),
            ["channels.toml, line 3", "unknown field `colour`"],
        ),
        (
            format!("{channel}[[channel.member]]\ntopic = '/event/Nothing__e'"),
            [
                "/event/A__chn: /event/Nothing__e cannot be a member",
                "there is no such topic",
            ],
        ),
    ] {
        let dir = new_dir();
        let file = dir.path().join("channels.toml");
        fs::write(&file, text).unwrap();
        let mut command = serve_command();
        command
            .arg("--ephemeral")
            .env("TIDEGATE_CHANNELS__FILE", &file);
        expect_refusal(command, dir.path(), &words);
    }
}
