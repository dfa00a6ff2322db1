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
    client::{ClientCertificate, Endpoint, Proxy, ProxyUrl},
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
        audience: None,
    };
    let decoding = jsonwebtoken::DecodingKey::from_rsa_der(key.public_key_raw());
    let decode = |form: &str, audience: &str| {
        let assertion = form.split("assertion=").nth(1).unwrap();
        let assertion = assertion.split('&').next().unwrap();
        let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
        validation.set_audience(&[audience]);
        validation.validate_exp = false;
        let decoded = jsonwebtoken::decode(assertion, &decoding, &validation);
        let claims: serde_json::Value = decoded.unwrap().claims;
        claims
    };
    sign_in(grant()).await.unwrap();
    let claims = decode(&host.asked()[0].1, &login.to_string());
    assert_eq!(claims["iss"], "client");
    assert_eq!(claims["sub"], "me@example.com");
    assert_eq!(claims["exp"], 1_700_000_180);
    let mut elsewhere = grant();
    if let Grant::JwtBearer { audience, .. } = &mut elsewhere {
        *audience = Some("https://login.salesforce.com".into());
    }
    sign_in(elsewhere).await.unwrap();
    decode(&host.asked()[1].1, "https://login.salesforce.com");
    let mut given = grant();
    if let Grant::JwtBearer { key, .. } = &mut given {
        *key = secret("no key");
    }
    let error = sign_in(given).await.unwrap_err();
    assert!(matches!(error, SignInError::Key(_)), "{error}");
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
        (503, r#"{"error": "busy"}"#, "refused for now: busy", true),
        (
            400,
            r#"{"error": "rate_limit_exceeded", "error_description": "too often"}"#,
            "refused for now: too often",
            true,
        ),
        (429, r#"{"error": "odd"}"#, "refused for now: odd", true),
        (200, "<html>welcome</html>", "no JSON of a token", true),
        (200, "{}", "no JSON of a token", true),
        (404, "<html>nothing here</html>", "404", true),
        (401, "<html>no</html>", "refused: 401", false),
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
    let url = endpoint.url.clone();
    let connection = Endpoint::new(url, fixed()).connect().await.unwrap();
    let error = connection.renew_credentials(0).await.unwrap_err();
    assert!(error.to_string().contains("fixed"), "{error}");
}

#[tokio::test]
async fn a_fault_of_soap_passes_or_does_not() {
    let grant = |login| Grant::Password {
        login,
        client: None,
        username: "me@example.com".into(),
        password: secret("pa55"),
    };
    for (code, is_retryable) in [
        ("sf:SERVER_UNAVAILABLE", true),
        ("sf:LOGIN_RATE_EXCEEDED", true),
        ("sf:INVALID_LOGIN", false),
        ("soapenv:Client", false),
    ] {
        let fault = format!(
            "<e:Envelope><e:Body><e:Fault><faultcode>{code}</faultcode>\
             <faultstring>{code}: no</faultstring></e:Fault></e:Body></e:Envelope>"
        );
        let (_, login) = Host::start(&[("/services/Soap/u/", 500, &fault)]).await;
        let error = sign_in(grant(login)).await.unwrap_err();
        assert!(error.to_string().contains(code), "{error}");
        assert_eq!(error.is_retryable(), is_retryable, "{error}");
    }
}

/// A host that takes connections, and says nothing.
async fn silent_host() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await);
        }
    });
    addr
}

#[tokio::test(start_paused = true)]
async fn a_login_host_or_a_proxy_that_says_nothing_is_given_up() {
    let grant = |login: &str| Grant::ClientCredentials {
        login: login.parse().unwrap(),
        client: client(),
    };
    let addr = silent_host().await;
    let error = sign_in(grant(&format!("http://{addr}"))).await.unwrap_err();
    assert!(
        error.to_string().contains("no answer within 5 s"),
        "{error}"
    );
    assert!(error.is_retryable());

    let url: ProxyUrl = format!("http://{addr}").parse().unwrap();
    let endpoint = Endpoint {
        proxy: Some(url.into()),
        ..Endpoint::new("https://gateway.example.com".parse().unwrap(), fixed())
    };
    let error = endpoint.connect().await.unwrap_err();
    assert!(error.to_string().contains("through the proxy"), "{error}");
    assert!(
        error.to_string().contains("no answer within 10 s"),
        "{error}"
    );
}

#[tokio::test]
async fn a_login_host_that_hangs_up_may_be_asked_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let login = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    let error = sign_in(Grant::ClientCredentials {
        login: login.parse().unwrap(),
        client: client(),
    });
    let error = error.await.unwrap_err();
    assert!(matches!(error, SignInError::Unreachable(_)), "{error}");
    assert!(error.is_retryable());
}

