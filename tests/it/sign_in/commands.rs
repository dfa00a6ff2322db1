//! Commands that sign in by themselves: each way, over TLS, against the real gateway.

use std::{
    fs,
    process::{Command, Output},
};

use super::{Setup, USERNAME, assertions, without_settings};

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
    lists_topics(command.env("XDG_CONFIG_HOME", dir.join("config")));
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
