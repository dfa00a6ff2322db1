//! The token endpoint.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Setup, TOKEN, USERNAME, post, text};
use crate::support::http::{get, send, send_tls, value_of};

#[tokio::test]
async fn each_grant_gives_a_token_that_calls_are_made_with() {
    let setup = Setup::lenient();
    let tenant = setup.gateway.ready().tenant_id.clone();
    let by_client = setup.token(&setup.grant("client_credentials", "")).await;
    let by_password = setup.token(&setup.password_grant()).await;
    let refresh_token = text(&by_password.json(), "refresh_token");
    let rest = format!("refresh_token={refresh_token}");
    let by_refresh = setup.token(&setup.grant("refresh_token", &rest)).await;
    for (answer, has_refresh) in [
        (&by_client, false),
        (&by_password, true),
        (&by_refresh, false),
    ] {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/json;charset=UTF-8")
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let json = answer.json();
        let token = text(&json, "access_token");
        assert!(token.starts_with(&format!("{}!", &tenant[..15])), "{token}");
        assert_eq!(json["token_type"], "Bearer");
        assert_eq!(
            text(&json, "instance_url"),
            setup.gateway.ready().instance_url
        );
        assert!(text(&json, "issued_at").parse::<i64>().unwrap() > 1_700_000_000_000);
        let id = text(&json, "id");
        let user = id.strip_prefix(&format!("http://localhost/id/{tenant}/005"));
        assert_eq!(user.map(str::len), Some(15), "{id}");
        assert_eq!(json.get("refresh_token").is_some(), has_refresh);
        let key = hmac::Key::new(hmac::HMAC_SHA256, setup.client_secret.as_bytes());
        let signed = format!("{id}{}", text(&json, "issued_at"));
        let signature = STANDARD.decode(text(&json, "signature")).unwrap();
        hmac::verify(&key, signed.as_bytes(), &signature).unwrap();
        setup.call(&token).await.unwrap();
    }
    assert!(
        setup.call(&refresh_token).await.is_err(),
        "it makes no calls"
    );
    let (_, metrics) = get(&setup.gateway, "/metrics").await;
    let series = "tidegate_sign_ins_total{flow=\"password\",outcome=\"ok\"}";
    assert_eq!(value_of(&metrics, series), 1.0);
}

