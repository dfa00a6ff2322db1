//! What the RPC library refuses by itself, with this service's status, message and trailers.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use prost::Message;
use tonic::{Code, Status, body::Body};
use tower::{Layer, ServiceExt};

use super::gateway::{Gateway, assert_failure, latest, publish_request};
use crate::{
    broker::tests::engines::{ORDERS, orders},
    grpc::{
        CallLayer, Metrics,
        status::{Kind, kinds},
    },
    proto::{
        TopicRequest,
        raw::{Repeated, WireMessage},
    },
    types::limits::REQUEST_BYTES_MAX,
};

/// A message as it goes over the wire.
pub(super) fn frame(message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len()).unwrap();
    [&[0], &len.to_be_bytes()[..], message].concat()
}

fn request(gateway: &Gateway, path: &str, body: Vec<u8>) -> Request<Body> {
    Request::post(format!("http://gateway{path}"))
        .header("content-type", "application/grpc")
        .header("accesstoken", &gateway.token)
        .header("instanceurl", "https://localhost")
        .header("tenantid", &gateway.token[..15])
        .body(Body::new(Full::new(Bytes::from(body))))
        .unwrap()
}

/// How the service answers a call that it ends by itself.
async fn answer(gateway: &Gateway, request: Request<Body>) -> Status {
    let response = gateway.service().oneshot(request).await.unwrap();
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status;
    }
    let body = response.into_body().collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    Status::from_header_map(&trailers).expect("a status")
}

const METHODS: [(&str, Kind); 6] = [
    ("Subscribe", kinds::FETCH_REQUEST_INVALID),
    ("GetSchema", kinds::SCHEMA_INVALID),
    ("GetTopic", kinds::TOPIC_EMPTY),
    ("Publish", kinds::PUBLISH_COUNT_INVALID),
    ("PublishStream", kinds::PUBLISH_COUNT_INVALID),
    ("ManagedSubscribe", kinds::MANAGED_REQUEST_INVALID),
];

#[tokio::test(start_paused = true)]
async fn an_unknown_method_or_service_is_unimplemented() {
    let gateway = Gateway::start().await;
    for path in [
        "/eventbus.v1.PubSub/Unknown",
        "/eventbus.v1.PubSub/",
        "/Unknown/Publish",
    ] {
        let status = answer(&gateway, request(&gateway, path, frame(b""))).await;
        assert_failure(&status, "", kinds::UNIMPLEMENTED);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_protobuf_is_refused_in_the_words_of_each_method() {
    let gateway = Gateway::start().await;
    for (method, kind) in METHODS {
        let path = format!("/eventbus.v1.PubSub/{method}");
        // A field of text that is not UTF-8, and one that is cut short.
        for message in [&[0x0a, 1, 0xff][..], &[0x0a, 9, b'a']] {
            let status = answer(&gateway, request(&gateway, &path, frame(message))).await;
            assert_failure(&status, method, kind);
        }
        // A flag that is none, a compressed message without an encoding, and half a frame.
        for bytes in [&[2, 0, 0, 0, 0][..], &[1, 0, 0, 0, 0], &[0, 0, 0, 0, 9, 1]] {
            let status = answer(&gateway, request(&gateway, &path, bytes.to_vec())).await;
            assert_failure(&status, method, kind);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_of_more_than_four_mebibytes_is_too_much() {
    let gateway = Gateway::start().await;
    for (method, _) in METHODS {
        let path = format!("/eventbus.v1.PubSub/{method}");
        let message = vec![0; REQUEST_BYTES_MAX + 1];
        let status = answer(&gateway, request(&gateway, &path, frame(&message))).await;
        assert_failure(&status, method, kinds::PROTECTION);
    }
    // To the byte: what is not an event is refused as such.
    let event = orders(0..1)[0].encode_to_vec();
    let mut fits = publish_request(ORDERS, &orders(0..1));
    let room = REQUEST_BYTES_MAX - fits.wire_len() - 5;
    fits.events = Repeated::of([event, vec![0xff; room]]);
    assert_eq!(fits.wire_len(), REQUEST_BYTES_MAX);
    let path = "/eventbus.v1.PubSub/Publish";
    let status = answer(&gateway, request(&gateway, path, frame(&fits.to_bytes()))).await;
    assert_eq!(status.code(), Code::Ok, "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn an_encoding_that_is_not_served_is_unimplemented_and_told_which_are() {
    let gateway = Gateway::start().await;
    for (method, _) in METHODS {
        let path = format!("/eventbus.v1.PubSub/{method}");
        let mut request = request(&gateway, &path, frame(b""));
        let encoding = HeaderValue::from_static("br");
        request.headers_mut().insert("grpc-encoding", encoding);
        let status = answer(&gateway, request).await;
        assert_failure(&status, method, kinds::UNIMPLEMENTED);
        // Which ones are served.
        let accepted = status.metadata().get("grpc-accept-encoding");
        assert!(accepted.is_some(), "{status:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn identity_is_an_encoding() {
    let gateway = Gateway::start().await;
    let topic = TopicRequest {
        topic_name: ORDERS.into(),
    };
    let path = "/eventbus.v1.PubSub/GetTopic";
    let mut request = request(&gateway, path, frame(&topic.encode_to_vec()));
    let encoding = HeaderValue::from_static("identity");
    request.headers_mut().insert("grpc-encoding", encoding);
    assert_eq!(answer(&gateway, request).await.code(), Code::Ok);
}

#[tokio::test(start_paused = true)]
async fn a_header_that_is_missing_blank_twice_or_not_text_is_named() {
    let gateway = Gateway::start().await;
    let path = "/eventbus.v1.PubSub/Subscribe";
    let first = frame(&latest(ORDERS, 1).encode_to_vec());
    for name in ["accesstoken", "instanceurl", "tenantid"] {
        let changes: [fn(&mut HeaderMap, &'static str); 4] = [
            |headers, name| _ = headers.remove(name),
            |headers, name| _ = headers.insert(name, HeaderValue::from_static(" ")),
            |headers, name| _ = headers.append(name, HeaderValue::from_static("x")),
            |headers, name| _ = headers.insert(name, HeaderValue::from_bytes(b"\xff").unwrap()),
        ];
        for change in changes {
            let mut request = request(&gateway, path, first.clone());
            change(request.headers_mut(), name);
            let status = answer(&gateway, request).await;
            assert_failure(&status, "Subscribe", kinds::AUTH_HEADERS_INVALID);
            assert!(status.message().contains(name), "{status:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_service_answers_is_left_as_it_is() {
    let other = tower::service_fn(|_: Request<()>| async {
        let status = Status::not_found("no such service");
        Ok::<_, std::convert::Infallible>(status.into_http::<String>())
    });
    let service = CallLayer::new(Metrics::default()).layer(other);
    let request = Request::post("http://gateway/grpc.health.v1.Health/Check");
    let response = service.oneshot(request.body(()).unwrap()).await.unwrap();
    let status = Status::from_header_map(response.headers()).unwrap();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.message(), "no such service");
}
