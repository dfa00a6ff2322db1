//! How the ends of calls are counted.

use futures_util::FutureExt;
use http::Request;
use tonic::Status;
use tower::{Layer, Service, ServiceExt};

use super::gateway::{Gateway, Subscriber, earliest, latest, settle};
use crate::{
    broker::tests::{
        engines::{ORDERS, orders},
        log_double::Behaviour,
    },
    grpc::{CallLayer, Metrics},
    proto::SchemaRequest,
};

#[track_caller]
fn assert_counted(scrape: &str, method: &str, reason: &str, expected: u64) {
    let series = format!(r#"grpc_calls_ended_total{{method="{method}",reason="{reason}"}} "#);
    let value = scrape.lines().find_map(|line| line.strip_prefix(&series));
    let value = value.map_or(0, |value| value.parse().unwrap());
    assert_eq!(value, expected, "{series}in\n{scrape}");
}

#[track_caller]
fn assert_live(scrape: &str, method: &str, expected: i64) {
    let series = format!(r#"grpc_calls_live{{method="{method}"}} "#);
    let value = scrape.lines().find_map(|line| line.strip_prefix(&series));
    assert_eq!(
        value.map(|value| value.parse().unwrap()),
        Some(expected),
        "{scrape}"
    );
}

#[tokio::test(start_paused = true)]
async fn calls_are_counted_by_how_they_ended() {
    let gateway = Gateway::start().await;
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    gateway
        .publish("/event/No__e", &orders(0..1))
        .await
        .unwrap_err();
    let request = gateway.call(SchemaRequest::default());
    gateway
        .client
        .clone()
        .get_schema(request)
        .await
        .unwrap_err();

    let mut well = gateway.subscribe(earliest(ORDERS, 1)).await;
    well.next().await;
    well.half_close();
    well.end().await;
    let mut badly = gateway.subscribe(latest(ORDERS, 0)).await;
    badly.failure().await;
    let mut idle = gateway.subscribe(earliest(ORDERS, 1)).await;
    idle.next().await;
    idle.failure().await;
    let gone = gateway.subscribe(latest(ORDERS, 1)).await;
    let never_spoke = Subscriber::open(&gateway, &gateway.token, None).await;
    settle().await;
    assert_live(&gateway.scrape(), "Subscribe", 2);
    drop((gone, never_spoke));
    settle().await;
    let mut stream = gateway.publish_stream().await;
    stream.publish(ORDERS, &orders(1..2));
    stream.next().await;
    drop(stream);
    settle().await;

    let scrape = gateway.scrape();
    assert_counted(&scrape, "Publish", "ok", 1);
    assert_counted(&scrape, "Publish", "topic.not.found", 1);
    assert_counted(&scrape, "GetSchema", "schema.validation.failed", 1);
    assert_counted(&scrape, "Subscribe", "ok", 1);
    let invalid = "subscription.fetch.requested.events.invalid";
    assert_counted(&scrape, "Subscribe", invalid, 1);
    assert_counted(&scrape, "Subscribe", "subscription.internal.error", 1);
    assert_counted(&scrape, "Subscribe", "cancelled", 2);
    assert_counted(&scrape, "PublishStream", "cancelled", 1);
    for method in ["Publish", "GetSchema", "Subscribe", "PublishStream"] {
        assert_live(&scrape, method, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_gives_up_leaves_no_subscription_behind() {
    let gateway = Gateway::start().await;
    let mut subscribers = Vec::new();
    for _ in 0..5 {
        subscribers.push(gateway.subscribe(latest(ORDERS, 1)).await);
    }
    settle().await;
    let series = r#"broker_subscriptions{topic="/event/OrderCreated__e"}"#;
    assert!(gateway.engines.scrape().contains(&format!("{series} 5")));
    drop(subscribers);
    settle().await;
    assert!(!gateway.engines.scrape().contains(series));
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_its_client_gave_up_is_counted_and_stores_nothing() {
    let gateway = Gateway::start().await;
    gateway.engines.log.set(Behaviour::NoRoom).await;
    let events = orders(0..1);
    {
        let publishing = gateway.publish(ORDERS, &events);
        tokio::select! {
            _ = publishing => panic!("there is no room"),
            () = settle() => {}
        }
    }
    settle().await;
    assert_counted(&gateway.scrape(), "Publish", "cancelled", 1);
    gateway.engines.log.set(Behaviour::Good).await;
    let mut subscriber = gateway.subscribe(earliest(ORDERS, 1)).await;
    assert!(subscriber.next().await.events.is_empty());
}

#[tokio::test]
async fn calls_of_other_services_are_counted_as_answered() {
    let calls = Metrics::default();
    for answer in [Status::ok(""), Status::not_found("no such service")] {
        let other = tower::service_fn(move |_: Request<()>| {
            let answer = answer.clone();
            async { Ok::<_, std::convert::Infallible>(answer.into_http::<String>()) }
        });
        let mut service = CallLayer::new(calls.clone()).layer(other);
        let request = Request::post("http://gateway/grpc.health.v1.Health/Check");
        let ready = service.ready().now_or_never().unwrap().unwrap();
        ready.call(request.body(()).unwrap()).await.unwrap();
    }
    let mut registry = prometheus_client::registry::Registry::default();
    calls.register(&mut registry);
    let mut scrape = String::new();
    prometheus_client::encoding::text::encode(&mut scrape, &registry).unwrap();
    assert_counted(&scrape, "", "ok", 2);
    assert_counted(&scrape, "", "cancelled", 0);
    assert_live(&scrape, "", 0);
}
