//! Signing in by an assertion: a row for each that is refused.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{hmac, rand::SystemRandom, signature::RSA_PKCS1_SHA256};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize};
use serde_json::{Value, json};

use super::{Setup, USERNAME, command, text};
use crate::support::http::Answer;

pub(super) fn rsa() -> KeyPair {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap()
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn sign(claims: &Value, key: &KeyPair) -> String {
    let message = format!("{}.{}", encode(&json!({ "alg": "RS256" })), encode(claims));
    let key = aws_lc_rs::rsa::KeyPair::from_pkcs8(&key.serialize_der()).unwrap();
    let mut signature = vec![0; key.public_modulus_len()];
    let random = SystemRandom::new();
    key.sign(
        &RSA_PKCS1_SHA256,
        &random,
        message.as_bytes(),
        &mut signature,
    )
    .unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

async fn bearer(setup: &Setup, assertion: &str) -> Answer {
    let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    setup
        .token(&format!("grant_type={grant}&assertion={assertion}"))
        .await
}

/// Makes a client application that signs with `key`; returns it, and the certificate in PEM.
pub(super) fn signer(setup: &Setup, key: &KeyPair) -> (Value, String) {
    let certificate = CertificateParams::default().self_signed(key).unwrap();
    let file = setup.gateway.dir().join("client.crt");
    fs::write(&file, certificate.pem()).unwrap();
    let create = format!(
        "client create --name signer --certificate {}",
        file.display()
    );
    (command(&setup.gateway, &create), certificate.pem())
}

#[tokio::test]
async fn an_assertion_signs_a_user_in_and_every_other_is_refused() {
    let setup = Setup::lenient();
    let key = rsa();
    let (client, certificate) = signer(&setup, &key);
    assert_eq!(client["certificates"], 1);
    let client_id = text(&client, "client_id");

    let claims = json!({
        "iss": client_id,
        "sub": USERNAME.to_uppercase(),
        "aud": "https://login.salesforce.com",
        "exp": now_s() + 180,
    });
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        sign(&claims, &key)
    };
    for good in [
        sign(&claims, &key),
        // The same again: it has no id.
        sign(&claims, &key),
        with("aud", json!("https://test.salesforce.com")),
        with("aud", json!("http://localhost")),
        with("aud", json!(setup.gateway.ready().instance_url)),
        with("jti", json!("first")),
    ] {
        let answer = bearer(&setup, &good).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.json().get("refresh_token").is_none());
        setup
            .call(&text(&answer.json(), "access_token"))
            .await
            .unwrap();
    }

    let message = |alg: &str| format!("{}.{}", encode(&json!({ "alg": alg })), encode(&claims));
    let hs256 = |secret: &[u8]| {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let tag = hmac::sign(&secret, message("HS256").as_bytes());
        format!("{}.{}", message("HS256"), URL_SAFE_NO_PAD.encode(tag))
    };
    let invalid = "invalid assertion";
    let not_approved = "user hasn't approved this consumer";
    for (assertion, wanted) in [
        (format!("{}.", message("none")), invalid),
        (format!("{}.", message("RS256")), invalid),
        (hs256(certificate.as_bytes()), invalid),
        (hs256(&key.subject_public_key_info()), invalid),
        (sign(&claims, &rsa()), invalid),
        ("a.b.c".into(), invalid),
        ("no-assertion".into(), invalid),
        (with("iss", json!("nobody")), invalid),
        // A client without a certificate.
        (with("iss", json!(setup.client_id)), invalid),
        (with("exp", json!(null)), invalid),
        (
            with("aud", json!("https://elsewhere.example")),
            "audience is invalid",
        ),
        (
            with("exp", json!(now_s() - 60)),
            "expired or not yet valid assertion",
        ),
        (
            with("nbf", json!(now_s() + 120)),
            "expired or not yet valid assertion",
        ),
        (
            with("exp", json!(now_s() + 400)),
            "assertion expires more than 5 minutes ahead",
        ),
        (with("sub", json!("nobody")), not_approved),
        (with("jti", json!("first")), "assertion was used before"),
    ] {
        let answer = bearer(&setup, &assertion).await;
        let json = answer.json();
        assert_eq!(
            (
                answer.status,
                text(&json, "error"),
                text(&json, "error_description")
            ),
            (400, "invalid_grant".into(), wanted.into()),
            "{assertion}"
        );
    }
}

#[tokio::test]
async fn an_address_that_forges_too_often_is_locked_out_and_none_with_the_right_key() {
    let setup = Setup::with(vec![(
        "TIDEGATE_AUTH__SIGN_IN_FAILURES_PER_ADDRESS_MAX",
        "2",
    )]);
    let key = rsa();
    let (client, _) = signer(&setup, &key);
    let claims = |sub: &str| {
        json!({
            "iss": client["client_id"],
            "sub": sub,
            "aud": "https://login.salesforce.com",
            "exp": now_s() + 180,
        })
    };
    let error = async |assertion: &str| {
        let answer = bearer(&setup, assertion).await.json();
        answer["error"].as_str().unwrap_or("none").to_owned()
    };
    let good = sign(&claims(USERNAME), &key);
    // Whoever has the key guesses nothing, however often it is for nobody.
    for _ in 0..4 {
        let for_nobody = sign(&claims("nobody"), &key);
        assert_eq!(error(&for_nobody).await, "invalid_grant");
    }
    assert_eq!(error(&good).await, "none");
    for _ in 0..2 {
        let forged = sign(&claims(USERNAME), &rsa());
        assert_eq!(error(&forged).await, "invalid_grant");
    }
    assert_eq!(error(&good).await, "rate_limit_exceeded");
}
