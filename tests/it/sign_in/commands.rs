//! Commands that sign in by themselves: each way, over TLS, against the real gateway.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use super::{Setup, USERNAME, assertions, command, text, without_settings};
use crate::support::{
    client::Client,
    order::{self, TOPIC},
    wait::until,
    wire::PublishRequest,
};

const NOT_PERMITTED: i32 = 4;
const USAGE: i32 = 2;

/// A command that knows the gateway only by its addresses, and nothing of its data directory.
fn stranger(setup: &Setup, arguments: &[&str]) -> Command {
    let ready = setup.gateway.ready();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    without_settings(&mut command);
    command
        .args(["topic", "list", "--output", "json"])
        .args(["--endpoint", &format!("https://{}", ready.grpc_tls_addr)])
        .args(["--login-url", &format!("https://{}", ready.https_addr)])
        .arg("--ca")
        .arg(&ready.ca_pem)
        .args(arguments)
        .current_dir(setup.gateway.dir());
    command
}

#[track_caller]
fn lists_topics(command: &mut Command) {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("/event/OrderCreated__e"), "{stdout}");
}

#[track_caller]
fn refused(output: &Output, exit: i32, word: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{stderr}");
    assert!(stderr.contains(word), "{stderr}");
}

#[test]
fn a_command_signs_in_each_way() {
    let setup = Setup::lenient();
    let dir = setup.gateway.dir().to_owned();
    fs::write(dir.join("secret"), format!("{}\n", setup.client_secret)).unwrap();
    fs::write(dir.join("password"), &setup.password).unwrap();
    let client = [
        "--client-id",
        &setup.client_id,
        "--client-secret-file",
        "secret",
    ];
    lists_topics(&mut stranger(&setup, &client));
    let user = ["--username", USERNAME, "--password-file", "password"];
    lists_topics(&mut stranger(&setup, &[&client[..], &user].concat()));
    // Without a client it is the SOAP call.
    lists_topics(&mut stranger(&setup, &user));

    let key = assertions::rsa();
    let (signer, _) = assertions::signer(&setup, &key);
    fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    let id = signer["client_id"].as_str().unwrap();
    let jwt = [
        "--client-id",
        id,
        "--username",
        USERNAME,
        "--jwt-key",
        "key.pem",
    ];
    lists_topics(&mut stranger(&setup, &jwt));

    fs::write(dir.join("refresh"), refresh_token(&setup)).unwrap();
    let by_refresh = ["--refresh-token-file", "refresh"];
    lists_topics(&mut stranger(&setup, &[&client[..], &by_refresh].concat()));

    let token = &setup.gateway.ready().access_token;
    let instance = ["--instance-url", "https://localhost"];
    let print = format!("echo '{token}'");
    let by_command = [&["--token-command", print.as_str()], &instance[..]].concat();
    lists_topics(&mut stranger(&setup, &by_command));

    // The same from the environment, and from a file.
    let mut command = stranger(&setup, &[]);
    command.env("TIDEGATE_CLIENT_ID", &setup.client_id);
    command.env("TIDEGATE_CLIENT_SECRET", &setup.client_secret);
    lists_topics(&mut command);
    let settings = format!(
        "client_id = \"{}\"\nclient_secret = \"{}\"\n",
        setup.client_id, setup.client_secret
    );
    fs::create_dir_all(dir.join("config/tidegate/profiles")).unwrap();
    fs::write(dir.join("config/tidegate/profiles/shop.toml"), settings).unwrap();
    let mut command = stranger(&setup, &["--profile", "shop"]);
    let output = command.env("XDG_CONFIG_HOME", dir.join("config")).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    // Made as files are: others can read what is secret in it.
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("chmod 600"), "{stderr}");
    assert!(!stderr.contains(&setup.client_secret), "{stderr}");
}

fn refresh_token(setup: &Setup) -> String {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let answer = runtime.block_on(setup.token(&setup.password_grant()));
    text(&answer.json(), "refresh_token")
}

/// Kills what a failing test would leave behind.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn is_alive(pid: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Its parent may not have waited for it yet.
    let state = state.rsplit(") ").next().unwrap_or_default();
    !state.is_empty() && !state.starts_with('Z')
}

fn pid_in(file: &Path) -> String {
    until("the command to be at work", || {
        let text = fs::read_to_string(file).ok()?;
        Some(text.strip_suffix('\n')?.to_owned())
    })
}

#[test]
fn a_command_that_is_asked_to_end_takes_the_token_command_along() {
    let setup = Setup::lenient();
    let dir = setup.gateway.dir().to_owned();
    for signal in ["-TERM", "-INT"] {
        let file = dir.join(format!("pid{signal}"));
        let print = format!("echo $$ > pid{signal}; sleep 600");
        let mut command = stranger(&setup, &["--token-command", &print]);
        let child = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut child = Killed(child.unwrap());
        let pid = pid_in(&file);
        assert!(is_alive(&pid));
        let id = child.0.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status();
        assert!(sent.unwrap().success());
        let status = until("the end of the command", || child.0.try_wait().unwrap());
        assert_eq!(status.code(), Some(1));
        until("the end of what prints a token", || {
            (!is_alive(&pid)).then_some(())
        });
    }
}

