//! A certificate authority and a server certificate for development, made on first use.
//!
//! A directory holds `ca.pem` and `ca.key`, `server.pem` and `server.key`. A client that trusts
//! `ca.pem` accepts the server under `localhost`, `127.0.0.1`, `::1` and the names asked for.
//!
//! What is on disk is judged the way a client judges it: the TLS library verifies the certificate
//! for each name, today and [`RENEWED_BEFORE`] ahead. So nothing has to be remembered beside the
//! files, and a set that is broken, mixed up or half written is simply not accepted and made anew.
//! Only `ca.key` outlives that. A new server certificate comes with a new `ca.pem` of the same name
//! and key: copies of the older `ca.pem` keep working, and the one on disk never ends first.
//!
//! Not for production: the key of the authority lies next to the certificates it signs.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::{ServerName, UnixTime},
};

use super::whole_file::{self, PUBLIC, SECRET};
use crate::{
    clock::Timestamp,
    net::tls::{self, Alpn},
};

/// What the directory is called inside a data directory.
pub const DIR_NAME: &str = "tls";

/// Names that every development certificate has.
pub const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A server certificate that ends sooner than this is replaced.
pub const RENEWED_BEFORE: Duration = days(30);

/// The files of a directory that a listener and its clients need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevCerts {
    /// What clients trust.
    pub ca: PathBuf,
    /// The server's certificate.
    pub cert: PathBuf,
    /// The server's private key, readable by its owner only.
    pub key: PathBuf,
    /// Whether this call made a new server certificate.
    pub created: bool,
}

/// Makes sure that `dir` holds a server certificate for [`LOCAL_NAMES`] and `names` that is valid
/// at `now` and for [`RENEWED_BEFORE`] longer, and returns where its files are.
///
/// A certificate that already is that, with a matching key, is left alone, also if it has further
/// names. Otherwise a new one is issued, by the authority of the directory if it has one. Each file
/// appears whole or not at all; a call that was cut off is made good by the next. The directory is
/// made with mode 0700, key files with mode 0600.
///
/// # Errors
///
/// [`CertError`]; files that were there are untouched unless writing itself failed half-way.
pub fn ensure(dir: &Path, names: &[String], now: Timestamp) -> Result<DevCerts, CertError> {
    let names = wanted_names(names)?;
    let files = DevCerts {
        ca: dir.join("ca.pem"),
        cert: dir.join("server.pem"),
        key: dir.join("server.key"),
        created: false,
    };
    if is_accepted(&files, &names, now).is_some() {
        return Ok(files);
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| failed("make the directory", dir, source))?;
    issue(dir, &files, &names, now)?;
    Ok(DevCerts {
        created: true,
        ..files
    })
}

/// Why there is no development certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertError {
    /// A name that no certificate can be issued for.
    #[error("found the name {found:?}, wanted a host name or an IP address")]
    Name {
        /// What was given.
        found: String,
    },
    /// The key of the authority is there and cannot be used.
    #[error(
        "{path} is not a private key in PEM; restore it, or remove it to have a new authority made"
    )]
    AuthorityKey {
        /// The file.
        path: PathBuf,
        /// What the certificate library said.
        #[source]
        source: rcgen::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

fn wanted_names(extra: &[String]) -> Result<Vec<String>, CertError> {
    let mut names: Vec<String> = LOCAL_NAMES.map(str::to_owned).into();
    for name in extra {
        if ServerName::try_from(name.as_str()).is_err() {
            return Err(CertError::Name {
                found: name.clone(),
            });
        }
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    Ok(names)
}

/// `Some` if a client that trusts the authority on disk would accept the server on disk.
fn is_accepted(files: &DevCerts, names: &[String], now: Timestamp) -> Option<()> {
    tls::server_config(&files.cert, &files.key, Alpn::Grpc).ok()?;
    let chain = tls::certificates(&files.cert).ok()?;
    let mut roots = RootCertStore::empty();
    for authority in tls::certificates(&files.ca).ok()? {
        roots.add(authority).ok()?;
    }
    let client = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), tls::provider())
        .build()
        .ok()?;
    for name in names {
        let name = ServerName::try_from(name.as_str()).ok()?;
        for ahead in [Duration::ZERO, RENEWED_BEFORE] {
            let moment = UnixTime::since_unix_epoch(since_epoch(now) + ahead);
            client
                .verify_server_cert(&chain[0], &chain[1..], &name, &[], moment)
                .ok()?;
        }
    }
    Some(())
}

fn issue(dir: &Path, files: &DevCerts, names: &[String], now: Timestamp) -> Result<(), CertError> {
    let authority_key = authority_key(&dir.join("ca.key"))?;
    let authority =
        CertifiedIssuer::self_signed(authority_params(&authority_key, now), authority_key)?;
    let server_key = KeyPair::generate()?;
    let server = server_params(names, now)?.signed_by(&server_key, &authority)?;
    write_whole(&files.ca, &authority.pem(), PUBLIC)?;
    write_whole(&files.key, &server_key.serialize_pem(), SECRET)?;
    write_whole(&files.cert, &server.pem(), PUBLIC)
}

/// The key of the authority, made and written if there is none.
fn authority_key(path: &Path) -> Result<KeyPair, CertError> {
    match fs::read_to_string(path) {
        Ok(text) => KeyPair::from_pem(&text).map_err(|source| CertError::AuthorityKey {
            path: path.to_owned(),
            source,
        }),
        Err(absent) if absent.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate()?;
            write_whole(path, &key.serialize_pem(), SECRET)?;
            Ok(key)
        }
        Err(source) => Err(failed("read", path, source)),
    }
}

/// The authority's name follows from its key: reissued it is the same authority, and two of them on
/// one machine can be told apart.
fn authority_params(key: &KeyPair, now: Timestamp) -> CertificateParams {
    let mut params = params(now, AUTHORITY_VALID);
    let id: String = params.key_identifier(key)[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let name = format!("Tidegate development CA {id}");
    params.distinguished_name.push(DnType::CommonName, name);
    // It signs servers, not further authorities.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn server_params(names: &[String], now: Timestamp) -> Result<CertificateParams, CertError> {
    let mut params = params(now, SERVER_VALID);
    params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
    params
        .distinguished_name
        .push(DnType::CommonName, "Tidegate development server");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn params(now: Timestamp, valid: Duration) -> CertificateParams {
    let epoch = date_time_ymd(1970, 1, 1);
    let now = since_epoch(now);
    let mut params = CertificateParams::default();
    // Verifiers need not know times before the epoch.
    params.not_before = epoch + now.saturating_sub(CLOCK_SKEW);
    params.not_after = epoch + now + valid;
    params.distinguished_name = DistinguishedName::new();
    params
}

/// `now` as certificates can say it: their years end with 9999.
fn since_epoch(now: Timestamp) -> Duration {
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    Duration::from_millis(millis).min(LATEST)
}

fn write_whole(path: &Path, text: &str, mode: u32) -> Result<(), CertError> {
    whole_file::write(path, text.as_bytes(), mode).map_err(|source| failed("write", path, source))
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> CertError {
    CertError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

const fn days(count: u64) -> Duration {
    Duration::from_secs(count * 24 * 3_600)
}

/// Longer than 398 days is refused by some clients.
const SERVER_VALID: Duration = days(397);
/// Clients keep copies of `ca.pem`.
const AUTHORITY_VALID: Duration = days(3_650);
/// How far behind the clock of a client may be.
const CLOCK_SKEW: Duration = days(1);
/// About the year 9000: room for the authority's years before the last that can be written.
const LATEST: Duration = days(7_000 * 365);

#[cfg(test)]
mod tests;
