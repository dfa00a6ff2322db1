//! What gRPC itself decides: methods, encodings and frames, refused in this service's form.

use std::io::{Read, Write};

use prost::Message;

use crate::support::{
    client::{Client, code},
    gateway::{Gateway, Settings},
    order::{self, TOPIC},
    wire::{FetchRequest, FetchResponse, PublishRequest, PublishResponse, TopicInfo, TopicRequest},
};

fn topic_request() -> TopicRequest {
    TopicRequest {
        topic_name: TOPIC.into(),
    }
}

#[tokio::test]
async fn an_unknown_method_or_service_is_unimplemented() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    for path in [
        "/eventbus.v1.PubSub/Unknown",
        "/eventbus.v1.PubSub/getTopic",
        "/eventbus.v1.PubSub/",
        "/eventbus.v2.PubSub/GetTopic",
        "/unknown.Service/Method",
        "/",
    ] {
        let mut call = client.call_path(path).await;
        call.send(&topic_request());
        call.half_close();
        call.failure().await.expect_unimplemented("");
    }
}

#[tokio::test]
async fn a_request_in_gzip_is_read() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway)
        .await
        .with("grpc-encoding", "gzip");
    let mut call = client.call("Publish").await;
    call.send_frame(
        1,
        &gzip(&PublishRequest::new(TOPIC, order::events(0..9)).encode_to_vec()),
    );
    // A compressed call may have messages that are not.
    call.half_close();
    let response: PublishResponse = call.next().await.unwrap().expect("a response");
    assert_eq!(response.results.len(), 9);
    call.end().await.unwrap();

    let mut call = client.call("Subscribe").await;
    call.send_frame(1, &gzip(&FetchRequest::earliest(TOPIC, 5).encode_to_vec()));
    call.fetch(5).await;
    call.send(&FetchRequest::more(4));
    call.fetch(4).await;
}

#[tokio::test]
async fn responses_are_compressed_only_if_that_is_configured_and_accepted() {
    let plain = Gateway::ephemeral();
    let compressing = Gateway::start_with(Settings {
        ephemeral: true,
        environment: vec![("TIDEGATE_GRPC__RESPONSE_COMPRESSION", "true")],
    });
    for (gateway, accepted, is_packed) in [
        (&plain, "identity,gzip", false),
        (&compressing, "identity", false),
        (&compressing, "identity,gzip", true),
    ] {
        let client = Client::connect(gateway).await;
        let request = PublishRequest::new(TOPIC, order::events(0..20));
        client.publish(&request).await.unwrap();
        let client = client.with("grpc-accept-encoding", accepted);
        let mut call = client.subscribe(&FetchRequest::earliest(TOPIC, 20)).await;
        let (flag, message) = call.next_frame().await.unwrap().expect("a response");
        assert_eq!(flag, u8::from(is_packed), "{accepted}");
        let message = if is_packed {
            gunzip(&message)
        } else {
            message.to_vec()
        };
        let response = FetchResponse::decode(&*message).unwrap();
        assert_eq!(response.events.len(), 20);
    }
}

#[tokio::test]
async fn a_gzip_request_is_measured_as_it_is_unpacked() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway)
        .await
        .with("grpc-encoding", "gzip");
    // Sixty-four megabytes of zeros are a few hundred bytes once packed.
    let bomb = gzip(&vec![0; 64 << 20]);
    assert!(bomb.len() < 100_000);
    let mut call = client.call("Publish").await;
    call.send_frame(1, &bomb);
    call.half_close();
    let refusal = call.failure().await;
    refusal.expect(
        "Publish",
        code::RESOURCE_EXHAUSTED,
        "service.protection.triggered",
    );
}

#[tokio::test]
async fn an_unknown_encoding_is_unimplemented() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway)
        .await
        .with("grpc-encoding", "snappy");
    for method in ["GetTopic", "Subscribe", "PublishStream"] {
        let mut call = client.call(method).await;
        call.send_frame(1, &topic_request().encode_to_vec());
        call.half_close();
        call.failure().await.expect_unimplemented(method);
    }
}