/// Credentials that nobody looks at.
fn fixed() -> Credentials {
    Credentials {
        access_token: "t".into(),
        tenant_id: "00D000000000001".parse().unwrap(),
        instance_url: "https://t".into(),
    }
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
        let url = "http://gateway.example.com:7443".parse().unwrap();
        let endpoint = Endpoint {
            proxy: Some(proxy.parse::<ProxyUrl>().unwrap().into()),
            allow_plaintext: true,
            ..Endpoint::new(url, fixed())
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

#[tokio::test]
async fn a_proxy_sees_nothing_of_this_machine_and_of_what_is_exempt() {
    let (host, login) = Host::start(&[(TOKEN_PATH, 200, TOKEN)]).await;
    let (addr, tunnels) = proxy(None, grpc_server().await).await;
    let sign_in = SignIn {
        grant: Grant::ClientCredentials {
            login,
            client: client(),
        },
        instance_url: None,
        tenant_id: None,
    };
    let connect = async |except: &str| {
        let url = "http://gateway.example.com:7443".parse().unwrap();
        let proxy = Proxy {
            url: format!("http://me:pw@{addr}").parse().unwrap(),
            except: except.into(),
        };
        let endpoint = Endpoint {
            proxy: Some(proxy),
            allow_plaintext: true,
            ..Endpoint::new(url, CredentialSource::SignIn(sign_in.clone()))
        };
        endpoint.connect().await
    };
    // The gateway is reached through it; the login host is on this machine.
    connect("other.example.com, 10.0.0.0/8").await.unwrap();
    assert_eq!((host.asked().len(), tunnels.load(Ordering::SeqCst)), (1, 1));
    for exempt in [
        "gateway.example.com",
        ".example.com",
        "*.example.com",
        "gateway.example.com:7443",
        "*",
    ] {
        // There is no such host to be reached directly.
        let error = connect(exempt).await.unwrap_err();
        assert!(!error.to_string().contains("proxy"), "{exempt}: {error}");
    }
    assert_eq!((host.asked().len(), tunnels.load(Ordering::SeqCst)), (6, 1));
}

/// An authority, and what it issued for `localhost` and for a client.
struct Authority {
    directory: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = || rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_key = key();
        let ca = params.self_signed(&ca_key).unwrap();
        fs::write(directory.path().join("ca.pem"), ca.pem()).unwrap();
        let issuer = rcgen::Issuer::new(params, ca_key);
        for name in ["localhost", "client"] {
            let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
            let key = key();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            let file = |end: &str| directory.path().join(format!("{name}.{end}"));
            fs::write(file("pem"), certificate.pem()).unwrap();
            fs::write(file("key"), key.serialize_pem()).unwrap();
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// A server for gRPC that wants a certificate of this authority.
    async fn grpc_server(&self) -> SocketAddr {
        use tonic::transport::{Certificate, Identity, ServerTlsConfig};
        let identity = Identity::from_pem(self.text("localhost.pem"), self.text("localhost.key"));
        let tls = ServerTlsConfig::new()
            .identity(identity)
            .client_ca_root(Certificate::from_pem(self.text("ca.pem")));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let serving = tonic::transport::Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_routes(tonic::service::Routes::default())
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
        tokio::spawn(serving);
        addr
    }

    /// A login host that wants one too, and answers [`TOKEN`].
    async fn login_host(&self) -> SocketAddr {
        let mut roots = rustls::RootCertStore::empty();
        let certificates = |name| crate::net::tls::certificates(&self.path(name)).unwrap();
        roots.add_parsable_certificates(certificates("ca.pem"));
        let provider = crate::net::tls::provider();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            roots.into(),
            Arc::clone(&provider),
        );
        let key = rustls::pki_types::pem::PemObject::from_pem_slice(
            self.text("localhost.key").as_bytes(),
        );
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(certificates("localhost.pem"), key.unwrap())
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let length = TOKEN.len();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{TOKEN}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        addr
    }
}

#[tokio::test]
async fn a_certificate_is_shown_to_gateways_and_login_hosts_that_want_one() {
    let authority = Authority::new();
    let login = authority.login_host().await.port();
    let gateway = authority.grpc_server().await.port();
    let sign_in = SignIn {
        grant: Grant::ClientCredentials {
            login: format!("https://localhost:{login}").parse().unwrap(),
            client: client(),
        },
        instance_url: None,
        tenant_id: None,
    };
    let url: crate::client::EndpointUrl = format!("https://localhost:{gateway}").parse().unwrap();
    let endpoint = |credentials: CredentialSource, has_certificate: bool| Endpoint {
        ca_file: Some(authority.path("ca.pem")),
        client_certificate: has_certificate.then(|| ClientCertificate {
            cert_file: authority.path("client.pem"),
            key_file: authority.path("client.key"),
        }),
        ..Endpoint::new(url.clone(), credentials)
    };
    let signing = || CredentialSource::SignIn(sign_in.clone());
    let call = async |endpoint: Endpoint| {
        let mut client = endpoint.connect().await?.pub_sub();
        let request = crate::proto::TopicRequest::default();
        let status = client.get_topic(request).await.unwrap_err();
        Ok::<_, crate::client::ConnectError>(status)
    };
    let status = call(endpoint(signing(), true)).await.unwrap();
    assert_eq!(status.code(), tonic::Code::Unimplemented, "it was reached");

    let error = call(endpoint(signing(), false)).await.unwrap_err();
    assert!(error.to_string().contains("login host"), "{error}");
    // A server of TLS 1.3 refuses after the client believes to be connected.
    match call(endpoint(fixed().into(), false)).await {
        Ok(status) => assert_ne!(status.code(), tonic::Code::Unimplemented),
        Err(error) => assert!(error.to_string().contains("localhost"), "{error}"),
    }
}
