//! Signing in at login hosts that answer as they are told.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, body::Body, extract::State, http::Request, response::Response};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::{
    client::{Endpoint, ProxyUrl},
    clock::{ManualClock, Timestamp},
};

/// A login host: what it was asked, and what it answers by path.
#[derive(Clone, Default)]
struct Host(Arc<Mutex<HostState>>);

#[derive(Default)]
struct HostState {
    asked: Vec<(String, String)>,
    answers: Vec<(&'static str, u16, String)>,
}

impl Host {
    async fn start(answers: &[(&'static str, u16, &str)]) -> (Self, LoginUrl) {
        let host = Self::default();
        let answers = answers
            .iter()
            .map(|&(path, status, body)| (path, status, body.to_owned()));
        host.0.lock().unwrap().answers = answers.collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(host.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (host, url.parse().unwrap())
    }

    fn asked(&self) -> Vec<(String, String)> {
        self.0.lock().unwrap().asked.clone()
    }
}

async fn answer(State(host): State<Host>, request: Request<Body>) -> Response {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut state = host.0.lock().unwrap();
    state
        .asked
        .push((path.clone(), String::from_utf8_lossy(&body).into_owned()));
    let found = state
        .answers
        .iter()
        .find(|(known, ..)| path.starts_with(known));
    let (_, status, body) = found.cloned().unwrap_or(("", 404, String::new()));
    Response::builder()
        .status(status)
        .body(body.into())
        .unwrap()
}

const TOKEN_PATH: &str = "/services/oauth2/token";
const TOKEN: &str = r#"{"access_token": "00D000000000001!secret-token", "token_type": "Bearer",
    "instance_url": "https://tenant.example.com",
    "id": "https://login.example.com/id/00D000000000001AAA/005000000000001AAA"}"#;

fn secret(text: &str) -> Secret {
    Secret::Text(text.into())
}

fn client() -> ClientSecret {
    ClientSecret {
        id: "client 1".into(),
        secret: Some(secret("s&cret")),
    }
}

async fn sign_in(grant: Grant) -> Result<Credentials, SignInError> {
    sign_in_by(SignIn {
        grant,
        instance_url: None,
        tenant_id: None,
    })
    .await
}

async fn sign_in_by(sign_in: SignIn) -> Result<Credentials, SignInError> {
    let http = HttpClient::new(&Default::default(), None, Duration::from_secs(5)).unwrap();
    let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
    let source = CredentialSource::SignIn(sign_in);
    source.credentials(&http, &clock, false, None).await
}

#[tokio::test]
async fn each_grant_shows_what_it_has_and_takes_the_token() {
    let (host, login) = Host::start(&[(TOKEN_PATH, 200, TOKEN)]).await;
    let grants = [
        Grant::ClientCredentials {
            login: login.clone(),
            client: client(),
        },
        Grant::RefreshToken {
            login: login.clone(),
            client: client(),
            token: secret("refresh"),
        },
        Grant::Password {
            login: login.clone(),
            client: Some(client()),
            username: "me@example.com".into(),
            password: secret("pass word"),
        },
    ];
    for grant in grants {
        let credentials = sign_in(grant).await.unwrap();
        assert_eq!(credentials.access_token, "00D000000000001!secret-token");
        assert_eq!(credentials.tenant_id.as_short_str(), "00D000000000001");
        assert_eq!(credentials.instance_url, "https://tenant.example.com");
    }
    let forms: Vec<String> = host.asked().into_iter().map(|(_, form)| form).collect();
    let client = "client_id=client%201&client_secret=s%26cret";
    assert_eq!(forms[0], format!("grant_type=client_credentials&{client}"));
    assert_eq!(
        forms[1],
        format!("grant_type=refresh_token&refresh_token=refresh&{client}")
    );
    assert_eq!(
        forms[2],
        format!("grant_type=password&username=me%40example.com&password=pass%20word&{client}")
    );
}

#[tokio::test]
async fn an_assertion_is_signed_by_the_key_whatever_its_form() {
    let (host, login) = Host::start(&[(TOKEN_PATH, 200, TOKEN)]).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.pem");
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    fs::write(&path, key.serialize_pem()).unwrap();
    let grant = || Grant::JwtBearer {
        login: login.clone(),
        client_id: "client".into(),
        username: "me@example.com".into(),
        key: Secret::File(path.clone()),
    };
    sign_in(grant()).await.unwrap();
    let form = host.asked().remove(0).1;
    let assertion = form
        .split("assertion=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap();
    let decoding = jsonwebtoken::DecodingKey::from_rsa_der(key.public_key_raw());
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    validation.set_audience(&[login.to_string()]);
    validation.validate_exp = false;
    let claims =
        jsonwebtoken::decode::<serde_json::Value>(assertion, &decoding, &validation).unwrap();
    assert_eq!(claims.claims["iss"], "client");
    assert_eq!(claims.claims["sub"], "me@example.com");
    assert_eq!(claims.claims["exp"], 1_700_000_180);
    for (text, wanted) in [("", "empty"), ("no key", "no private key")] {
        fs::write(&path, text).unwrap();
        let error = sign_in(grant()).await.unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
        assert!(error.to_string().contains("key.pem") && !error.is_retryable());
    }
}

#[tokio::test]
async fn without_a_client_it_is_soap() {
    let soap = "<?xml version=\"1.0\"?><soapenv:Envelope xmlns:soapenv=\"x\"><soapenv:Body>\
                <loginResponse><result><serverUrl>https://tenant.example.com/services/Soap/u/64.0/00D</serverUrl>\
                <sessionId>00D000000000001!a&amp;b</sessionId><userInfo>\
                <organizationId>00D000000000001AAA</organizationId></userInfo></result>\
                </loginResponse></soapenv:Body></soapenv:Envelope>";
    let (host, login) = Host::start(&[("/services/Soap/u/", 200, soap)]).await;
    let grant = |login| Grant::Password {
        login,
        client: None,
        username: "me@example.com".into(),
        password: secret("<&>"),
    };
    let credentials = sign_in(grant(login)).await.unwrap();
    assert_eq!(credentials.access_token, "00D000000000001!a&b");
    assert_eq!(credentials.instance_url, "https://tenant.example.com");
    assert!(
        host.asked()[0]
            .1
            .contains("<n1:password>&lt;&amp;&gt;</n1:password>")
    );

    let fault = "<e><faultstring>INVALID_LOGIN: Invalid username, password</faultstring></e>";
    let (_, login) = Host::start(&[("/services/Soap/u/", 500, fault)]).await;
    let error = sign_in(grant(login)).await.unwrap_err();
    assert!(matches!(error, SignInError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("INVALID_LOGIN"));
}

#[tokio::test]
async fn the_tenant_is_told_by_whatever_tells_it() {
    let plain = r#"{"access_token": "opaque", "instance_url": "https://t"}"#;
    let info = r#"{"organization_id": "00D000000000002AAA"}"#;
    let (_, login) = Host::start(&[
        (TOKEN_PATH, 200, plain),
        ("/services/oauth2/userinfo", 200, info),
    ])
    .await;
    let grant = || Grant::ClientCredentials {
        login: login.clone(),
        client: client(),
    };
    let credentials = sign_in(grant()).await.unwrap();
    assert_eq!(credentials.tenant_id.as_short_str(), "00D000000000002");
    let given = SignIn {
        grant: grant(),
        instance_url: Some("https://mine".into()),
        tenant_id: Some("00D000000000003".parse().unwrap()),
    };
    let credentials = sign_in_by(given).await.unwrap();
    assert_eq!(credentials.tenant_id.as_short_str(), "00D000000000003");
    assert_eq!(credentials.instance_url, "https://mine");
}

#[tokio::test]
async fn what_is_no_token_is_told_and_no_secret_with_it() {
    let large = "x".repeat(10_000_000);
    for (status, body, wanted, is_retryable) in [
        (
            400,
            r#"{"error": "invalid_client", "error_description": "invalid client credentials"}"#,
            "refused: invalid client credentials",
            false,
        ),
        (
            401,
            r#"{"error": "invalid_grant"}"#,
            "refused: invalid_grant",
            false,
        ),
        (503, r#"{"error": "busy"}"#, "503", true),
        (200, "<html>welcome</html>", "no JSON of a token", true),
        (200, "{}", "no JSON of a token", true),
        (404, "<html>nothing here</html>", "404", true),
        (200, &large, "length limit exceeded", true),
    ] {
        let (_, login) = Host::start(&[(TOKEN_PATH, status, body)]).await;
        let grant = Grant::ClientCredentials {
            login,
            client: client(),
        };
        let shown = format!("{grant:?}");
        let error = sign_in(grant).await.unwrap_err();
        let text = format!("{error} {error:?} {shown}");
        assert!(text.contains(wanted), "{text}");
        assert!(
            !text.contains("s&cret") && !text.contains("s%26cret"),
            "{text}"
        );
        assert_eq!(error.is_retryable(), is_retryable, "{text}");
    }
}

#[tokio::test]
async fn a_login_host_that_is_not_there_or_elsewhere_in_the_clear() {
    let grant = |login: &str| Grant::ClientCredentials {
        login: login.parse().unwrap(),
        client: client(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let error = sign_in(grant(&format!("http://{addr}"))).await.unwrap_err();
    assert!(
        matches!(error, SignInError::Unreachable(_)) && error.is_retryable(),
        "{error}"
    );
    let error = sign_in(grant("http://login.example.com"))
        .await
        .unwrap_err();
    assert!(matches!(error, SignInError::PlaintextRefused(_)), "{error}");
    for text in [
        "login.example.com",
        "ftp://x",
        "https://a:b@x",
        "https://x/path",
        "",
    ] {
        assert_eq!(text.parse::<LoginUrl>(), Err(LoginUrlError), "{text}");
    }
}

#[tokio::test]
async fn a_command_prints_a_token_or_it_is_told_what_it_did() {
    let good = sign_in_by(SignIn {
        grant: Grant::Command("echo 00D000000000001!abc".into()),
        instance_url: Some("https://t".into()),
        tenant_id: None,
    });
    assert_eq!(good.await.unwrap().access_token, "00D000000000001!abc");
    let json = format!("cat <<'EOF'\n{TOKEN}\nEOF");
    let credentials = sign_in(Grant::Command(json)).await.unwrap();
    assert_eq!(credentials.tenant_id.as_short_str(), "00D000000000001");
    for (command, wanted) in [
        ("exit 3", "ended with exit status: 3"),
        ("true", "printed nothing"),
        ("echo two words", "more than one word"),
        ("echo '{\"token\": \"secret\"}'", "without an access_token"),
        ("head -c 1000000 /dev/zero", "printed more than"),
        ("printf '\\377'", "not UTF-8"),
    ] {
        let error = sign_in(Grant::Command(command.into())).await.unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
        assert!(!error.to_string().contains("secret"));
    }
    let error = sign_in(Grant::Command("echo opaque".into()))
        .await
        .unwrap_err();
    assert!(matches!(error, SignInError::NoTenant), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_hangs_is_given_up() {
    let error = sign_in(Grant::Command("sleep 600".into()))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("took longer than 60 s"),
        "{error}"
    );
}

/// A server without methods, in the clear.
async fn grpc_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let serving = tonic::transport::Server::builder()
        .add_routes(tonic::service::Routes::default())
        .serve_with_incoming(incoming);
    tokio::spawn(serving);
    addr
}

#[tokio::test]
async fn all_who_need_a_new_token_share_one_sign_in() {
    let (host, login) = Host::start(&[(TOKEN_PATH, 200, TOKEN)]).await;
    let url = format!("http://{}", grpc_server().await).parse().unwrap();
    let sign_in = SignIn {
        grant: Grant::ClientCredentials {
            login,
            client: client(),
        },
        instance_url: None,
        tenant_id: None,
    };
    let endpoint = Endpoint::new(url, CredentialSource::SignIn(sign_in));
    let connection = endpoint.connect().await.unwrap();
    assert_eq!(host.asked().len(), 1);
    let seen = connection.credentials_generation();
    let renewals = (0..20).map(|_| connection.renew_credentials(seen));
    for renewed in futures_util::future::join_all(renewals).await {
        renewed.unwrap();
    }
    assert_eq!(host.asked().len(), 2);
    assert_eq!(connection.credentials_generation(), seen + 1);
    let shown = format!("{connection:?} {endpoint:?}");
    assert!(
        !shown.contains("secret-token") && !shown.contains("s&cret"),
        "{shown}"
    );

    host.0.lock().unwrap().answers =
        vec![(TOKEN_PATH, 400, r#"{"error": "invalid_grant"}"#.into())];
    let refused = connection.renew_credentials(seen + 1).await;
    assert!(!refused.unwrap_err().is_retryable());
    let fixed = Credentials {
        access_token: "t".into(),
        tenant_id: "00D000000000001".parse().unwrap(),
        instance_url: "https://t".into(),
    };
    let url = endpoint.url.clone();
    let connection = Endpoint::new(url, fixed).connect().await.unwrap();
    let error = connection.renew_credentials(0).await.unwrap_err();
    assert!(error.to_string().contains("fixed"), "{error}");
}

/// A proxy that counts tunnels and wants to know who comes; it leads everywhere to `to`.
async fn proxy(answer: Option<&'static str>, to: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let tunnels = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tunnels);
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                assert!(
                    head.starts_with("CONNECT gateway.example.com:7443 "),
                    "{head}"
                );
                let is_known = head
                    .to_lowercase()
                    .contains("proxy-authorization: basic bwu6chc=");
                let answer = match (answer, is_known) {
                    (Some(answer), _) => answer,
                    (None, false) => "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
                    (None, true) => "HTTP/1.1 200 OK\r\n\r\n",
                };
                client.write_all(answer.as_bytes()).await.unwrap();
                if answer.contains("200") {
                    count.fetch_add(1, Ordering::SeqCst);
                    let mut server = tokio::net::TcpStream::connect(to).await.unwrap();
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    (addr, tunnels)
}

#[tokio::test]
async fn a_proxy_leads_to_the_gateway_or_is_said_to_be_at_fault() {
    let to = grpc_server().await;
    let connect = async |proxy: String| {
        let credentials = Credentials {
            access_token: "t".into(),
            tenant_id: "00D000000000001".parse().unwrap(),
            instance_url: "https://t".into(),
        };
        let url = "http://gateway.example.com:7443".parse().unwrap();
        let endpoint = Endpoint {
            proxy: Some(proxy.parse::<ProxyUrl>().unwrap()),
            allow_plaintext: true,
            ..Endpoint::new(url, credentials)
        };
        endpoint.connect().await
    };
    let (addr, tunnels) = proxy(None, to).await;
    let connection = connect(format!("http://me:pw@{addr}")).await.unwrap();
    let request = crate::proto::TopicRequest::default();
    let status = connection.pub_sub().get_topic(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    assert_eq!(tunnels.load(Ordering::SeqCst), 1);
    let (busy, _) = proxy(Some("HTTP/1.1 502 Bad Gateway\r\n\r\n"), to).await;
    for (proxy, wanted) in [
        (format!("http://{addr}"), "proxy authorization required"),
        (
            format!("http://me:wrong@{addr}"),
            "proxy authorization required",
        ),
        (format!("http://{busy}"), "unsuccessful"),
    ] {
        let error = connect(proxy).await.unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
        assert!(
            error
                .to_string()
                .contains("through the proxy http://127.0.0.1"),
            "{error}"
        );
        assert!(!error.to_string().contains("wrong"), "{error}");
    }
}