#[tokio::test]
async fn a_frame_that_is_none_is_refused() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let message = topic_request().encode_to_vec();
    let mut damaged = gzip(&message);
    damaged[12] ^= 0xff;
    // The compression flag of a call without compression, no flag at all, damaged gzip.
    for (client, flag, bytes) in [
        (client.clone(), 1, &message),
        (client.clone(), 7, &message),
        (client.with("grpc-encoding", "gzip"), 1, &message),
        (client.with("grpc-encoding", "gzip"), 1, &damaged),
    ] {
        let mut call = client.call("GetTopic").await;
        call.send_frame(flag, bytes);
        call.half_close();
        let refusal = call.failure().await;
        assert_eq!(refusal.trailer("type"), "GetTopic", "{refusal:?}");
        assert_ne!(refusal.trailer("rpc-id"), "", "{refusal:?}");
        assert_eq!(refusal.code, code::INVALID_ARGUMENT, "{refusal:?}");
    }
    // Cut short in the length, and in the message.
    for cut in [3, 7] {
        let mut call = client.call("GetTopic").await;
        let frame = [&[0, 0, 0, 0, message.len() as u8][..], &message].concat();
        call.send_raw(frame[..cut].to_vec());
        call.half_close();
        let refusal = call.failure().await;
        assert_eq!(refusal.trailer("type"), "GetTopic", "{refusal:?}");
        assert_eq!(refusal.code, code::INVALID_ARGUMENT, "{refusal:?}");
    }
    client
        .unary::<TopicInfo>("GetTopic", &topic_request())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_unary_call_without_a_request_is_refused() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    for (method, suffix) in [
        ("GetTopic", "topic.validation.empty"),
        ("GetSchema", "schema.validation.failed"),
        ("Publish", "publish.event.count.invalid"),
    ] {
        let mut call = client.call(method).await;
        call.half_close();
        call.failure()
            .await
            .expect(method, code::INVALID_ARGUMENT, suffix);
    }
}

#[tokio::test]
async fn a_call_is_what_its_content_type_says() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let mut call = client
        .with("content-type", "application/grpc+proto")
        .call("GetTopic")
        .await;
    call.send(&topic_request());
    call.half_close();
    call.next::<TopicInfo>().await.unwrap();
}

#[tokio::test]
async fn health_and_reflection_are_served() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let mut call = client.call_path("/grpc.health.v1.Health/Check").await;
    call.send(&TopicRequest {
        topic_name: "eventbus.v1.PubSub".into(),
    });
    call.half_close();
    // The answer's one field is the status; 1 is SERVING.
    let health: Vec<u8> = call
        .next::<Health>()
        .await
        .unwrap()
        .unwrap()
        .encode_to_vec();
    assert_eq!(health, [0x08, 0x01]);

    let mut call = client
        .call_path("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        .await;
    // Field 7 of a request is `list_services`.
    call.send_bytes(&[0x3a, 0x01, b'*']);
    call.half_close();
    let services: ListedServices = call.next().await.unwrap().expect("an answer");
    let names = String::from_utf8_lossy(&services.list_services_response).into_owned();
    for name in [
        "eventbus.v1.PubSub",
        "tidegate.admin.v1.Admin",
        "grpc.health.v1.Health",
    ] {
        assert!(names.contains(name), "{names}");
    }
}

#[derive(Clone, PartialEq, Message)]
struct Health {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[derive(Clone, PartialEq, Message)]
struct ListedServices {
    #[prost(bytes = "vec", tag = "6")]
    list_services_response: Vec<u8>,
}

#[tokio::test]
async fn many_calls_share_a_connection() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let mut calls = Vec::new();
    for _ in 0..900 {
        calls.push(client.subscribe(&FetchRequest::latest(TOPIC, 1)).await);
    }
    for call in &mut calls {
        call.headers().await;
    }
    // Each is handled before the publish, or gets the next event; so publish until all have one.
    let mut waiting: Vec<_> = calls
        .into_iter()
        .map(|mut call| {
            tokio::spawn(async move {
                call.next::<FetchResponse>()
                    .await
                    .unwrap()
                    .unwrap()
                    .events
                    .len()
            })
        })
        .collect();
    while let Some(mut next) = waiting.pop() {
        loop {
            client
                .publish(&PublishRequest::new(TOPIC, order::events(0..1)))
                .await
                .unwrap();
            let patience = std::time::Duration::from_millis(50);
            if let Ok(count) = tokio::time::timeout(patience, &mut next).await {
                assert_eq!(count.unwrap(), 1);
                break;
            }
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut unpacked = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(bytes);
    decoder.read_to_end(&mut unpacked).unwrap();
    unpacked
}
