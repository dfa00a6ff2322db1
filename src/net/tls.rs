//! TLS for the listeners: from a certificate chain and a key on disk to a server configuration.
//!
//! Both files are PEM. The key has to belong to the first certificate of the chain; whether clients
//! trust that chain is theirs to decide, so neither issuer nor dates are looked at here. TLS 1.2
//! and 1.3, with the provider named in every configuration rather than set for the process, so that
//! a program that embeds this crate keeps its own choice.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    InconsistentKeys, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};

use crate::types::limits::TLS_FILE_BYTES_MAX;

/// Which protocols a listener offers in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/2 only, as gRPC needs.
    Grpc,
    /// HTTP/2, or HTTP/1.1 for clients without it.
    Https,
}

impl Alpn {
    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Grpc => vec![b"h2".to_vec()],
            Self::Https => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        }
    }
}

/// The cryptography of every TLS configuration of this crate.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Reads the certificate chain in `cert`, own certificate first, and its private key in `key`, and
/// returns the configuration of a listener that shows them. Clients are not asked for one.
///
/// Both may be one file. The files are read once: a renewed certificate needs another call.
///
/// # Errors
///
/// [`TlsError`] names the file, what was found in it and what was wanted.
pub fn server_config(cert: &Path, key: &Path, alpn: Alpn) -> Result<Arc<ServerConfig>, TlsError> {
    let certified = certified_key(cert, key)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites for both versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = alpn.protocols();
    Ok(Arc::new(config))
}

/// Reads every certificate of a PEM file, in the order of the file; there is at least one.
///
/// # Errors
///
/// [`TlsError`] if the file cannot be read, is not PEM or has no certificate in it.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path, "certificate")?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| malformed(path, &error))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate {
            path: path.to_owned(),
            found: sections(&text),
        });
    }
    Ok(chain)
}

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The operating system refused to read the file.
    #[error("cannot read the {what} file {path}")]
    Read {
        /// `certificate` or `key`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The file is far larger than any certificate chain.
    #[error("the {what} file {path} is larger than {max} bytes, wanted a PEM file")]
    TooLarge {
        /// `certificate` or `key`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The most that is read.
        max: u64,
    },
    /// A PEM section is damaged.
    #[error("{path} is damaged: found {found}, wanted whole PEM sections")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with the section.
        found: &'static str,
    },
    /// No certificate among the sections of the file.
    #[error("no certificate in {path}: found {found}, wanted a PEM section CERTIFICATE")]
    NoCertificate {
        /// The file.
        path: PathBuf,
        /// The sections there are.
        found: String,
    },
    /// No private key that could be used among the sections of the file.
    #[error(
        "no private key in {path}: found {found}, wanted a PEM section PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY, not encrypted"
    )]
    NoKey {
        /// The file.
        path: PathBuf,
        /// The sections there are.
        found: String,
    },
    /// The first certificate is not one that can be read.
    #[error(
        "the first certificate in {path} cannot be read, wanted an X.509 version 3 certificate"
    )]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What the TLS library said.
        #[source]
        source: rustls::Error,
    },
    /// The key is of a sort that the TLS library does not know.
    #[error("the private key in {path} cannot be used, wanted an ECDSA, Ed25519 or RSA key")]
    Key {
        /// The file.
        path: PathBuf,
        /// What the TLS library said.
        #[source]
        source: rustls::Error,
    },
    /// The key belongs to another certificate.
    #[error(
        "the private key in {key} does not match the first certificate in {cert}, wanted the key that this certificate was issued for"
    )]
    Mismatch {
        /// The certificate file.
        cert: PathBuf,
        /// The key file.
        key: PathBuf,
    },
}

fn certified_key(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(cert)?;
    let private = provider()
        .key_provider
        .load_private_key(private_key(key)?)
        .map_err(|source| TlsError::Key {
            path: key.to_owned(),
            source,
        })?;
    let certified = CertifiedKey::new(chain, private);
    match certified.keys_match() {
        // A key that cannot show its public half is taken on trust, as the TLS library does.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatch {
            cert: cert.to_owned(),
            key: key.to_owned(),
        }),
        Err(source) => Err(TlsError::Certificate {
            path: cert.to_owned(),
            source,
        }),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path, "key")?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey {
            path: path.to_owned(),
            found: sections(&text),
        },
        damaged => malformed(path, &damaged),
    })
}

fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read {
        what,
        path: path.to_owned(),
        source,
    };
    let mut text = Vec::new();
    File::open(path)
        .map_err(failed)?
        .take(TLS_FILE_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > TLS_FILE_BYTES_MAX {
        return Err(TlsError::TooLarge {
            what,
            path: path.to_owned(),
            max: TLS_FILE_BYTES_MAX,
        });
    }
    Ok(text)
}

/// The library's own text may quote lines of the file, which may be lines of a key.
fn malformed(path: &Path, error: &pem::Error) -> TlsError {
    let found = match error {
        pem::Error::MissingSectionEnd { .. } => "a section without its END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line that is cut off",
        pem::Error::Base64Decode(_) => "a section that is not Base64",
        _ => "a section that cannot be read",
    };
    TlsError::Malformed {
        path: path.to_owned(),
        found,
    }
}

/// Names the first PEM sections of a file for an error: their labels, nothing of their content.
fn sections(text: &[u8]) -> String {
    let labels: Vec<_> = text
        .split(|&byte| byte == b'\n')
        .filter_map(|line| {
            let label = line.trim_ascii().strip_prefix(b"-----BEGIN ")?;
            let label = label.strip_suffix(b"-----")?;
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b' ';
            (label.len() <= SECTION_LABEL_BYTES_MAX && label.iter().all(plain))
                .then(|| String::from_utf8_lossy(label).into_owned())
        })
        .take(SECTIONS_NAMED_MAX)
        .collect();
    match labels.as_slice() {
        [] if text.is_empty() => "an empty file".to_owned(),
        [] => "no PEM section".to_owned(),
        labels => format!("only {}", labels.join(", ")),
    }
}

/// The longest label in use is `ENCRYPTED PRIVATE KEY`.
const SECTION_LABEL_BYTES_MAX: usize = 40;
/// Enough to see what sort of file it is.
const SECTIONS_NAMED_MAX: usize = 4;

#[cfg(test)]
pub(crate) mod tests;
