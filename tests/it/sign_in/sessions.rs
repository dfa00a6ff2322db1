//! What is done with a token: who it is of, and its end.

use std::time::Duration;

use super::{Setup, USERNAME, command, text};
use crate::support::{
    client::{Call, Client, code},
    gateway::Gateway,
    http::{Answer, send, send_tls},
    order::{self, TOPIC},
    wire::{FetchRequest, PublishRequest},
};

async fn userinfo(gateway: &Gateway, method: &str, authorization: &str) -> Answer {
    send(gateway, request(method, authorization).as_bytes()).await
}

fn request(method: &str, authorization: &str) -> String {
    format!(
        "{method} /services/oauth2/userinfo HTTP/1.1\r\nhost: localhost:1\r\nconnection: close\r\ncontent-length: 0\r\n{authorization}\r\n"
    )
}

#[tokio::test]
async fn a_bearer_is_told_who_they_are() {
    let setup = Setup::lenient();
    let tenant = &setup.gateway.ready().tenant_id;
    let by_password = setup.token(&setup.password_grant()).await.json();
    let by_user = text(&by_password, "access_token");
    let by_client = setup.access_token().await;
    let by_admin = setup.gateway.ready().access_token.clone();
    for (token, name) in [
        (&by_user, "shop@example.com"),
        (&by_client, "shop"),
        (&by_admin, "administrator"),
    ] {
        for method in ["GET", "POST"] {
            let authorization = format!("authorization: Bearer {token}\r\n");
            let answer = userinfo(&setup.gateway, method, &authorization).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let json = answer.json();
            assert_eq!(text(&json, "organization_id"), *tenant);
            assert_eq!(text(&json, "preferred_username"), name);
            let user_id = text(&json, "user_id");
            assert!(
                user_id.starts_with("005") && user_id.len() == 18,
                "{user_id}"
            );
            let sub = format!("http://localhost:1/id/{tenant}/{user_id}");
            assert_eq!(text(&json, "sub"), sub);
        }
    }
    // A word that clients used before there was the other, and any case.
    for scheme in ["OAuth", "bearer"] {
        let authorization = format!("authorization: {scheme} {by_user}\r\n");
        let answer = userinfo(&setup.gateway, "GET", &authorization).await;
        assert_eq!(answer.status, 200, "{scheme}: {answer:?}");
    }
    let authorization = format!("authorization: Bearer {by_user}\r\n");
    let over_tls = send_tls(&setup.gateway, request("GET", &authorization).as_bytes()).await;
    assert!(text(&over_tls.json(), "sub").starts_with("https://localhost:1/id/"));
    assert!(text(&by_password, "id").ends_with(&text(&over_tls.json(), "user_id")));

    let refresh = text(&by_password, "refresh_token");
    for (authorization, wanted) in [
        (String::new(), "Missing_OAuth_Token"),
        ("authorization: Bearer \r\n".into(), "Missing_OAuth_Token"),
        (
            format!("authorization: Basic {by_user}\r\n"),
            "Missing_OAuth_Token",
        ),
        (
            "authorization: Bearer nothing\r\n".into(),
            "Bad_OAuth_Token",
        ),
        (
            format!("authorization: Bearer {by_user}x\r\n"),
            "Bad_OAuth_Token",
        ),
        (
            format!("authorization: Bearer {refresh}\r\n"),
            "Bad_OAuth_Token",
        ),
    ] {
        let answer = userinfo(&setup.gateway, "GET", &authorization).await;
        assert_eq!(
            (answer.status, &*answer.body),
            (403, wanted),
            "{authorization}"
        );
    }
}

