//! Assertions: JSON web tokens by which a client application signs in for a user.
//!
//! RS256 and nothing else, checked with a key that the client was made with. The time is this
//! gateway's clock. That an id (`jti`) is taken once is seen to by `auth::assertions`.
//!
//! Source: RFC 7523, and the public guide's "OAuth 2.0 JWT Bearer Flow for Server-to-Server
//! Integration".

use jsonwebtoken::{Algorithm, DecodingKey, Validation, dangerous::insecure_decode};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, pem::PemObject};
use serde::Deserialize;
use x509_cert::{
    certificate::{CertificateInner, Raw},
    der::{Decode, Reader, SliceReader, asn1::UintRef, oid::ObjectIdentifier},
    spki::SubjectPublicKeyInfoRef,
};

use crate::{
    clock::Timestamp,
    types::limits::{ASSERTION_LIFETIME_MAX, ASSERTION_SKEW},
};

/// `rsaEncryption` of RFC 8017.
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// What RFC 7518 asks of RS256, and what the library takes at most.
const MODULUS_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;

/// The hosted service's login hosts, which clients name unchanged.
const HOSTED_AUDIENCES: [&str; 2] = [
    "https://login.salesforce.com",
    "https://test.salesforce.com",
];
/// What follows the host where a client names the endpoint itself.
const TOKEN_PATH: &str = "/services/oauth2/token";

/// An RSA public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// The key in this PKCS#1 DER.
    ///
    /// # Errors
    ///
    /// [`CertificateError`].
    pub fn from_der(der: Vec<u8>) -> Result<Self, CertificateError> {
        let bits = modulus_bits(&der).ok_or(CertificateError::NotRsa)?;
        if !MODULUS_BITS.contains(&bits) {
            return Err(CertificateError::Size(bits));
        }
        Ok(Self(der))
    }

    /// The key as PKCS#1 DER.
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }
}

/// Why a certificate cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Neither a certificate nor a public key.
    #[error("wanted a certificate or a public key in PEM")]
    Malformed,
    /// A key of another kind.
    #[error("the certificate's key is not an RSA key; assertions are signed with RS256")]
    NotRsa,
    /// A key that is too short or too long; holds its size in bits.
    #[error("the certificate's RSA key has {0} bits, wanted {min} to {max}", min = MODULUS_BITS.start(), max = MODULUS_BITS.end())]
    Size(usize),
}

/// The key in a certificate, or the public key, that `pem` holds. When it is valid and who signed it is
/// not asked: whoever manages clients has chosen it.
///
/// # Errors
///
/// [`CertificateError`].
pub fn public_key(pem: &str) -> Result<PublicKey, CertificateError> {
    let malformed = |_| CertificateError::Malformed;
    if let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) {
        let certificate =
            CertificateInner::<Raw>::from_der(&der).map_err(|_| CertificateError::Malformed)?;
        let info = certificate.tbs_certificate().subject_public_key_info();
        let key = info.subject_public_key.as_bytes();
        return rsa_key(info.algorithm.oid, key);
    }
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes());
    let der = der.map_err(|_| CertificateError::Malformed)?;
    let info = SubjectPublicKeyInfoRef::from_der(&der).map_err(malformed)?;
    rsa_key(info.algorithm.oid, info.subject_public_key.as_bytes())
}

fn rsa_key(algorithm: ObjectIdentifier, key: Option<&[u8]>) -> Result<PublicKey, CertificateError> {
    if algorithm != RSA_ENCRYPTION {
        return Err(CertificateError::NotRsa);
    }
    PublicKey::from_der(key.ok_or(CertificateError::Malformed)?.to_vec())
}

/// The size of the key in this DER, if it is one.
fn modulus_bits(der: &[u8]) -> Option<usize> {
    let mut reader = SliceReader::new(der).ok()?;
    let modulus = reader.sequence(|reader| {
        let modulus = UintRef::decode(reader)?;
        UintRef::decode(reader)?;
        Ok::<_, x509_cert::der::Error>(modulus)
    });
    let bytes = modulus.ok()?.as_bytes();
    reader.finish().ok()?;
    let first = bytes.first()?;
    Some(bytes.len() * 8 - first.leading_zeros() as usize)
}

