//! Publishing the same events again, by every way there is.

use serde_json::{Value, json};

use crate::support::{
    client::Client,
    gateway::{Gateway, Settings},
    http::{get, value_of},
    http_client::{Over, post},
    order::{self, TOPIC},
    wire::{FetchRequest, PublishRequest, PublishResponse},
};

const REST: &str = "/services/data/v62.0/sobjects/OrderCreated__e/";

fn gateway() -> Gateway {
    Gateway::start_with(Settings {
        ephemeral: true,
        environment: vec![("TIDEGATE_IDEMPOTENCE__ENABLED", "true")],
    })
}

fn replay_ids(response: PublishResponse) -> Vec<Vec<u8>> {
    let results = response.results.into_iter();
    results.map(|result| result.replay_id).collect()
}

#[tokio::test]
async fn an_event_is_stored_once_whichever_way_it_comes() {
    let gateway = gateway();
    let client = Client::connect(&gateway).await;
    let all = PublishRequest::new(TOPIC, order::events(0..4));
    let first = replay_ids(client.publish(&all).await.unwrap());

    let mut call = client.call("PublishStream").await;
    // Again and again in one stream, without waiting for an answer, and once more in one request.
    let mut twice = order::events(0..6);
    twice.extend(order::events(2..6));
    for _ in 0..3 {
        call.send(&PublishRequest::new(TOPIC, twice.clone()));
    }
    call.half_close();
    let mut streamed = Vec::new();
    for _ in 0..3 {
        let response = call.next().await.unwrap().expect("three answers");
        streamed.push(replay_ids(response));
    }
    call.end().await.unwrap();
    assert_eq!(streamed[0][..4], first);
    assert_eq!(streamed[0][2..6], streamed[0][6..]);
    assert!(streamed.iter().all(|answer| *answer == streamed[0]));

    let by_rest = async |id: &str| {
        let body = json!({"EventUuid": id, "Amount__c": 1});
        let (_, saved) = post(&gateway, Over::Http, REST, body.to_string()).await;
        assert_eq!(saved["success"], true, "{saved}");
        assert_eq!(saved["errors"][0]["message"], id);
        saved["id"].clone()
    };
    let known = by_rest("order-0").await;
    assert_eq!(by_rest("order-0").await, known);
    let new = by_rest("order-6").await;
    assert_ne!(new, known);
    assert_eq!(by_rest("order-6").await, new);

    let mut call = client.subscribe(&FetchRequest::earliest(TOPIC, 100)).await;
    let events = call.fetch(7).await;
    let ids = events.into_iter().map(|event| event.event.unwrap().id);
    let wanted: Vec<_> = (0..7).map(|number| format!("order-{number}")).collect();
    assert_eq!(ids.collect::<Vec<_>>(), wanted);
    let (_, metrics) = get(&gateway, "/metrics").await;
    let value = |series: &str| value_of(&metrics, &format!("tidegate_broker_{series}"));
    let of_topic = format!("{{topic=\"{TOPIC}\"}}");
    assert_eq!(value(&format!("published_events_total{of_topic}")), 7.0);
    let duplicates = format!("idempotence_duplicates_total{of_topic}");
    assert_eq!(value(&duplicates), f64::from(3 * 10 - 2 + 3));
    assert_eq!(value("idempotence_ids"), 7.0);
}

/// What `topic` says with these arguments.
fn topic(gateway: &Gateway, arguments: &str) -> Value {
    let mut command = gateway.command(&format!("topic {arguments} --output json"));
    let output = command.output().expect("the program can be run");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("one object")
}

#[tokio::test]
async fn a_topic_that_is_switched_on_stays_so_over_a_restart() {
    let mut gateway = Gateway::start();
    let set = topic(&gateway, &format!("describe {TOPIC}"));
    assert_eq!(
        (&set["idempotent"], &set["is_idempotent"]),
        (&json!("default"), &json!(false))
    );
    let client = Client::connect(&gateway).await;
    let publish = async |client: &Client| {
        let request = PublishRequest::new(TOPIC, order::events(0..3));
        replay_ids(client.publish(&request).await.unwrap())
    };
    let first = publish(&client).await;
    let set = topic(&gateway, &format!("set {TOPIC} --idempotent on"));
    assert_eq!(
        (&set["idempotent"], &set["is_idempotent"]),
        (&json!("on"), &json!(true))
    );
    assert_eq!(publish(&client).await, first);
    gateway.kill_and_restart();
    let client = Client::connect(&gateway).await;
    assert_eq!(publish(&client).await, first);
    let set = topic(&gateway, &format!("set {TOPIC} --idempotent default"));
    assert_eq!(set["idempotent"], "default");
    assert!(publish(&client).await > first, "they are stored again");
}