#[tokio::test]
async fn a_token_is_revoked_by_form_or_query_and_again() {
    let setup = Setup::lenient();
    let path = "/services/oauth2/revoke";
    let by_form = setup.access_token().await;
    let by_query = setup.access_token().await;
    let kept = setup.access_token().await;
    let password = setup.token(&setup.password_grant()).await.json();
    for _ in 0..2 {
        let form = format!("token={by_form}");
        assert_eq!(setup.post(path, &form).await.status, 200);
        let query = format!(
            "GET {path}?token={by_query} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        );
        assert_eq!(send(&setup.gateway, query.as_bytes()).await.status, 200);
        let form = format!("token={}", text(&password, "refresh_token"));
        assert_eq!(setup.post(path, &form).await.status, 200);
    }
    let with_refresh = text(&password, "access_token");
    for token in [&by_form, &by_query, &with_refresh] {
        let refused = setup.call(token).await.unwrap_err();
        refused.expect("GetTopic", code::UNAUTHENTICATED, "service.auth.error");
    }
    setup.call(&kept).await.unwrap();
    assert_eq!(setup.post(path, "token=nothing").await.status, 200);
    assert_eq!(setup.post(path, "").await.status, 400);
}

#[tokio::test]
async fn tokens_of_who_was_deleted_open_nothing_also_after_a_restart() {
    let mut setup = Setup::lenient();
    let by_client = setup.access_token().await;
    let password = setup.token(&setup.password_grant()).await.json();
    let by_user = text(&password, "access_token");
    setup.gateway.kill_and_restart();
    setup.call(&by_client).await.unwrap();
    setup.call(&by_user).await.unwrap();
    let delete = |what: &str| {
        let status = setup.gateway.command(what).status().unwrap();
        assert!(status.success(), "{what}");
    };
    delete("user delete SHOP@example.com");
    assert!(setup.call(&by_user).await.is_err());
    setup.call(&by_client).await.unwrap();
    delete(&format!("client delete {}", setup.client_id));
    assert!(setup.call(&by_client).await.is_err());
    setup.gateway.kill_and_restart();
    for token in [&by_user, &by_client] {
        assert!(setup.call(token).await.is_err());
    }
    for grant in [
        setup.grant("client_credentials", ""),
        setup.password_grant(),
    ] {
        assert_eq!(
            text(&setup.token(&grant).await.json(), "error"),
            "invalid_client"
        );
    }
}

#[tokio::test]
async fn what_ends_a_token_ends_its_streams() {
    let setup = Setup::lenient();
    let client = Client::connect(&setup.gateway).await;
    let publish = async || {
        let request = PublishRequest::new(TOPIC, order::events(0..1));
        client.publish(&request).await.unwrap();
    };
    publish().await;
    // A stream that has got something is one that was let in.
    let live = async |token: &str| {
        let client = client.with("accesstoken", token);
        let mut call = client.subscribe(&FetchRequest::earliest(TOPIC, 9)).await;
        call.fetch(1).await;
        call
    };
    let ended = async |call: &mut Call| {
        let failure = call.failure().await;
        failure.expect("Subscribe", code::UNAUTHENTICATED, "service.auth.error");
    };
    let by_password = async || setup.token(&setup.password_grant()).await.json();
    let (by_client, kept) = (setup.access_token().await, setup.access_token().await);
    let (refreshed, of_user) = (by_password().await, by_password().await);
    let mut by_client_call = live(&by_client).await;
    let mut refreshed_call = live(&text(&refreshed, "access_token")).await;
    let mut of_user_call = live(&text(&of_user, "access_token")).await;
    let mut kept_call = live(&kept).await;
    let mut others_call = live(&setup.gateway.ready().access_token).await;

    let revoke = async |token: &str| {
        let form = format!("token={token}");
        let answer = setup.post("/services/oauth2/revoke", &form).await;
        assert_eq!(answer.status, 200);
    };
    revoke(&by_client).await;
    ended(&mut by_client_call).await;
    // It goes with all that was had for it.
    revoke(&text(&refreshed, "refresh_token")).await;
    ended(&mut refreshed_call).await;
    let delete = |what: &str| {
        let status = setup.gateway.command(what).status().unwrap();
        assert!(status.success(), "{what}");
    };
    publish().await;
    kept_call.fetch(1).await;
    of_user_call.fetch(1).await;
    delete(&format!("user delete {USERNAME}"));
    ended(&mut of_user_call).await;
    publish().await;
    kept_call.fetch(1).await;
    delete(&format!("client delete {}", setup.client_id));
    ended(&mut kept_call).await;
    others_call.fetch(2).await;
}

#[tokio::test]
async fn a_token_expires_when_its_time_is_over() {
    let setup = Setup::with(vec![("TIDEGATE_AUTH__TOKEN_LIFETIME", "1s")]);
    let made = setup.token(&setup.password_grant()).await.json();
    let token = text(&made, "access_token");
    let refused = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            if let Err(refused) = setup.call(&token).await {
                break refused;
            }
        }
    });
    let refused = refused.await.expect("it expires");
    refused.expect("GetTopic", code::UNAUTHENTICATED, "service.auth.error");
    let rest = format!("refresh_token={}", text(&made, "refresh_token"));
    let fresh = setup.token(&setup.grant("refresh_token", &rest)).await;
    assert_eq!(fresh.status, 200, "the refresh token is good for longer");

    let listed = setup
        .gateway
        .command("token list --output json")
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for kind in ["static", "access", "refresh"] {
        assert!(listed.contains(&format!("\"kind\":\"{kind}\"")), "{listed}");
    }
    let made = command(&setup.gateway, "token create --expires 30d");
    assert!(made["expires_at"].is_string(), "{made}");
}
