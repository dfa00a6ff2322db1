//! Connections over real sockets: what is found there decides what is said.

use std::{fs, net::SocketAddr, path::Path};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{io::AsyncWriteExt, net::TcpListener};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    service::Routes,
    transport::{Identity, Server, ServerTlsConfig},
};

use super::*;
use crate::proto::TopicRequest;

fn endpoint(scheme: &str, addr: SocketAddr, ca_file: Option<&Path>) -> Endpoint {
    let url = format!("{scheme}://{addr}").parse().unwrap();
    let credentials = Credentials {
        access_token: "00D000000000001!secret".into(),
        tenant_id: "00D000000000001".parse().unwrap(),
        instance_url: "https://localhost".into(),
    };
    Endpoint {
        ca_file: ca_file.map(Path::to_owned),
        ..Endpoint::new(url, credentials)
    }
}

/// A certificate authority, as PEM, and a certificate that it issued for 127.0.0.1.
fn certificates() -> (String, Identity) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let identity = Identity::from_pem(certificate.pem(), key.serialize_pem());
    (authority.pem(), identity)
}

/// A server without methods, over TLS.
async fn serve_tls(identity: Identity) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serving = Server::builder()
        .tls_config(ServerTlsConfig::new().identity(identity))
        .unwrap()
        .add_routes(Routes::default())
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(serving);
    addr
}

#[tokio::test]
async fn a_certificate_of_the_given_authority_is_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    let (ca_pem, identity) = certificates();
    fs::write(&ca_file, ca_pem).unwrap();
    let addr = serve_tls(identity).await;
    let connection = endpoint("https", addr, Some(&ca_file))
        .connect()
        .await
        .unwrap();
    let request = TopicRequest::default();
    let status = connection.pub_sub().get_topic(request).await.unwrap_err();
    let error = CallError::from(status);
    assert_eq!(error.code(), tonic::Code::Unimplemented);
    assert!(!error.is_connection_lost(), "the server answered");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    fs::write(&ca_file, certificates().0).unwrap();
    let addr = serve_tls(certificates().1).await;
    for ca_file in [Some(ca_file.as_path()), None] {
        let error = endpoint("https", addr, ca_file)
            .connect()
            .await
            .unwrap_err();
        assert!(matches!(error, ConnectError::Untrusted { .. }), "{error:?}");
        assert!(!error.is_retryable());
    }
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_refused_with_advice() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    for scheme in ["http", "https"] {
        let error = endpoint(scheme, addr, None).connect().await.unwrap_err();
        assert!(matches!(error, ConnectError::Refused(_)), "{error:?}");
        assert!(error.to_string().contains("`tidegate serve`"), "{error}");
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn a_listener_without_tls_is_recognized() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        // Kept open: a reset would hide what was said.
        std::future::pending::<()>().await;
    });
    let error = endpoint("https", addr, None).connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::NotTls(_)), "{error:?}");
}

#[tokio::test]
async fn plaintext_does_not_leave_this_machine_unless_forced() {
    // An address for documentation: nothing may be sent to it, and nothing would answer.
    let mut endpoint = endpoint("http", "192.0.2.1:7011".parse().unwrap(), None);
    let error = endpoint.connect().await.unwrap_err();
    assert!(
        matches!(error, ConnectError::PlaintextRefused(_)),
        "{error:?}"
    );
    endpoint.allow_plaintext = true;
    let nothing = Credentials {
        access_token: String::new(),
        tenant_id: "00D000000000001".parse().unwrap(),
        instance_url: "https://localhost".into(),
    };
    endpoint.credentials = nothing.into();
    let error = endpoint.connect().await.unwrap_err();
    assert!(
        matches!(error, ConnectError::Credential(_)),
        "past that check: {error:?}"
    );
}

#[tokio::test]
async fn a_file_without_a_certificate_is_no_authority() {
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    let addr = "127.0.0.1:1".parse().unwrap();
    for contents in [
        "",
        "not PEM",
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    ] {
        fs::write(&ca_file, contents).unwrap();
        let error = endpoint("https", addr, Some(&ca_file))
            .connect()
            .await
            .unwrap_err();
        assert!(matches!(error, ConnectError::CaFile { .. }), "{error:?}");
    }
    fs::remove_file(&ca_file).unwrap();
    let error = endpoint("https", addr, Some(&ca_file))
        .connect()
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("ca.pem: No such file"),
        "{error}"
    );
}

#[tokio::test]
async fn a_host_that_is_not_known_is_named() {
    let mut endpoint = endpoint("http", "127.0.0.1:1".parse().unwrap(), None);
    endpoint.url = "https://gateway.invalid:7443".parse().unwrap();
    let error = endpoint.connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Failed { .. }), "{error:?}");
    assert!(error.to_string().contains("https://gateway.invalid:7443"));
}
