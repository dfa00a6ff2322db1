//! `tidegate doctor` against a real gateway: what is right is said, and each thing that is wrong is
//! found, with what to do about it.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Output},
    thread,
};

use serde_json::Value;

use crate::support::{
    gateway::{Gateway, without_settings},
    order::TOPIC,
};

/// The checks that `doctor` makes with these arguments, and how it ended.
fn doctor(gateway: &Gateway, arguments: &[&str]) -> (Vec<Value>, Output) {
    let mut command = gateway.command("doctor --output json");
    let output = command.args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().map(serde_json::from_str);
    (lines.collect::<Result<_, _>>().unwrap(), output)
}

/// Holds a check to fail, with these words in what is to be done, and all after it to be passed over.
#[track_caller]
fn fails(gateway: &Gateway, arguments: &[&str], check: &str, exit: i32, fix: &str) {
    let (found, output) = doctor(gateway, arguments);
    let at = found.iter().position(|line| line["state"] == "failed");
    let at = at.unwrap_or_else(|| panic!("nothing failed: {found:?}"));
    let failed = &found[at];
    assert_eq!(failed["check"], check, "{failed}");
    assert!(failed["fix"].as_str().unwrap().contains(fix), "{failed}");
    assert_eq!(output.status.code(), Some(exit), "{failed}");
    assert_eq!(found.len(), 12, "{found:?}");
    for line in &found[at + 1..] {
        assert_eq!(line["state"], "skipped", "{line}");
    }
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the check of"), "{said}");
}

#[test]
fn where_nothing_is_wrong_every_check_says_what_it_found() {
    let gateway = Gateway::start();
    let order = r#"{"Order_Number__c": "1"}"#;
    let (found, output) = doctor(&gateway, &[TOPIC, "--publish", order]);
    assert!(output.status.success(), "{found:?}");
    let state = |check: &str| {
        let line = found.iter().find(|line| line["check"] == check);
        line.unwrap()["state"].as_str().unwrap().to_owned()
    };
    for check in [
        "settings",
        "connection",
        "tls",
        "sign_in",
        "org_id",
        "token",
        "clock",
        "topic",
        "rights",
        "schema",
        "round_trip",
    ] {
        assert_eq!(state(check), "ok", "{check}: {found:?}");
    }
    assert_eq!(state("dns"), "skipped", "it is called by its address");
    let said = format!("{found:?}");
    assert!(!said.contains(&gateway.ready().access_token), "{said}");

    let (found, output) = doctor(&gateway, &[]);
    assert!(output.status.success(), "{found:?}");
    assert_eq!(found[8]["found"], "no topic is named");
    let (found, _) = doctor(&gateway, &[TOPIC]);
    assert_eq!(
        found[11]["state"], "skipped",
        "no event is published unasked"
    );
}

/// A proxy that leads to the gateway whatever is asked for.
fn proxy(to: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, to) = (client.unwrap(), to.clone());
            thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && client.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                let mut server = TcpStream::connect(to).unwrap();
                let (mut back, mut forth) =
                    (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut back, &mut forth));
                _ = std::io::copy(&mut client, &mut server);
            });
        }
    });
    url
}

#[test]
fn what_is_wrong_on_the_way_is_found() {
    let gateway = Gateway::start();
    let ready = gateway.ready();
    let elsewhere = [
        "--token",
        &ready.access_token,
        "--tenant",
        &ready.tenant_id,
        "--instance-url",
        "https://localhost",
    ];
    let at = |endpoint: &str, rest: &[&str], check: &str, exit: i32, fix: &str| {
        let arguments = [&["--endpoint", endpoint], &elsewhere[..], rest].concat();
        fails(&gateway, &arguments, check, exit, fix);
    };
    at(
        "https://no-such-host.invalid",
        &[],
        "dns",
        3,
        "typing error",
    );
    at("http://gateway.example.com", &[], "settings", 2, "https://");
    at(
        "https://gateway.example.com/path",
        &[],
        "settings",
        2,
        "--help",
    );
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);
    at(
        &format!("https://{addr}"),
        &[],
        "connection",
        3,
        "start the gateway",
    );
    let clear = format!("https://{}", ready.grpc_addr);
    at(&clear, &[], "tls", 3, "http:// for a listener in the clear");

    // Its data directory would tell the authority.
    let tls = format!("https://{}", ready.grpc_tls_addr);
    let mut stranger = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    without_settings(&mut stranger);
    let output = stranger
        .args(["doctor", "--endpoint", &tls])
        .args(elsewhere)
        .current_dir(gateway.temporary_dir())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("FAILED   tls"), "{said}");
    assert!(said.contains("--ca"), "{said}");
    assert_eq!(output.status.code(), Some(3), "{said}");

    let proxy = proxy(ready.grpc_tls_addr.clone());
    let ca = ready.ca_pem.to_str().unwrap();
    let by_proxy = ["--proxy", &proxy, "--ca", ca];
    at(
        "https://gateway.example.com",
        &by_proxy,
        "tls",
        3,
        "by a name",
    );
    let gone = ["--proxy", &format!("http://{addr}")];
    at(
        "https://gateway.example.com",
        &gone,
        "connection",
        3,
        "--proxy",
    );
}

#[test]
fn what_is_wrong_with_the_caller_and_the_topic_is_found() {
    let gateway = Gateway::start();
    let token = |arguments: &str| {
        let mut command = gateway.command(&format!("token create {arguments} --output json"));
        let output = command.output().unwrap();
        let row: Value = serde_json::from_slice(&output.stdout).unwrap();
        row["access_token"].as_str().unwrap().to_owned()
    };
    let tenant = &gateway.ready().tenant_id;
    let unknown = format!("{tenant}!unknown");
    fails(&gateway, &["--token", &unknown], "token", 4, "token create");
    let other = ["--token", &unknown, "--tenant", "00D000000000001"];
    fails(&gateway, &other, "org_id", 4, "--tenant");
    let short = ["--token", &unknown, "--tenant", "00D"];
    fails(&gateway, &short, "settings", 2, "--help");
    let command = ["--token-command", "echo two words"];
    fails(&gateway, &command, "sign_in", 3, "by hand");
    let https = format!("https://{}", gateway.ready().https_addr);
    let nobody = [
        "--login-url",
        &https,
        "--client-id",
        "nobody",
        "--client-secret-file",
        "/etc/hostname",
    ];
    fails(&gateway, &nobody, "sign_in", 4, "secrets");

    fails(&gateway, &["/event/Nothing__e"], "topic", 1, "topic list");
    let elsewhere = token("--publish /event/Other__e");
    fails(
        &gateway,
        &[TOPIC, "--token", &elsewhere],
        "topic",
        4,
        "allowed",
    );
    let reader = token(&format!("--subscribe {TOPIC}"));
    let (found, output) = doctor(&gateway, &[TOPIC, "--token", &reader]);
    assert!(output.status.success(), "{found:?}");
    assert_eq!(found[9]["state"], "warning", "{}", found[9]);
    let odd = [TOPIC, "--publish", r#"{"Nothing__c": "1"}"#];
    fails(&gateway, &odd, "round_trip", 1, "schema get");
    let may_not = [TOPIC, "--token", &reader, "--publish", "{}"];
    fails(&gateway, &may_not, "round_trip", 4, "may do both");
}