#[tokio::test]
async fn a_subscriber_whose_token_is_taken_away_gets_another_and_goes_on() {
    let setup = Setup::lenient();
    let (gateway, dir) = (&setup.gateway, setup.gateway.dir().to_owned());
    let ready = gateway.ready();
    let make = || command(gateway, "token create --name passing");
    let (first, second) = (make(), make());
    fs::write(dir.join("token"), text(&first, "access_token")).unwrap();
    let mut subscriber = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    without_settings(&mut subscriber);
    subscriber
        .args(["subscribe", TOPIC, "--from", "earliest", "--count", "20"])
        .args(["--output", "json", "--token-command", "cat token"])
        .args(["--endpoint", &format!("https://{}", ready.grpc_tls_addr)])
        .args(["--instance-url", "https://localhost", "--ca"])
        .arg(&ready.ca_pem)
        .current_dir(&dir)
        .stdout(fs::File::create(dir.join("out")).unwrap())
        .stderr(fs::File::create(dir.join("err")).unwrap());
    let mut child = Killed(subscriber.spawn().unwrap());
    let client = Client::connect(gateway).await;
    let orders = |numbers| PublishRequest::new(TOPIC, order::events(numbers));
    client.publish(&orders(0..10)).await.unwrap();
    let lines = || {
        let text = fs::read_to_string(dir.join("out")).unwrap();
        text.lines().count()
    };
    until("the first ten", || (lines() == 10).then_some(()));

    fs::write(dir.join("token"), text(&second, "access_token")).unwrap();
    let id = text(&first, "id");
    command(gateway, &format!("token revoke {id}"));
    client.publish(&orders(10..20)).await.unwrap();
    let status = until("the rest", || child.0.try_wait().unwrap());
    let told = fs::read_to_string(dir.join("err")).unwrap();
    assert!(status.success(), "{told}");
    assert_eq!(lines(), 20, "{told}");
    for token in [&first, &second] {
        assert!(!told.contains(&text(token, "access_token")), "{told}");
    }
}

#[test]
fn what_does_not_sign_in_is_told_and_no_secret_with_it() {
    let setup = Setup::lenient();
    let dir = setup.gateway.dir().to_owned();
    fs::write(dir.join("secret"), "the-wrong-secret").unwrap();
    fs::write(
        dir.join("odd.toml"),
        "client_secrt = \"the-wrong-secret\"\n",
    )
    .unwrap();
    fs::write(dir.join("html"), "<html>").unwrap();
    let run = |arguments: &[&str]| {
        let output = stranger(&setup, arguments).output().unwrap();
        let said = format!("{output:?}");
        assert!(!said.contains("the-wrong-secret"), "{said}");
        output
    };
    let client = ["--client-id", &setup.client_id];
    let output = run(&[&client[..], &["--client-secret-file", "secret"]].concat());
    refused(&output, NOT_PERMITTED, "invalid client credentials");
    let output = run(&[&client[..], &["--client-secret-file", "nowhere"]].concat());
    refused(&output, USAGE, "nowhere");
    let output = run(&["--client-secret-file", "secret"]);
    refused(&output, USAGE, "--client-id");
    let output = run(&["--token", "x", "--token-command", "y"]);
    refused(&output, USAGE, "both a token and a token command");
    let output = run(&["--profile", "odd.toml"]);
    refused(&output, USAGE, "client_secrt");
    fs::write(dir.join("number.toml"), "password = 1234567890\n").unwrap();
    let output = run(&["--profile", "number.toml"]);
    refused(&output, USAGE, "the value of `password`");
    assert!(!format!("{output:?}").contains("1234567890"));
    let output = run(&[]);
    refused(&output, USAGE, "a login host is named");
    let output = run(&[&client[..], &["--client-secret-file", "/dev/zero"]].concat());
    refused(&output, USAGE, "not a regular file");
    let output = run(&["--profile", "nobody"]);
    refused(&output, USAGE, "profiles/nobody.toml");
    let output = run(&[
        "--client-cert",
        "html",
        "--client-key",
        "html",
        "--token-command",
        "true",
    ]);
    refused(&output, USAGE, "no certificate");
    let output = run(&["--proxy", "socks5://proxy", "--token-command", "true"]);
    refused(&output, USAGE, "a proxy looks like");
    let output = run(&["--login-url", "http://login.example.com"]);
    assert_eq!(output.status.code(), Some(USAGE), "twice the same option");
}
