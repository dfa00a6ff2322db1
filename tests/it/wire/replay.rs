//! Where a subscription starts: presets and replay ids of every length.

use crate::support::{
    client::{Client, code},
    gateway::{Gateway, Settings},
    order::{self, OTHER_TOPIC, TOPIC},
    wait,
    wire::{FetchRequest, FetchResponse, ProducerEvent, PublishRequest},
};

async fn publish(client: &Client, numbers: std::ops::Range<usize>) -> Vec<Vec<u8>> {
    let request = PublishRequest::new(TOPIC, order::events(numbers));
    let response = client.publish(&request).await.unwrap();
    response
        .results
        .into_iter()
        .map(|result| result.replay_id)
        .collect()
}

#[tokio::test]
async fn a_replay_id_is_ten_bytes_that_end_in_zeros() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    for id in publish(&client, 0..3).await {
        let (position, rest) = id.split_first_chunk::<8>().expect("at least 8 bytes");
        assert_eq!(rest, [0, 0]);
        let position = u64::from_be_bytes(*position);
        assert!(
            (1..1 << 53).contains(&position),
            "{position} fits a JavaScript number"
        );
    }
}

#[tokio::test]
async fn a_replay_id_has_eight_or_ten_bytes() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let ids = publish(&client, 0..2).await;
    let missing = "subscription.fetch.replayid.validation.failed";
    let corrupted = "subscription.fetch.replayid.corrupted";
    for len in 0..=20 {
        let mut id = ids[0].clone();
        id.resize(len, 0);
        let mut call = client.subscribe(&FetchRequest::custom(TOPIC, &id, 1)).await;
        match len {
            0 => call
                .failure()
                .await
                .expect("Subscribe", code::INVALID_ARGUMENT, missing),
            8 | 10 => assert_eq!(call.fetch(1).await[0].replay_id, ids[1]),
            _ => {
                let refusal = call.failure().await;
                refusal.expect("Subscribe", code::INVALID_ARGUMENT, corrupted);
                assert!(
                    refusal.message.contains("replay"),
                    "clients look for the word"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_replay_id_from_the_future_or_of_another_form_is_corrupted() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let last = publish(&client, 0..1).await.remove(0);
    let mut next = last.clone();
    next[7] += 1;
    let mut suffixed = last.clone();
    suffixed[9] = 1;
    for id in [
        next,
        suffixed,
        vec![0xff; 8],
        vec![0xff; 10],
        vec![0x7f; 8],
        vec![0; 9],
    ] {
        let mut call = client.subscribe(&FetchRequest::custom(TOPIC, &id, 1)).await;
        let refusal = call.failure().await;
        let suffix = "subscription.fetch.replayid.corrupted";
        refusal.expect("Subscribe", code::INVALID_ARGUMENT, suffix);
    }
}

#[tokio::test]
async fn an_id_of_another_topic_or_between_events_is_good() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let ids = publish(&client, 0..2).await;
    // Of another topic: nothing of it lies after.
    let mut call = client
        .subscribe(&FetchRequest::custom(OTHER_TOPIC, &ids[0], 1))
        .await;
    call.half_close();
    let status = ProducerEvent {
        id: "status-1".into(),
        schema_id: order::OTHER_SCHEMA_ID.into(),
        payload: order::other_payload(),
        headers: Vec::new(),
    };
    let request = PublishRequest::new(OTHER_TOPIC, vec![status]);
    let response = client.publish(&request).await.unwrap();
    assert_eq!(response.results[0].error, None);
    assert_eq!(
        call.fetch(1).await[0].replay_id,
        response.results[0].replay_id
    );
    call.end().await.unwrap();
}

#[tokio::test]
async fn the_head_of_an_empty_log_is_a_valid_id() {
    let gateway = Gateway::start();
    let client = Client::connect(&gateway).await;
    // What a subscriber of an idle topic is told it has seen.
    let before = publish(&client, 0..1).await.remove(0);
    let mut call = client
        .subscribe(&FetchRequest::custom(TOPIC, &before, 1))
        .await;
    let next = publish(&client, 1..2).await.remove(0);
    let response = call.fetched().await;
    assert_eq!(response.events[0].replay_id, next);
    assert!(response.latest_replay_id >= next);
}

#[tokio::test]
async fn latest_and_earliest_ignore_a_replay_id() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let ids = publish(&client, 0..2).await;
    let mut request = FetchRequest::earliest(TOPIC, 1);
    request.replay_id = vec![1, 2, 3];
    let mut call = client.subscribe(&request).await;
    assert_eq!(call.fetch(1).await[0].replay_id, ids[0]);
}

#[tokio::test]
async fn a_preset_that_is_none_is_refused() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    for preset in [-1, 3, i32::MAX] {
        let request = FetchRequest {
            replay_preset: preset,
            ..FetchRequest::earliest(TOPIC, 1)
        };
        let mut call = client.subscribe(&request).await;
        let suffix = "subscription.fetch.request.invalid";
        call.failure()
            .await
            .expect("Subscribe", code::INVALID_ARGUMENT, suffix);
    }
}

