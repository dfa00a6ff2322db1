//! Client applications and users, as administrators make, list and delete them.

use std::{
    fs,
    process::{Output, Stdio},
};

use super::{Setup, USERNAME, command, text};

/// Exit codes, as `tidegate --help` lists them.
const FAILED: i32 = 1;
const NOT_PERMITTED: i32 = 4;

fn run(setup: &Setup, arguments: &str, input: &str, token: Option<&str>) -> Output {
    let file = setup.gateway.dir().join("input");
    fs::write(&file, input).unwrap();
    let mut command = setup.gateway.command(arguments);
    if let Some(token) = token {
        command.env("TIDEGATE_TOKEN", token);
    }
    let input = Stdio::from(fs::File::open(file).unwrap());
    command
        .stdin(input)
        .output()
        .expect("the program can be run")
}

#[test]
fn only_an_administrator_makes_lists_and_deletes_them() {
    let setup = Setup::lenient();
    let made = command(&setup.gateway, "token create --name narrow");
    let narrow = made["access_token"].as_str().unwrap();
    for arguments in [
        "client create",
        "client list",
        "client delete x",
        "user create x@example.com",
        "user list",
        "user delete x@example.com",
    ] {
        let output = run(&setup, arguments, "", Some(narrow));
        assert_eq!(output.status.code(), Some(NOT_PERMITTED), "{arguments}");
    }
}

#[test]
fn what_cannot_be_made_or_deleted_is_refused_with_the_reason() {
    let setup = Setup::lenient();
    let file = setup.gateway.dir().join("no.crt");
    fs::write(&file, "no certificate").unwrap();
    let with_file = format!("client create --certificate {}", file.display());
    let taken = format!("user create {}", USERNAME.to_uppercase());
    for (arguments, input, reason) in [
        (
            &*with_file,
            "",
            "wanted a certificate or a public key in PEM",
        ),
        ("client create --certificate missing.crt", "", "missing.crt"),
        (&taken, "", "the username is taken"),
        (
            "user create a@example.com --password-stdin",
            "short",
            "a password has 8 characters",
        ),
        (
            "user create a@example.com --password-stdin",
            "",
            "no password on standard input",
        ),
        (
            "client delete nobody",
            "",
            "there is no such client or user",
        ),
        ("user delete nobody", "", "there is no such client or user"),
        ("token create --expires 4000d", "", "a token is good for"),
        (
            "token create --name a\u{7}b",
            "",
            "none of which is a control character",
        ),
    ] {
        let output = run(&setup, arguments, input, None);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(FAILED), "{arguments}: {stderr}");
        assert!(stderr.contains(reason), "{arguments}: {stderr}");
    }
}

#[tokio::test]
async fn secrets_are_shown_once_and_neither_listed_nor_logged() {
    let setup = Setup::lenient();
    let token = setup.access_token().await;
    let mut shown = vec![setup.client_secret.clone(), setup.password.clone(), token];
    let good = setup.password_grant();
    let answer = setup.token(&good).await.json();
    for name in ["access_token", "refresh_token"] {
        shown.push(text(&answer, name));
    }
    for secret in [&setup.password, &setup.client_secret] {
        let wrong = format!("{secret}-wrong");
        let refused = setup.token(&good.replace(secret.as_str(), &wrong)).await;
        assert_eq!(refused.status, 400);
    }
    for (what, secret) in [("client", &setup.client_secret), ("user", &setup.password)] {
        for format in ["json", "text"] {
            let output = run(&setup, &format!("{what} list --output {format}"), "", None);
            let listed = String::from_utf8(output.stdout).unwrap();
            let name = if what == "client" {
                &setup.client_id
            } else {
                USERNAME
            };
            assert!(listed.contains(name), "{listed}");
            assert!(!listed.contains(secret.as_str()), "{listed}");
        }
    }
    let log = setup.gateway.log();
    let refusals = log
        .lines()
        .filter(|line| line.contains("a sign-in was refused"));
    let refusals: Vec<_> = refusals.collect();
    assert_eq!(refusals.len(), 2, "{log}");
    let has_source = |line: &&str| line.contains("127.0.0.1");
    assert!(refusals.iter().all(has_source), "{log}");
    for secret in shown {
        assert!(!log.contains(&secret), "{log}");
    }
}

#[tokio::test]
async fn no_secret_is_on_the_disk() {
    let mut setup = Setup::lenient();
    let session = setup.token(&setup.password_grant()).await.json();
    setup.gateway.kill();
    let secrets = [
        ("access token", text(&session, "access_token")),
        ("refresh token", text(&session, "refresh_token")),
        ("client secret", setup.client_secret.clone()),
        ("password", setup.password.clone()),
    ];
    let (mut dirs, mut has_user) = (vec![setup.gateway.data_dir()], false);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            let found = String::from_utf8_lossy(&bytes);
            has_user |= found.contains(USERNAME);
            for (what, secret) in &secrets {
                // A token begins with the id of its tenant, which is no secret.
                let secret = secret.rsplit('!').next().unwrap();
                assert!(!found.contains(secret), "a {what} is in {}", path.display());
            }
        }
    }
    assert!(has_user, "what there is of them is among these files");
}