#[tokio::test]
async fn a_client_may_show_its_secret_in_a_header_and_come_over_tls() {
    let setup = Setup::lenient();
    let (id, secret) = (&setup.client_id, &setup.client_secret);
    let request = |credentials: &str, form: &str| {
        let basic = STANDARD.encode(credentials);
        post(
            TOKEN,
            "application/x-www-form-urlencoded; charset=utf-8",
            form,
        )
        .replace(
            "\r\nconnection",
            &format!("\r\nauthorization: Basic {basic}\r\nconnection"),
        )
    };
    let grant = "grant_type=client_credentials";
    for form in [grant.to_owned(), format!("{grant}&client_id={id}")] {
        let request = request(&format!("{id}:{secret}"), &form);
        let answer = send(&setup.gateway, request.as_bytes()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = send_tls(&setup.gateway, request.as_bytes()).await;
        assert!(text(&answer.json(), "id").starts_with("https://localhost/id/"));
    }
    for (credentials, form, error) in [
        (format!("{id}:wrong"), grant.to_owned(), "invalid_client"),
        (format!("{id}:"), grant.to_owned(), "invalid_client"),
        (id.clone(), grant.to_owned(), "invalid_request"),
        (
            format!("{id}:{secret}"),
            format!("{grant}&client_id=other"),
            "invalid_request",
        ),
        (
            format!("{id}:{secret}"),
            format!("{grant}&client_secret={secret}"),
            "invalid_request",
        ),
    ] {
        let answer = send(&setup.gateway, request(&credentials, &form).as_bytes()).await;
        assert_eq!(
            (answer.status, text(&answer.json(), "error")),
            (400, error.into())
        );
    }
}

#[tokio::test]
async fn refusals_have_the_hosted_words_and_do_not_say_which_part_is_wrong() {
    let setup = Setup::lenient();
    let (id, secret, password) = (&setup.client_id, &setup.client_secret, &setup.password);
    let client = format!("client_id={id}&client_secret={secret}");
    let wrong_client = "invalid_client: invalid client credentials";
    let wrong_user = "invalid_grant: authentication failure";
    for (form, wanted) in [
        (
            String::new(),
            "invalid_request: missing required parameter: grant_type",
        ),
        (
            "grant_type=".into(),
            "invalid_request: missing required parameter: grant_type",
        ),
        (
            "grant_type=implicit".into(),
            "unsupported_grant_type: grant type not supported",
        ),
        (
            "grant_type=client_credentials".into(),
            "invalid_client_id: client identifier invalid",
        ),
        (
            format!("grant_type=client_credentials&client_id={id}"),
            wrong_client,
        ),
        (
            format!("grant_type=client_credentials&client_id={id}&client_secret=wrong"),
            wrong_client,
        ),
        (
            format!("grant_type=client_credentials&client_id=nobody&client_secret={secret}"),
            wrong_client,
        ),
        (
            format!(
                "grant_type=client_credentials&client_id={}&client_secret={secret}",
                id.to_uppercase()
            ),
            wrong_client,
        ),
        (
            format!(
                "grant_type=password&client_id={id}&client_secret=wrong&username={USERNAME}&password={password}"
            ),
            wrong_client,
        ),
        (
            format!("grant_type=password&{client}&username={USERNAME}&password=wrong"),
            wrong_user,
        ),
        (
            format!("grant_type=password&{client}&username=nobody&password={password}"),
            wrong_user,
        ),
        (
            format!("grant_type=password&{client}&username={USERNAME}"),
            "invalid_request: missing required parameter: password",
        ),
        (
            format!("grant_type=refresh_token&{client}&refresh_token=nothing"),
            "invalid_grant: expired access/refresh token",
        ),
        (
            format!("grant_type=refresh_token&{client}"),
            "invalid_request: missing required parameter: refresh_token",
        ),
        (
            "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer".into(),
            "invalid_request: missing required parameter: assertion",
        ),
        (
            "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&assertion=a.b.c".into(),
            "invalid_grant: invalid assertion",
        ),
        (
            format!("grant_type=client_credentials&grant_type=password&{client}"),
            "invalid_request: the form is malformed, or has a parameter more than once",
        ),
        (
            "grant_type=%FF".into(),
            "invalid_request: the body is not text in UTF-8",
        ),
    ] {
        let answer = setup.token(&form).await;
        let json = answer.json();
        let found = format!(
            "{}: {}",
            text(&json, "error"),
            text(&json, "error_description")
        );
        assert_eq!((answer.status, &*found), (400, wanted), "{form}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(!answer.body.contains(secret) && !answer.body.contains(password));
    }
    // As it is sent by a client that sends the whole form with the colons escaped.
    let escaped = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=x";
    assert_eq!(
        text(&setup.token(escaped).await.json(), "error"),
        "invalid_grant"
    );
}

#[tokio::test]
async fn what_is_no_form_of_this_endpoint_is_refused() {
    let setup = Setup::lenient();
    let grant = setup.grant("client_credentials", "");
    let form = "application/x-www-form-urlencoded";
    let good = post(TOKEN, form, &grant);
    let large = setup.grant("client_credentials", &format!("x={}", "x".repeat(70_000)));
    for (request, status) in [
        (good.clone(), 200),
        (post(TOKEN, "application/json", &grant), 415),
        (
            post(
                TOKEN,
                "application/x-www-form-urlencoded;charset=utf-16",
                &grant,
            ),
            415,
        ),
        (
            good.replace("connection:", "content-encoding: gzip\r\nconnection:"),
            415,
        ),
        (post(TOKEN, form, &large), 413),
        (good.replace("host: localhost", "host: <b>"), 400),
        (good.replace("host: localhost", "host: a@b"), 400),
        (good.replace("POST", "GET"), 405),
        (good.replace("POST", "PUT"), 405),
        (good.replace("oauth2/token", "oauth2/unknown"), 404),
    ] {
        let answer = send(&setup.gateway, request.as_bytes()).await;
        assert_eq!(answer.status, status, "{answer:?}");
        if [400, 413, 415].contains(&status) {
            assert_eq!(text(&answer.json(), "error"), "invalid_request");
        }
    }
    let chunked = format!(
        "POST {TOKEN} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: {form}\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{grant}\r\n0\r\n\r\n",
        grant.len()
    );
    assert_eq!(send(&setup.gateway, chunked.as_bytes()).await.status, 200);
}

#[tokio::test]
async fn who_fails_too_often_is_told_to_come_back_later() {
    let setup = Setup::with(vec![("TIDEGATE_AUTH__SIGN_IN_FAILURES_MAX", "3")]);
    let wrong = setup.password_grant().replace(&setup.password, "wrong");
    // Somebody there is not is locked out like everybody: it tells nothing.
    let nobody = setup.password_grant().replace(USERNAME, "nobody");
    for form in [&wrong, &nobody] {
        for _ in 0..3 {
            assert_eq!(
                text(&setup.token(form).await.json(), "error"),
                "invalid_grant"
            );
        }
    }
    for form in [&wrong, &nobody, &setup.password_grant()] {
        let answer = setup.token(form).await;
        assert_eq!(answer.status, 400);
        assert_eq!(text(&answer.json(), "error"), "rate_limit_exceeded");
        assert_eq!(
            text(&answer.json(), "error_description"),
            "login rate exceeded"
        );
        let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=901).contains(&seconds));
    }
    setup.access_token().await;
}

#[tokio::test]
async fn who_fails_from_one_address_is_locked_out_under_every_name() {
    let setup = Setup::with(vec![(
        "TIDEGATE_AUTH__SIGN_IN_FAILURES_PER_ADDRESS_MAX",
        "3",
    )]);
    for name in ["a", "b", "c"] {
        let form = format!("grant_type=client_credentials&client_id={name}&client_secret=x");
        assert_eq!(
            text(&setup.token(&form).await.json(), "error"),
            "invalid_client"
        );
    }
    let answer = setup.token(&setup.grant("client_credentials", "")).await;
    assert_eq!(text(&answer.json(), "error"), "rate_limit_exceeded");
}