#[tokio::test]
async fn what_later_requests_say_about_the_start_is_ignored() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let ids = publish(&client, 0..3).await;
    let mut call = client.subscribe(&FetchRequest::earliest(TOPIC, 1)).await;
    assert_eq!(call.fetch(1).await[0].replay_id, ids[0]);
    call.send(&FetchRequest::earliest(TOPIC, 1));
    assert_eq!(call.fetch(1).await[0].replay_id, ids[1]);
    call.send(&FetchRequest::custom(TOPIC, &[1], 1));
    assert_eq!(call.fetch(1).await[0].replay_id, ids[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_before_the_trim_point_is_corrupted_and_earliest_goes_on() {
    let gateway = Gateway::start_with(Settings {
        ephemeral: false,
        environment: vec![
            ("TIDEGATE_EVENT_LOG__SEGMENT_BYTES_MAX", "1MiB"),
            ("TIDEGATE_EVENT_LOG__RETENTION_BYTES", "2MiB"),
        ],
    });
    let client = Client::connect(&gateway).await;
    let first = publish(&client, 0..1).await.remove(0);
    let mut large = order::event(1);
    large.payload = order::payload_of(200_000);
    let request = PublishRequest::new(TOPIC, vec![large; 10]);
    let purged = async {
        loop {
            client.publish(&request).await.unwrap();
            let mut call = client
                .subscribe(&FetchRequest::custom(TOPIC, &first, 1))
                .await;
            match call.next::<FetchResponse>().await {
                Ok(_) => {}
                Err(refusal) => return refusal,
            }
        }
    };
    let refusal = wait::within("purge of the oldest events", purged).await;
    let suffix = "subscription.fetch.replayid.corrupted";
    refusal.expect("Subscribe", code::INVALID_ARGUMENT, suffix);

    // The purge may go on for a segment or two, and overtake a cursor that has just begun.
    let earliest = async {
        loop {
            let mut call = client.subscribe(&FetchRequest::earliest(TOPIC, 1)).await;
            match call.next::<FetchResponse>().await {
                Ok(response) => return response.expect("an event"),
                Err(overtaken) => overtaken.expect("Subscribe", code::INVALID_ARGUMENT, suffix),
            }
        }
    };
    let earliest = wait::within("oldest event that is left", earliest).await;
    assert!(earliest.events[0].replay_id > first);
    // Of a topic that lost nothing, any id is good.
    let mut call = client
        .subscribe(&FetchRequest::custom(OTHER_TOPIC, &first, 1))
        .await;
    call.headers().await;
    let status = ProducerEvent {
        id: "status-1".into(),
        schema_id: order::OTHER_SCHEMA_ID.into(),
        payload: order::other_payload(),
        headers: Vec::new(),
    };
    client
        .publish(&PublishRequest::new(OTHER_TOPIC, vec![status]))
        .await
        .unwrap();
    call.fetch(1).await;
}
