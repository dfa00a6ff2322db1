use std::fs;

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConnection, pki_types::ServerName,
};

use super::*;

/// Shakes hands in memory as a client that trusts the certificates in `ca` and connects to `name`;
/// returns the protocol both agreed on.
pub(crate) fn handshake(
    server: Arc<ServerConfig>,
    ca: &Path,
    name: &str,
    offered: &[&[u8]],
) -> Result<Option<Vec<u8>>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca).unwrap() {
        roots.add(certificate).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name)?;
    let mut server = ServerConnection::new(server)?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut unread = wire.as_slice();
        while !unread.is_empty() {
            server.read_tls(&mut unread).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut unread = wire.as_slice();
        while !unread.is_empty() {
            client.read_tls(&mut unread).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(client.alpn_protocol().map(<[u8]>::to_vec))
}

/// A directory with a self-signed certificate for `localhost`, its key, and another key.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        files.write("cert.pem", &own.cert.pem());
        files.write("cert.key", &own.signing_key.serialize_pem());
        let other = rcgen::KeyPair::generate().unwrap();
        files.write("other.key", &other.serialize_pem());
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn refusal(&self, cert: &str, key: &str) -> String {
        let refused = server_config(&self.path(cert), &self.path(key), Alpn::Grpc).unwrap_err();
        refused
            .to_string()
            .replace(&format!("{}/", self.dir.path().display()), "")
    }
}

#[test]
fn certificate_and_key_serve_a_client_that_trusts_them() {
    let files = Files::new();
    let cert = files.path("cert.pem");
    let grpc = server_config(&cert, &files.path("cert.key"), Alpn::Grpc).unwrap();
    let agreed = handshake(grpc, &cert, "localhost", &[b"h2", b"http/1.1"]);
    assert_eq!(agreed.unwrap().as_deref(), Some(&b"h2"[..]));
}

#[test]
fn https_falls_back_to_http_1_and_grpc_does_not() {
    let files = Files::new();
    let (cert, key) = (files.path("cert.pem"), files.path("cert.key"));
    let https = server_config(&cert, &key, Alpn::Https).unwrap();
    let agreed = handshake(https, &cert, "localhost", &[b"http/1.1"]);
    assert_eq!(agreed.unwrap().as_deref(), Some(&b"http/1.1"[..]));
    let grpc = server_config(&cert, &key, Alpn::Grpc).unwrap();
    assert!(handshake(grpc, &cert, "localhost", &[b"http/1.1"]).is_err());
}

#[test]
fn certificate_and_key_may_share_a_file() {
    let files = Files::new();
    let read = |name| fs::read_to_string(files.path(name)).unwrap();
    let both = files.write("both.pem", &(read("cert.key") + &read("cert.pem")));
    server_config(&both, &both, Alpn::Grpc).unwrap();
}

#[test]
fn missing_file_is_named() {
    let files = Files::new();
    assert_eq!(
        files.refusal("absent.pem", "cert.key"),
        "cannot read the certificate file absent.pem"
    );
    assert_eq!(
        files.refusal("cert.pem", "absent.key"),
        "cannot read the key file absent.key"
    );
}

#[test]
fn directory_in_place_of_a_file_is_unreadable() {
    let files = Files::new();
    fs::create_dir(files.path("dir")).unwrap();
    assert_eq!(
        files.refusal("dir", "cert.key"),
        "cannot read the certificate file dir"
    );
    assert_eq!(
        files.refusal("cert.pem", "dir"),
        "cannot read the key file dir"
    );
}

#[test]
fn file_without_certificate_says_what_it_has() {
    let files = Files::new();
    files.write("empty.pem", "");
    files.write("text.pem", "not a certificate\n");
    let wanted = "wanted a PEM section CERTIFICATE";
    assert_eq!(
        files.refusal("cert.key", "cert.key"),
        format!("no certificate in cert.key: found only PRIVATE KEY, {wanted}")
    );
    assert_eq!(
        files.refusal("empty.pem", "cert.key"),
        format!("no certificate in empty.pem: found an empty file, {wanted}")
    );
    assert_eq!(
        files.refusal("text.pem", "cert.key"),
        format!("no certificate in text.pem: found no PEM section, {wanted}")
    );
}

#[test]
fn file_without_usable_key_says_what_it_has() {
    let files = Files::new();
    let label = "ENCRYPTED PRIVATE KEY";
    files.write(
        "encrypted.key",
        &format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n"),
    );
    let refusal = files.refusal("cert.pem", "cert.pem");
    assert!(refusal.starts_with("no private key in cert.pem: found only CERTIFICATE, wanted"));
    let refusal = files.refusal("cert.pem", "encrypted.key");
    assert!(
        refusal.starts_with("no private key in encrypted.key: found only ENCRYPTED PRIVATE KEY,")
    );
}

#[test]
fn key_of_another_certificate_is_refused() {
    let refusal = Files::new().refusal("cert.pem", "other.key");
    assert!(
        refusal.starts_with(
            "the private key in other.key does not match the first certificate in cert.pem"
        ),
        "{refusal}"
    );
}

#[test]
fn damaged_files_are_refused_without_quoting_them() {
    let files = Files::new();
    let key = fs::read_to_string(files.path("cert.key")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    files.write("cut.key", &key[..key.len() / 2]);
    files.write("spoiled.key", &key.replace(&secret[..4], "?!?!"));
    assert_eq!(
        files.refusal("cert.pem", "cut.key"),
        "cut.key is damaged: found a section without its END line, wanted whole PEM sections"
    );
    let refusal = files.refusal("cert.pem", "spoiled.key");
    assert!(refusal.starts_with("spoiled.key is damaged: found a section that is not Base64"));
    assert!(!refusal.contains(&secret[4..]));
}

#[test]
fn sections_that_are_not_what_their_label_says_are_refused() {
    let files = Files::new();
    let section = |label| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
    files.write("odd.pem", &section("CERTIFICATE"));
    files.write("odd.key", &section("PRIVATE KEY"));
    let refusal = files.refusal("odd.pem", "cert.key");
    assert!(refusal.starts_with("the first certificate in odd.pem cannot be read"));
    let refusal = files.refusal("cert.pem", "odd.key");
    assert!(refusal.starts_with("the private key in odd.key cannot be used"));
}

#[test]
fn file_that_never_ends_is_refused() {
    let refused = certificates(Path::new("/dev/zero")).unwrap_err();
    assert!(matches!(refused, TlsError::TooLarge { .. }));
}
