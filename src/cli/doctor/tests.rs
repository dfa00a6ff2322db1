use std::{fs, path::PathBuf, sync::Arc};

use tonic::metadata::MetadataMap;

use super::*;
use crate::{
    cli::output::Format,
    client::Credentials,
    clock::{Clock, SystemClock},
};

fn report(findings: &mut Output<Vec<u8>>) -> Report<'_, Vec<u8>> {
    Report {
        output: findings,
        next: 0,
    }
}

fn findings() -> Output<Vec<u8>> {
    Output::new(Format::Json, Vec::new())
}

fn lines(output: Output<Vec<u8>>) -> Vec<Value> {
    let text = String::from_utf8(output.into_writer()).unwrap();
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn clocks_agree_differ_or_are_not_told() {
    let now = SystemClock.now().as_millis() / 1_000;
    for (apart, state) in [
        (Some(0), "ok"),
        (Some(20), "warning"),
        (Some(-20), "warning"),
        (Some(600), "warning"),
        (Some(-600), "warning"),
        (None, "skipped"),
    ] {
        let mut told = MetadataMap::new();
        if let Some(apart) = apart {
            let date = jiff::Timestamp::from_second(now + apart).unwrap();
            let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            told.insert("date", date.parse().unwrap());
        }
        let mut output = findings();
        let told = caller::clock(&mut report(&mut output), &told).await;
        told.unwrap();
        let found = lines(output).remove(0);
        assert_eq!(found["state"], state, "{apart:?}: {found}");
        assert_eq!(found["fix"].is_string(), state == "warning", "{found}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_never_answered_is_not_waited_for() {
    let never = answered(std::future::pending::<Result<(), tonic::Status>>());
    let status = never.await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
}

#[test]
fn checks_are_told_in_the_order_in_which_they_are_listed() {
    for (index, (check, _)) in Check::ALL.into_iter().enumerate() {
        assert_eq!(check as usize, index);
    }
}

/// A server on this machine with a certificate of its own making, and the file of that.
async fn server(change: impl FnOnce(&mut rcgen::CertificateParams)) -> (u16, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    change(&mut params);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let file = |name: &str| directory.path().join(name);
    fs::write(file("ca.pem"), certificate.pem()).unwrap();
    fs::write(file("key.pem"), key.serialize_pem()).unwrap();
    let alpn = crate::net::tls::Alpn::Grpc;
    let config = crate::net::tls::server_config(&file("ca.pem"), &file("key.pem"), alpn);
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&config.unwrap()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            drop(acceptor.accept(stream).await);
        }
    });
    (port, directory)
}

async fn tls_of(port: u16, ca_file: Option<PathBuf>) -> Value {
    let credentials = Credentials {
        access_token: "t".into(),
        tenant_id: "00D000000000001".parse().unwrap(),
        instance_url: "https://t".into(),
    };
    let url = format!("https://localhost:{port}").parse().unwrap();
    let endpoint = Endpoint {
        ca_file,
        ..Endpoint::new(url, credentials)
    };
    let mut output = findings();
    _ = way::look(&mut report(&mut output), &endpoint).await;
    let mut lines = lines(output).into_iter();
    lines.find(|line| line["check"] == "tls").unwrap()
}

#[tokio::test]
async fn a_certificate_is_shown_with_what_is_wrong_with_it() {
    let days = |days: i64| {
        let now = jiff::Timestamp::now().as_second();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        epoch + std::time::Duration::from_secs((now + days * 86_400).unsigned_abs())
    };
    for (name, until, state, fix) in [
        ("localhost", 300, "ok", None),
        ("localhost", 3, "warning", Some("renew it")),
        ("localhost", -3, "failed", Some("renewed")),
        ("elsewhere.example", 300, "failed", Some("by a name")),
    ] {
        let (port, directory) = server(|params| {
            *params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.not_after = days(until);
        })
        .await;
        let found = tls_of(port, Some(directory.path().join("ca.pem"))).await;
        assert_eq!(found["state"], state, "{found}");
        let text = found["found"].as_str().unwrap();
        assert!(text.contains(&format!("for {name}, by")), "{found}");
        match fix {
            None => assert!(found["fix"].is_null(), "{found}"),
            Some(fix) => assert!(found["fix"].as_str().unwrap().contains(fix), "{found}"),
        }
        let found = tls_of(port, None).await;
        assert_eq!(found["state"], "failed", "{found}");
        assert!(found["fix"].is_string(), "{found}");
    }
}
