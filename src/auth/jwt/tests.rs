use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData};
use serde_json::{Value, json};

use super::*;
use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RsaEncoding},
};

const NOW_S: i64 = 1_700_000_000;
const OURS: &[&str] = &["https://localhost:7081"];

fn now() -> Timestamp {
    Timestamp::from_millis(NOW_S * 1_000)
}

fn rsa() -> KeyPair {
    // Making one takes a second: the tests share it.
    static KEY: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
        key.unwrap().serialize_der()
    });
    KeyPair::try_from(KEY.as_slice()).unwrap()
}

fn certificate(key: &KeyPair) -> String {
    CertificateParams::default().self_signed(key).unwrap().pem()
}

fn key() -> PublicKey {
    public_key(&certificate(&rsa())).unwrap()
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn sign_with(
    header: &Value,
    claims: &Value,
    padding: &'static dyn RsaEncoding,
    key: &KeyPair,
) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let key = aws_lc_rs::rsa::KeyPair::from_pkcs8(&key.serialize_der()).unwrap();
    let mut signature = vec![0; key.public_modulus_len()];
    let random = SystemRandom::new();
    key.sign(padding, &random, message.as_bytes(), &mut signature)
        .unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn sign(claims: &Value) -> String {
    sign_with(
        &json!({ "alg": "RS256" }),
        claims,
        &RSA_PKCS1_SHA256,
        &rsa(),
    )
}

fn claims() -> Value {
    json!({
        "iss": "client",
        "sub": "a@b",
        "aud": "https://login.salesforce.com",
        "exp": NOW_S + 180,
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn check(assertion: &str) -> Result<Claims, AssertionError> {
    let claims = verified(assertion, &[key()])?;
    claims.check_audience(OURS)?;
    claims.check_time(now())?;
    Ok(claims)
}

#[test]
fn what_the_client_signed_is_taken() {
    let assertion = sign(&claims());
    assert_eq!(issuer(&assertion).as_deref(), Some("client"));
    assert_eq!(check(&assertion).unwrap().sub, "a@b");
    // A second key, as when one is replaced.
    let other = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let other = public_key(&certificate(&other)).unwrap();
    assert!(verified(&assertion, &[other.clone(), key()]).is_ok());
    assert_eq!(
        verified(&assertion, &[other]).unwrap_err(),
        AssertionError::Invalid
    );
    assert_eq!(
        verified(&assertion, &[]).unwrap_err(),
        AssertionError::Invalid
    );
}

#[test]
fn other_algorithms_are_refused_whatever_they_are_signed_with() {
    let unsigned = |alg: &str| format!("{}.{}.", encode(&json!({ "alg": alg })), encode(&claims()));
    for alg in ["none", "None", "NONE", "RS256", "HS256", "", "RS257"] {
        assert_eq!(
            check(&unsigned(alg)).unwrap_err(),
            AssertionError::Invalid,
            "{alg}"
        );
    }
    // The public key as the secret of a symmetric algorithm, in each form that an attacker has it.
    for secret in [
        key().as_der(),
        certificate(&rsa()).as_bytes(),
        &rsa().subject_public_key_info(),
    ] {
        let message = format!(
            "{}.{}",
            encode(&json!({ "alg": "HS256" })),
            encode(&claims())
        );
        let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
        let tag = aws_lc_rs::hmac::sign(&secret, message.as_bytes());
        let assertion = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag));
        assert_eq!(check(&assertion).unwrap_err(), AssertionError::Invalid);
    }
    let rs384 = sign_with(
        &json!({ "alg": "RS384" }),
        &claims(),
        &RSA_PKCS1_SHA384,
        &rsa(),
    );
    assert_eq!(check(&rs384).unwrap_err(), AssertionError::Invalid);
    let renamed = sign_with(
        &json!({ "alg": "RS256" }),
        &claims(),
        &RSA_PKCS1_SHA384,
        &rsa(),
    );
    assert_eq!(check(&renamed).unwrap_err(), AssertionError::Invalid);
}

#[test]
fn a_changed_assertion_and_a_critical_header_are_refused() {
    let assertion = sign(&claims());
    let [header, _, signature] = assertion.split('.').collect::<Vec<_>>()[..] else {
        panic!("three parts");
    };
    let changed = format!(
        "{header}.{}.{signature}",
        encode(&with("sub", json!("root")))
    );
    assert_eq!(check(&changed).unwrap_err(), AssertionError::Invalid);
    for broken in [
        &assertion[1..],
        &assertion[..assertion.len() - 2],
        "a.b.c",
        "..",
        "",
    ] {
        assert_eq!(
            check(broken).unwrap_err(),
            AssertionError::Invalid,
            "{broken}"
        );
    }
    let critical = json!({ "alg": "RS256", "crit": ["exp"] });
    let critical = sign_with(&critical, &claims(), &RSA_PKCS1_SHA256, &rsa());
    assert_eq!(check(&critical).unwrap_err(), AssertionError::Invalid);
}

#[test]
fn an_assertion_is_for_this_gateway_or_the_hosted_service() {
    let audience = |aud: Value| check(&sign(&with("aud", aud))).map(|_| ());
    for good in [
        json!("https://login.salesforce.com"),
        json!("https://test.salesforce.com/"),
        json!("https://login.salesforce.com/services/oauth2/token"),
        json!("https://localhost:7081"),
        json!(["https://elsewhere", "https://localhost:7081/"]),
    ] {
        assert_eq!(audience(good.clone()), Ok(()), "{good}");
    }
    for wrong in [
        json!("https://elsewhere.example"),
        json!("http://login.salesforce.com"),
        json!("https://login.salesforce.com.elsewhere.example"),
        json!("https://localhost:7081/other"),
        json!(""),
        json!([]),
    ] {
        assert_eq!(
            audience(wrong.clone()),
            Err(AssertionError::Audience),
            "{wrong}"
        );
    }
    for broken in [json!(null), json!(1), json!([1])] {
        assert_eq!(
            audience(broken.clone()),
            Err(AssertionError::Invalid),
            "{broken}"
        );
    }
}

#[test]
fn times_are_within_five_minutes_and_a_little() {
    let at = |name, value| check(&sign(&with(name, value))).map(|_| ());
    let skew = i64::try_from(ASSERTION_SKEW.as_secs()).unwrap();
    for good in [
        json!(NOW_S + 1),
        json!(NOW_S - skew + 1),
        json!(NOW_S + 300 + skew),
        json!(NOW_S as f64 + 60.5),
        json!((NOW_S + 60).to_string()),
    ] {
        assert_eq!(at("exp", good.clone()), Ok(()), "{good}");
    }
    for late in [
        json!(NOW_S - skew),
        json!(0),
        json!(-1),
        json!(-1e300),
        json!("1"),
    ] {
        assert_eq!(
            at("exp", late.clone()),
            Err(AssertionError::Expired),
            "{late}"
        );
    }
    for early in [
        json!(NOW_S + 301 + skew),
        json!(NOW_S * 1_000),
        json!(1e300),
    ] {
        assert_eq!(
            at("exp", early.clone()),
            Err(AssertionError::TooFarAhead),
            "{early}"
        );
    }
    for broken in [json!(null), json!("soon"), json!(i64::MAX), json!({})] {
        assert_eq!(
            at("exp", broken.clone()),
            Err(AssertionError::Invalid),
            "{broken}"
        );
    }
    assert_eq!(at("nbf", json!(NOW_S + skew)), Ok(()));
    assert_eq!(
        at("nbf", json!(NOW_S + skew + 1)),
        Err(AssertionError::Expired)
    );
}

#[test]
fn certificates_and_public_keys_of_rsa_are_read_and_others_refused() {
    let key_pair = rsa();
    let from_certificate = public_key(&certificate(&key_pair)).unwrap();
    assert_eq!(
        public_key(&key_pair.public_key_pem()).unwrap(),
        from_certificate
    );
    assert_eq!(
        PublicKey::from_der(from_certificate.as_der().to_vec()).unwrap(),
        from_certificate
    );

    let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    for pem in [certificate(&other), other.public_key_pem()] {
        assert_eq!(public_key(&pem), Err(CertificateError::NotRsa));
    }
    let private = key_pair.serialize_pem();
    for pem in ["", "hello", &private, &certificate(&key_pair)[..200]] {
        assert_eq!(public_key(pem), Err(CertificateError::Malformed));
    }
    assert!(KeySize::Rsa2048.len() * 8 == *MODULUS_BITS.start());
}

#[test]
fn a_short_key_is_refused_with_its_size() {
    // A sequence of a modulus of 1,024 bits and the exponent 65,537.
    let mut der = vec![0x30, 0x81, 0x89, 0x02, 0x81, 0x81, 0x00];
    der.extend([0xff; 128]);
    der.extend([0x02, 0x03, 0x01, 0x00, 0x01]);
    assert_eq!(PublicKey::from_der(der), Err(CertificateError::Size(1_024)));
    assert_eq!(PublicKey::from_der(vec![]), Err(CertificateError::NotRsa));
}

/// As `openssl x509 -req -signkey` made it, which the public guide tells its readers to use.
#[test]
fn a_certificate_of_version_1_is_read() {
    assert!(public_key(include_str!("version_1.pem")).is_ok());
}

proptest! {
    #[test]
    fn any_text_is_no_assertion(text in "[a-zA-Z0-9_.=-]{0,300}") {
        _ = issuer(&text);
        prop_assert!(verified(&text, &[key()]).is_err());
    }

    #[test]
    fn any_claims_are_read_or_refused(payload in ".{0,100}", exp in any::<f64>()) {
        let header = encode(&json!({ "alg": "RS256" }));
        _ = issuer(&format!("{header}.{}.AAAA", URL_SAFE_NO_PAD.encode(payload)));
        let moment = Moment::Fraction(exp);
        let claims = Claims { exp: moment, ..serde_json::from_value(claims()).unwrap() };
        _ = claims.check_time(now());
    }

    #[test]
    fn any_bytes_are_a_key_or_refused(der in prop::collection::vec(any::<u8>(), 0..200)) {
        _ = PublicKey::from_der(der.clone());
        use base64::engine::general_purpose::STANDARD;
        for label in ["CERTIFICATE", "PUBLIC KEY"] {
            let body = STANDARD.encode(&der);
            _ = public_key(&format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"));
        }
    }
}
