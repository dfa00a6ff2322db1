//! Signing in over the real HTTP edge, as clients of the hosted service do it: a row for each rule.
//!
//! Source: RFC 6749, RFC 7009, RFC 7523; the public guide "OAuth Authorization Flows"; the public SOAP
//! API Developer Guide, `login()`.

mod accounts;
mod assertions;
mod commands;
mod oauth;
mod sessions;
mod soap;

use std::process::Stdio;

use serde_json::Value;

use crate::support::{
    client::{Client, Failure},
    gateway::{Gateway, Settings, without_settings},
    http::{Answer, send},
    order::TOPIC,
    wire::{TopicInfo, TopicRequest},
};

const USERNAME: &str = "shop@example.com";
const TOKEN: &str = "/services/oauth2/token";

/// A gateway with a client application and a user.
struct Setup {
    gateway: Gateway,
    client_id: String,
    client_secret: String,
    password: String,
}

impl Setup {
    /// One that locks nobody out: the tests fail more often than anyone may.
    fn lenient() -> Self {
        Self::with(vec![
            ("TIDEGATE_AUTH__SIGN_IN_FAILURES_MAX", "10000"),
            ("TIDEGATE_AUTH__SIGN_IN_FAILURES_PER_ADDRESS_MAX", "10000"),
        ])
    }

    fn with(environment: Vec<(&'static str, &'static str)>) -> Self {
        let gateway = Gateway::start_with(Settings {
            environment,
            ..Settings::default()
        });
        let client = command(&gateway, "client create --name shop");
        let user = command(&gateway, &format!("user create {USERNAME}"));
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        Self {
            client_id: text(&client["client_id"]),
            client_secret: text(&client["client_secret"]),
            password: text(&user["password"]),
            gateway,
        }
    }

    /// What the token endpoint answers to a form.
    async fn token(&self, form: &str) -> Answer {
        self.post(TOKEN, form).await
    }

    async fn post(&self, path: &str, form: &str) -> Answer {
        let request = post(path, "application/x-www-form-urlencoded", form);
        send(&self.gateway, request.as_bytes()).await
    }

    /// The form of this grant, with the client's id and secret.
    fn grant(&self, grant_type: &str, rest: &str) -> String {
        let Self {
            client_id,
            client_secret,
            ..
        } = self;
        format!(
            "grant_type={grant_type}&client_id={client_id}&client_secret={client_secret}&{rest}"
        )
    }

    fn password_grant(&self) -> String {
        let rest = format!("username={USERNAME}&password={}", self.password);
        self.grant("password", &rest)
    }

    /// An access token by client credentials.
    async fn access_token(&self) -> String {
        let answer = self.token(&self.grant("client_credentials", "")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        text(&answer.json(), "access_token")
    }

    /// What a call with this token gets.
    async fn call(&self, token: &str) -> Result<(), Failure> {
        let client = Client::connect(&self.gateway).await;
        let topic = TopicRequest {
            topic_name: TOPIC.into(),
        };
        let topic = client
            .with("accesstoken", token)
            .unary::<TopicInfo>("GetTopic", &topic)
            .await;
        topic.map(|_| ())
    }
}

fn text(value: &Value, name: &str) -> String {
    let text = value[name].as_str();
    text.unwrap_or_else(|| panic!("{name} in {value}"))
        .to_owned()
}

/// The one row that a command prints.
fn command(gateway: &Gateway, arguments: &str) -> Value {
    let mut command = gateway.command(&format!("{arguments} --output json"));
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .expect("the program can be run");
    assert!(output.status.success(), "{arguments}");
    serde_json::from_slice(&output.stdout).expect("one row")
}

fn post(path: &str, content_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}
