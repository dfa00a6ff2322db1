//! An assertion that a client signs with its RSA key.
//!
//! The JWT is put together here: the library that reads them takes keys in one of the two forms that
//! such files come in.
//!
//! Source: RFC 7519; RFC 7523, section 3; RFC 7518, "RS256".

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::json;

use crate::clock::Timestamp;

/// How long an assertion is good: the hosted service takes no more than five minutes, and clocks
/// differ.
const GOOD_FOR_SECONDS: i64 = 180;

/// Signs that `client_id` may act for `username` at `audience`; or says what is wrong with the key.
pub(super) fn sign(
    key_pem: &str,
    client_id: &str,
    username: &str,
    audience: &str,
    now: Timestamp,
) -> Result<String, &'static str> {
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes());
    let key = match key.map_err(|_| "found no private key in PEM form")? {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        _ => return Err("the private key is not of RSA"),
    };
    let key = key.map_err(|_| "the private key is not one of RSA that is long enough")?;
    let claims = json!({
        "iss": client_id,
        "sub": username,
        "aud": audience,
        "exp": now.as_millis() / 1_000 + GOOD_FOR_SECONDS,
        // Each opens the door once.
        "jti": uuid::Uuid::new_v4().to_string(),
    });
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(json!({"alg": "RS256"})), part(claims));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )
    .map_err(|_| "the private key does not sign")?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
