//! The bench in front of a gateway that does not keep its word: no figure comes of it.

use std::time::Duration;

use crate::{
    bench::{
        Backlog, BenchError, CatchupReader, ClientKind, FanoutLoad, LatencyLoad, PublishLoad,
        Target, catchup, fanout, latency, publish, schema, topic,
    },
    cli::fake_gateway::{FakeGateway, ORDER_CREATED_ID, State, replay_id},
    proto::{ConsumerEvent, PublishResult},
    schema::Schema,
    types::ReplayId,
};

/// More than a stock client's credit: there are several responses.
const EVENTS: u64 = 150;
const PUBLISH: PublishLoad = PublishLoad {
    events: EVENTS,
    payload_bytes: 200,
    batch: 10,
    streams: 1,
    topics: 1,
};

/// A gateway with the topic of the load, and with `faults`.
async fn gateway(faults: impl FnOnce(&mut State)) -> (FakeGateway, Target) {
    let gateway = FakeGateway::start().await;
    let schema_id = Schema::parse(&schema(0)).unwrap().id().to_string();
    {
        let mut state = gateway.state.lock().unwrap();
        state.topics.insert(topic(0), schema_id);
        faults(&mut state);
    }
    let target = Target::new(gateway.endpoint(), 1).await.unwrap();
    (gateway, target)
}

/// What a catch-up comes to at a gateway with these faults.
async fn catch_up(faults: impl FnOnce(&mut State)) -> Result<f64, BenchError> {
    let (_gateway, target) = gateway(faults).await;
    let backlog = Backlog::publish(&target, &PUBLISH).await?;
    catchup(&target, &backlog, CatchupReader::Raw(ClientKind::Own)).await
}

/// What a run of latencies comes to at a gateway with these faults.
async fn steady(faults: impl FnOnce(&mut State)) -> Result<u64, BenchError> {
    let (_gateway, target) = gateway(faults).await;
    let load = LatencyLoad {
        rate: 1_000,
        batch: 5,
        duration: Duration::from_millis(50),
        payload_bytes: 200,
    };
    Ok(latency(&target, &load).await?.len())
}

#[track_caller]
fn expect<T>(result: Result<T, BenchError>, message: &str) {
    match result {
        Ok(_) => panic!("there is a figure"),
        Err(error) => assert_eq!(error.to_string(), message),
    }
}

fn position(event: &ConsumerEvent) -> u64 {
    ReplayId::parse(&event.replay_id).unwrap().get()
}

#[tokio::test]
async fn a_gateway_that_keeps_its_word_has_figures() {
    assert!(catch_up(|_| ()).await.unwrap() > 0.0);
    assert_eq!(steady(|_| ()).await.unwrap(), 50);
    let (_gateway, target) = gateway(|_| ()).await;
    assert!(publish(&target, &PUBLISH).await.unwrap() > 0.0);
    let load = FanoutLoad {
        publish: PUBLISH,
        subscribers: 3,
        client: ClientKind::Stock,
        slow_subscribers: 0,
    };
    assert_eq!(fanout(&target, &load).await.unwrap().deliveries, 3 * EVENTS);
}

#[tokio::test]
async fn an_event_of_before_is_noticed() {
    let result = catch_up(|gateway| {
        gateway.tampers_with_events = Some(|events| {
            let mut first = events[0].clone();
            first.replay_id = replay_id(1).as_bytes().to_vec().into();
            events.insert(0, first);
        });
    });
    expect(result.await, "an event arrived twice, or too late");
}

#[tokio::test]
async fn an_event_too_many_is_counted() {
    let result = catch_up(|gateway| {
        gateway.tampers_with_events = Some(|events| events.extend(events.last().cloned()));
    });
    expect(result.await, "152 events were delivered, and 150 were sent");
}

#[tokio::test]
async fn an_event_that_is_lost_is_missed() {
    let is_over = "the gateway ended the stream before all events were through";
    let result = catch_up(|gateway| {
        gateway.ends_at = Some(1 + EVENTS as usize);
        gateway.tampers_with_events = Some(|events| events.retain(|event| position(event) != 7));
    });
    expect(result.await, is_over);
    let result = catch_up(|gateway| gateway.ends_at = Some(1 + EVENTS as usize));
    assert!(result.await.is_ok(), "nothing was lost");
}

#[tokio::test]
async fn events_that_are_not_those_that_were_sent_are_foreign() {
    let foreign = "an event arrived that is none of the load";
    let lost = steady(|gateway| {
        gateway.tampers_with_events = Some(|events| events.retain(|event| position(event) != 7));
    });
    expect(lost.await, foreign);
    let changed = steady(|gateway| {
        gateway.tampers_with_events = Some(|events| {
            for event in events.iter_mut().filter_map(|event| event.event.as_mut()) {
                event.payload = "something else".into();
            }
        });
    });
    expect(changed.await, foreign);
}

#[tokio::test]
async fn answers_are_counted_and_read() {
    let publish = async |tamper: fn(&mut Vec<PublishResult>)| {
        let (_gateway, target) =
            gateway(|gateway| gateway.tampers_with_results = Some(tamper)).await;
        publish(&target, &PUBLISH).await
    };
    expect(
        publish(|results| _ = results.pop()).await,
        "the gateway ended the stream before all events were through",
    );
    expect(
        publish(|results| results.extend(results.last().cloned())).await,
        "154 events were answered, and 150 were sent",
    );
    expect(
        publish(|results| results[3] = PublishResult::default()).await,
        "an event was refused: without a reason",
    );
    let steady = steady(|gateway| {
        gateway.tampers_with_results = Some(|results| {
            // The event that tells where to read from is answered on its own.
            if results.len() > 1 {
                results.pop();
            }
        });
    });
    expect(steady.await, "4 events were answered, and 5 were sent");
}

#[tokio::test]
async fn a_topic_with_another_schema_is_none_of_the_load() {
    let gateway = FakeGateway::start().await;
    let topics = |schema_id: &str| {
        let mut state = gateway.state.lock().unwrap();
        state.topics.insert(topic(0), schema_id.to_owned());
    };
    topics(ORDER_CREATED_ID);
    expect(
        Target::new(gateway.endpoint(), 1).await,
        "the gateway has another schema for /event/TidegateBench__e than the one of the load, which \
         `tidegate bench schema` prints",
    );
    topics(&Schema::parse(&schema(0)).unwrap().id().to_string());
    assert!(Target::new(gateway.endpoint(), 1).await.is_ok());
    let absent = Target::new(gateway.endpoint(), 2).await;
    assert!(matches!(absent, Err(BenchError::NoTopic(name)) if name == topic(1)));
}
