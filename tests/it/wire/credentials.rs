//! The three headers of every call: missing, blank, repeated, huge, wrong.

use http::HeaderValue;

use crate::support::{
    client::{Call, Client, Failure, NO_STATUS, code},
    gateway::{Gateway, Settings},
    order::{self, SCHEMA_ID, TOPIC},
    wire::{
        FetchRequest, ManagedFetchRequest, PublishRequest, SchemaRequest, TopicInfo, TopicRequest,
    },
};

const METHODS: [&str; 6] = [
    "GetTopic",
    "GetSchema",
    "Publish",
    "PublishStream",
    "Subscribe",
    "ManagedSubscribe",
];
const STREAMS: [&str; 3] = ["Subscribe", "ManagedSubscribe", "PublishStream"];
const HEADERS: [&str; 3] = ["accesstoken", "instanceurl", "tenantid"];

/// Begins a call that would be good with good credentials.
async fn good_call(client: &Client, method: &str) -> Call {
    let mut call = client.call(method).await;
    match method {
        "GetTopic" => call.send(&TopicRequest {
            topic_name: TOPIC.into(),
        }),
        "GetSchema" => call.send(&SchemaRequest {
            schema_id: SCHEMA_ID.into(),
        }),
        "Subscribe" => call.send(&FetchRequest::earliest(TOPIC, 1)),
        // Whether there is such a subscription is looked at behind the credentials.
        "ManagedSubscribe" => call.send(&ManagedFetchRequest::first("Fulfilment", 1)),
        _ => call.send(&PublishRequest::new(TOPIC, order::events(0..1))),
    }
    call
}

async fn expect_good(client: &Client) {
    let mut call = good_call(client, "GetTopic").await;
    call.half_close();
    call.next::<TopicInfo>().await.unwrap();
}

async fn refusal(client: &Client, method: &str) -> Failure {
    let mut call = good_call(client, method).await;
    call.half_close();
    call.failure().await
}

#[tokio::test]
async fn a_missing_or_blank_header_is_named_on_every_call() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    for method in METHODS {
        for header in HEADERS {
            for client in [client.without(header), client.with(header, "")] {
                let refusal = refusal(&client, method).await;
                let suffix = "service.auth.headers.invalid";
                refusal.expect(method, code::UNAUTHENTICATED, suffix);
                assert!(refusal.message.contains(header), "{refusal:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_repeated_header_is_refused_or_read_as_the_same() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    for header in HEADERS {
        let client = client.with_another(header, HeaderValue::from_static("another"));
        let refusal = refusal(&client, "GetTopic").await;
        refusal.expect(
            "GetTopic",
            code::UNAUTHENTICATED,
            "service.auth.headers.invalid",
        );
    }
}

#[tokio::test]
async fn an_authorization_header_is_not_asked_for_and_changes_nothing() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    for authorization in ["Bearer nothing", "Basic eDp5", ""] {
        expect_good(&client.with("authorization", authorization)).await;
    }
}

#[tokio::test]
async fn a_header_that_is_not_text_is_refused() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    for header in HEADERS {
        let value = HeaderValue::from_bytes(b"\xff\xfe").unwrap();
        let client = client.without(header).with_another(header, value);
        let refusal = refusal(&client, "GetTopic").await;
        refusal.expect(
            "GetTopic",
            code::UNAUTHENTICATED,
            "service.auth.headers.invalid",
        );
    }
}

#[tokio::test]
async fn huge_headers_are_refused_by_the_transport() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    // Above the announced size it answers before gRPC; far above it ends the connection.
    for (len, answer) in [(20_000, "HTTP 431"), (100_000, "header_list_way_too_large")] {
        let huge = Client::connect(&gateway).await;
        let refusal = refusal(&huge.with("accesstoken", &"x".repeat(len)), "GetTopic").await;
        assert_eq!(refusal.code, NO_STATUS);
        assert!(refusal.message.contains(answer), "{refusal:?}");
        expect_good(&client).await;
    }
    let long = client.with("accesstoken", &"x".repeat(8_000));
    let refusal = refusal(&long, "GetTopic").await;
    assert_eq!(refusal.code, code::UNAUTHENTICATED, "{refusal:?}");
}