/// Why an assertion was refused. All but the first are told only to whoever has the client's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AssertionError {
    /// Not a token, not RS256, of no client, or signed with no key of its client.
    #[error("invalid assertion")]
    Invalid,
    /// For somebody else.
    #[error("audience is invalid")]
    Audience,
    /// Its time is over, or has not come.
    #[error("expired or not yet valid assertion")]
    Expired,
    /// It expires later than is allowed.
    #[error("assertion expires more than 5 minutes ahead")]
    TooFarAhead,
    /// Its id was taken before.
    #[error("assertion was used before")]
    Repeated,
    /// More ids are remembered than may be.
    #[error("too many assertions; try again later")]
    TooMany,
}

/// What an assertion says.
#[derive(Clone, Debug, Deserialize)]
pub struct Claims {
    pub(super) iss: String,
    /// Name of the user that it is about.
    pub sub: String,
    aud: Audience,
    exp: Moment,
    nbf: Option<Moment>,
    pub(super) jti: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}

/// Seconds since the epoch. The public guide's own example writes them as text.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Moment {
    Whole(i64),
    Fraction(f64),
    Text(String),
}

impl Moment {
    fn as_millis(&self) -> Option<i64> {
        match self {
            Self::Whole(seconds) => seconds.checked_mul(1_000),
            // A number too large for its type becomes the largest, which no check lets pass.
            Self::Fraction(seconds) => Some((seconds * 1_000.0) as i64),
            Self::Text(text) => text.parse::<i64>().ok()?.checked_mul(1_000),
        }
    }
}

/// The client that an assertion says it is of. Nothing was checked.
pub(super) fn issuer(assertion: &str) -> Option<String> {
    let decoded = insecure_decode::<Claims>(assertion).ok()?;
    Some(decoded.claims.iss)
}

/// What an assertion says that was signed with one of `keys`.
pub(super) fn verified(assertion: &str, keys: &[PublicKey]) -> Result<Claims, AssertionError> {
    let mut validation = Validation::new(Algorithm::RS256);
    // Times are compared with our clock, the audience without a slash that some add.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    for key in keys {
        let key = DecodingKey::from_rsa_der(key.as_der());
        let Ok(decoded) = jsonwebtoken::decode::<Claims>(assertion, &key, &validation) else {
            continue;
        };
        // RFC 7515 §4.1.11: whoever does not know what is critical has to refuse.
        if decoded.header.crit.is_some() {
            break;
        }
        return Ok(decoded.claims);
    }
    Err(AssertionError::Invalid)
}

impl Claims {
    /// Whether one of those it is for is the hosted service, or one of `ours`: URLs without a path.
    pub(super) fn check_audience(&self, ours: &[&str]) -> Result<(), AssertionError> {
        let is_ours = |name: &String| {
            let name = name.strip_suffix(TOKEN_PATH).unwrap_or(name);
            let name = name.strip_suffix('/').unwrap_or(name);
            HOSTED_AUDIENCES.iter().chain(ours).any(|our| *our == name)
        };
        if self.aud.names().iter().any(is_ours) {
            Ok(())
        } else {
            Err(AssertionError::Audience)
        }
    }

    /// Whether its time has come, is not over, and ends soon. Returns when it is forgotten.
    pub(super) fn check_time(&self, now: Timestamp) -> Result<Timestamp, AssertionError> {
        let moment = |moment: &Moment| {
            let millis = moment.as_millis().ok_or(AssertionError::Invalid)?;
            Ok(Timestamp::from_millis(millis))
        };
        let expires_at = moment(&self.exp)?;
        let begins_at = self.nbf.as_ref().map(moment).transpose()?;
        let forgotten_at = expires_at.saturating_add(ASSERTION_SKEW);
        if forgotten_at <= now
            || begins_at.is_some_and(|at| at > now.saturating_add(ASSERTION_SKEW))
        {
            return Err(AssertionError::Expired);
        }
        let latest = now.saturating_add(ASSERTION_LIFETIME_MAX + ASSERTION_SKEW);
        if expires_at > latest {
            return Err(AssertionError::TooFarAhead);
        }
        Ok(forgotten_at)
    }
}

#[cfg(test)]
mod tests;