#[tokio::test]
async fn a_token_that_is_not_one_is_an_authentication_exception() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let good = &gateway.ready().access_token;
    let mut other_secret = good.clone();
    other_secret.pop();
    other_secret.push(if good.ends_with('x') { 'y' } else { 'x' });
    for method in METHODS {
        for token in [
            &*other_secret,
            &good[..good.len() - 1],
            "nothing like a token",
        ] {
            let refusal = refusal(&client.with("accesstoken", token), method).await;
            refusal.expect(method, code::UNAUTHENTICATED, "service.auth.error");
            assert!(
                refusal
                    .message
                    .contains("authentication exception occurred")
            );
            assert!(
                !refusal.message.contains(token),
                "a token is never repeated"
            );
        }
    }
}

#[tokio::test]
async fn a_tenant_is_compared_by_its_first_fifteen_characters() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let tenant = &gateway.ready().tenant_id;
    for same in [tenant[..15].to_owned(), format!("{}AAA", &tenant[..15])] {
        let client = client.with("tenantid", &same);
        expect_good(&client).await;
    }
    for other in ["00D000000000001AAA", "00D", "tenant?"] {
        let refusal = refusal(&client.with("tenantid", other), "GetTopic").await;
        assert_eq!(refusal.code, code::UNAUTHENTICATED, "{refusal:?}");
        let suffix = refusal
            .trailer("error-code")
            .rsplit("grpc.")
            .next()
            .unwrap();
        let suffixes = ["service.auth.error", "service.auth.headers.invalid"];
        assert!(suffixes.contains(&suffix), "{refusal:?}");
    }
}

#[tokio::test]
async fn a_stream_gets_its_headers_before_it_is_refused() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await.with("accesstoken", "bad");
    for method in STREAMS {
        // Nothing has been sent: headers come, and the refusal waits for a message.
        let mut call = client.call(method).await;
        let headers = call.headers().await;
        assert_eq!(headers["content-type"], "application/grpc", "{method}");
        assert!(
            !headers.contains_key("grpc-status"),
            "{method} is not refused yet"
        );
        call.send(&FetchRequest::earliest(TOPIC, 1));
        call.failure()
            .await
            .expect(method, code::UNAUTHENTICATED, "service.auth.error");

        // Or for the half-close.
        let mut call = client.call(method).await;
        call.half_close();
        call.failure()
            .await
            .expect(method, code::UNAUTHENTICATED, "service.auth.error");
    }
}

#[tokio::test]
async fn a_client_that_never_sends_is_refused_after_a_while() {
    let gateway = Gateway::start_with(Settings {
        ephemeral: true,
        environment: vec![("TIDEGATE_GRPC__FIRST_MESSAGE_WAIT", "300ms")],
    });
    let client = Client::connect(&gateway).await.with("accesstoken", "bad");
    for method in STREAMS {
        let mut call = client.call(method).await;
        let refusal = call.failure().await;
        refusal.expect(method, code::UNAUTHENTICATED, "service.auth.error");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_ends_a_thousand_streams_and_no_other() {
    let gateway = Gateway::start();
    let mut command = gateway.command("token create --name doomed --output json");
    let made = command.output().expect("the program can be run").stdout;
    let made: serde_json::Value = serde_json::from_slice(&made).unwrap();
    let token = made["access_token"].as_str().unwrap();
    let mut doomed = Vec::new();
    let mut others = Vec::new();
    // A connection has at most a thousand.
    for _ in 0..2 {
        let client = Client::connect(&gateway).await;
        let of_token = client.with("accesstoken", token);
        for number in 0..505 {
            let client = if number < 500 { &of_token } else { &client };
            let mut call = client.subscribe(&FetchRequest::latest(TOPIC, 10)).await;
            call.headers().await;
            match number < 500 {
                true => doomed.push(call),
                false => others.push(call),
            }
        }
    }
    let id = made["id"].as_str().unwrap();
    let mut command = gateway.command(&format!("token revoke {id}"));
    assert!(command.output().unwrap().status.success());
    for call in &mut doomed {
        let failure = call.failure().await;
        failure.expect("Subscribe", code::UNAUTHENTICATED, "service.auth.error");
    }
    let client = Client::connect(&gateway).await;
    let request = PublishRequest::new(TOPIC, order::events(0..1));
    client.publish(&request).await.unwrap();
    for call in &mut others {
        assert_eq!(call.fetch(1).await.len(), 1);
    }
}
