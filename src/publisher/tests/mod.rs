//! Publishers of a gateway that fails as it is told.

mod gateway;

use serde_json::json;
use tonic::Code;

use super::*;
use crate::types::limits::{PUBLISH_BATCH_EVENTS_MAX, PUBLISH_REQUESTS_IN_FLIGHT_MAX};
use gateway::{DOUBTFUL_ID, Gateway, REFUSED_ID, Reply, SCHEMA, TOPIC, payload};

fn builder(gateway: &Gateway) -> Builder {
    let topic = TOPIC.parse().unwrap();
    Publisher::builder(gateway.connection(), topic).backoff(Backoff::new(
        Duration::from_millis(1),
        Duration::from_millis(1),
    ))
}

fn event(id: impl Into<String>) -> Event {
    Event::avro("schema", payload()).with_id(id)
}

/// Sends events with these ids, each as a request of its own if `apart`, and returns their results.
async fn send(
    publisher: &Publisher,
    ids: impl IntoIterator<Item = impl Into<String>>,
) -> Vec<Result<Published, FailedEvent>> {
    let mut tickets = Vec::new();
    for id in ids {
        tickets.push(publisher.send(event(id)).await.unwrap());
    }
    let mut results = Vec::new();
    for ticket in tickets {
        results.push(ticket.result().await);
    }
    results
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("e-{number}")).collect()
}

/// More events than one request takes: as many requests, all but the last of them full.
fn ids_of_requests(requests: usize) -> Vec<String> {
    ids((requests - 1) * PUBLISH_BATCH_EVENTS_MAX + 1)
}

#[track_caller]
fn expect_published(results: &[Result<Published, FailedEvent>], ids: &[String]) {
    assert_eq!(results.len(), ids.len());
    for (result, id) in results.iter().zip(ids) {
        assert_eq!(&result.as_ref().unwrap().event_id, id);
    }
}

fn errors(results: Vec<Result<Published, FailedEvent>>) -> Vec<PublishError> {
    let errors = results.into_iter().map(|result| result.unwrap_err().error);
    errors.collect()
}

#[tokio::test]
async fn events_are_stored_in_order_and_each_has_its_result() {
    let gateway = Gateway::start([]).await;
    let publisher = builder(&gateway).start();
    let ids = ids_of_requests(PUBLISH_REQUESTS_IN_FLIGHT_MAX * 2);
    let results = send(&publisher, ids.clone()).await;
    expect_published(&results, &ids);
    let last = results.last().unwrap().as_ref().unwrap();
    assert_eq!(last.replay_id, (ids.len() as u64).to_be_bytes().to_vec());
    publisher.close().await.unwrap();
    assert_eq!(gateway.stored(), ids);
    assert_eq!(gateway.state.lock().unwrap().streams, 1);
}

#[tokio::test]
async fn a_lone_event_is_sent_at_once() {
    let gateway = Gateway::start([]).await;
    let publisher = builder(&gateway).start();
    for id in ids(3) {
        send(&publisher, [id]).await.remove(0).unwrap();
    }
    assert_eq!(gateway.state.lock().unwrap().requests.len(), 3);
}

#[tokio::test]
async fn events_are_made_of_json_by_a_schema_that_is_asked_for_once() {
    let gateway = Gateway::start([]).await;
    let publisher = builder(&gateway).start();
    let order = json!({"Order_Number__c": "A-17"});
    publisher.publish(Event::json(order.clone())).await.unwrap();
    let ticket = publisher.send(Event::of(&order).unwrap().with_header("k", &b"v"[..]));
    ticket.await.unwrap().result().await.unwrap();
    let typo = Event::json(json!({"Order_Numbr__c": "A-17"}));
    let error = publisher.send(typo).await.unwrap_err();
    assert!(error.to_string().contains("did you mean"), "{error}");
    assert!(!error.is_retryable() && !error.may_be_stored());
    let state = gateway.state.lock().unwrap();
    assert_eq!((state.look_ups, state.stored.len()), (1, 2));
    let schema = crate::schema::Schema::parse(SCHEMA).unwrap();
    for stored in &state.stored {
        assert_eq!(stored.schema_id, schema.id().to_string());
        let payload = schema.to_json(&stored.payload).unwrap();
        assert_eq!(payload["Order_Number__c"], "A-17");
        assert_eq!(payload["CreatedById"], Fill::NOBODY);
    }
    assert_eq!(state.stored[1].headers[0].key, "k");
}

#[tokio::test]
async fn a_channel_is_refused_and_asked_about_again() {
    let gateway = Gateway::start([]).await;
    gateway.state.lock().unwrap().is_channel = true;
    let publisher = builder(&gateway).start();
    let error = publisher.publish(Event::json(json!({}))).await.unwrap_err();
    assert!(
        matches!(error, PublishError::Topic(TopicError::Channel(_))),
        "{error}"
    );
    gateway.state.lock().unwrap().is_channel = false;
    publisher.publish(Event::json(json!({}))).await.unwrap();
}

#[tokio::test]
async fn a_refused_event_fails_alone_with_its_id_and_is_not_sent_again() {
    let gateway = Gateway::start([]).await;
    let publisher = builder(&gateway).start();
    let mut results = send(&publisher, ["a", REFUSED_ID, "b"]).await;
    let failed = results.remove(1).unwrap_err();
    assert_eq!(
        failed.to_string(),
        "event refuse-me: this event is not wanted"
    );
    assert!(matches!(
        failed.error,
        PublishError::Refused { code: 1, .. }
    ));
    assert!(!failed.error.is_retryable());
    results.into_iter().for_each(|result| drop(result.unwrap()));
    assert_eq!(gateway.stored(), ["a", "b"]);
    assert_eq!(gateway.state.lock().unwrap().requests.len(), 1);
}

#[tokio::test]
async fn an_event_whose_sync_failed_is_not_called_refused() {
    let gateway = Gateway::start([]).await;
    let publisher = builder(&gateway).start();
    let mut results = send(&publisher, ["a", DOUBTFUL_ID]).await;
    let failed = results.remove(1).unwrap_err();
    assert!(failed.error.may_be_stored() && failed.error.is_retryable());
    results.remove(0).unwrap();
}

#[tokio::test]
async fn what_a_busy_gateway_refuses_is_sent_again_before_what_came_after_it() {
    let busy = Reply::Refuse(Code::ResourceExhausted, "service.protection.triggered");
    let gateway = Gateway::start([Reply::Store, busy, busy]).await;
    let publisher = builder(&gateway).start();
    let ids = ids_of_requests(6);
    expect_published(&send(&publisher, ids.clone()).await, &ids);
    assert_eq!(gateway.stored(), ids);
    let state = gateway.state.lock().unwrap();
    assert_eq!(state.streams, 3);
    assert_eq!(state.requests[1].1, state.requests[2].1);
}

#[tokio::test]
async fn patience_with_a_busy_gateway_ends() {
    let busy = Reply::Refuse(Code::ResourceExhausted, "service.protection.triggered");
    let gateway = Gateway::start([busy; 2]).await;
    let publisher = builder(&gateway).retry_for(Duration::ZERO).start();
    let error = errors(send(&publisher, ["a"]).await).remove(0);
    assert!(matches!(error, PublishError::RequestRefused(_)), "{error}");
    assert!(error.is_retryable() && !error.may_be_stored());
    // What would come next has no way around it.
    let next = publisher.send(event("b")).await.unwrap_err();
    assert_eq!(next.to_string(), error.to_string());
    assert!(publisher.close().await.is_err());
    assert_eq!(gateway.state.lock().unwrap().requests.len(), 1);
}

#[tokio::test]
async fn what_was_not_answered_is_sent_again_under_the_same_id() {
    let gateway = Gateway::start([Reply::Store, Reply::StoreAndEnd]).await;
    let publisher = builder(&gateway).start();
    let ids = ids_of_requests(4);
    expect_published(&send(&publisher, ids.clone()).await, &ids);
    // The second request is there twice, and both times in one piece.
    let second = PUBLISH_BATCH_EVENTS_MAX..2 * PUBLISH_BATCH_EVENTS_MAX;
    let mut expected = ids.clone();
    expected.splice(second.start..second.start, ids[second].iter().cloned());
    assert_eq!(gateway.stored(), expected);
}

#[tokio::test]
async fn a_gateway_that_does_not_know_either_is_asked_again() {
    for suffix in ["service.unavailable", "subscription.internal.error"] {
        let gateway = Gateway::start([Reply::Refuse(Code::Unavailable, suffix)]).await;
        let publisher = builder(&gateway).start();
        let ids = ids(3);
        expect_published(&send(&publisher, ids.clone()).await, &ids);
    }
}

#[tokio::test]
async fn whoever_wants_no_event_twice_is_told_what_is_not_known() {
    let gateway = Gateway::start([Reply::Store, Reply::StoreAndEnd]).await;
    let publisher = builder(&gateway).resend(Resend::Never).start();
    let ids = ids_of_requests(PUBLISH_REQUESTS_IN_FLIGHT_MAX * 2);
    let mut unconfirmed = 0;
    for result in send(&publisher, ids.clone()).await {
        if let Err(failed) = result {
            assert!(failed.error.may_be_stored() && failed.error.is_retryable());
            assert!(failed.to_string().contains("perhaps stored"), "{failed}");
            unconfirmed += 1;
        }
    }
    assert!(unconfirmed >= PUBLISH_BATCH_EVENTS_MAX);
    // What came after is sent, and nothing is there twice.
    let stored = gateway.stored();
    assert_eq!(stored.last(), ids.last());
    let distinct: std::collections::HashSet<_> = stored.iter().collect();
    assert_eq!(distinct.len(), stored.len());
}

#[tokio::test]
async fn a_stream_that_was_idle_and_ended_is_no_error() {
    let idle = Reply::StoreAndRefuse(Code::DeadlineExceeded, "publish.stream.sweeper.timeout");
    let gateway = Gateway::start([idle, Reply::StoreAndRefuse(Code::Unavailable, "x")]).await;
    let publisher = builder(&gateway).resend(Resend::Never).start();
    for id in ids(3) {
        send(&publisher, [id]).await.remove(0).unwrap();
    }
    publisher.close().await.unwrap();
    assert_eq!(gateway.stored(), ids(3));
}

#[tokio::test]
async fn a_stream_without_events_is_given_up_in_good_order() {
    let gateway = Gateway::start([]).await;
    let mut builder = builder(&gateway);
    builder.waits.stream_kept = Duration::ZERO;
    let publisher = builder.start();
    for (streams, id) in (1..).zip(ids(3)) {
        send(&publisher, [id]).await.remove(0).unwrap();
        let half_closed = || gateway.state.lock().unwrap().half_closed;
        while half_closed() < streams {
            tokio::task::yield_now().await;
        }
    }
    publisher.close().await.unwrap();
    let state = gateway.state.lock().unwrap();
    assert_eq!((state.streams, state.half_closed), (3, 3));
}

#[tokio::test]
async fn an_answer_that_never_comes_is_not_waited_for_without_end() {
    let gateway = Gateway::start([Reply::Hold]).await;
    let mut builder = builder(&gateway);
    builder.waits.answer = Duration::from_millis(200);
    let publisher = builder.start();
    send(&publisher, ["a"]).await.remove(0).unwrap();
    assert!(gateway.state.lock().unwrap().requests.len() > 1);
}

#[tokio::test]
async fn answers_that_do_not_fit_end_the_publisher_and_settle_nothing_wrongly() {
    for (reply, reason) in [
        (Reply::TooFew, "2 events with 1 results"),
        (Reply::Malformed, "malformed"),
    ] {
        let gateway = Gateway::start([reply]).await;
        let publisher = builder(&gateway).start();
        for error in errors(send(&publisher, ["a", "b"]).await) {
            assert!(error.may_be_stored(), "{error}");
            assert!(error.to_string().contains(reason), "{error}");
        }
        let next = publisher.send(event("c")).await.unwrap_err();
        assert!(!next.may_be_stored(), "{next}");
        assert!(publisher.close().await.is_err());
    }
}

#[tokio::test]
async fn an_answer_to_nothing_ends_the_publisher() {
    let gateway = Gateway::start([Reply::Twice]).await;
    let publisher = builder(&gateway).start();
    send(&publisher, ["a"]).await.remove(0).unwrap();
    while publisher.queue.ended().is_none() {
        tokio::task::yield_now().await;
    }
    let error = publisher.send(event("b")).await.unwrap_err();
    assert!(
        error.to_string().contains("more requests than were sent"),
        "{error}"
    );
    assert!(!error.may_be_stored());
}

#[tokio::test]
async fn a_refused_request_fails_alone_and_what_is_behind_it_goes_on() {
    let refused = Reply::Refuse(Code::InvalidArgument, "publish.event.count.invalid");
    let gateway = Gateway::start([Reply::Store, refused]).await;
    let publisher = builder(&gateway).start();
    let results = send(&publisher, ids_of_requests(4)).await;
    for (number, result) in results.into_iter().enumerate() {
        let is_of_second = number / PUBLISH_BATCH_EVENTS_MAX == 1;
        assert_eq!(result.is_err(), is_of_second, "{number}: {result:?}");
        if let Err(failed) = result {
            assert!(matches!(failed.error, PublishError::RequestRefused(_)));
            assert!(!failed.error.is_retryable() && !failed.error.may_be_stored());
        }
    }
    publisher.close().await.unwrap();
}

#[tokio::test]
async fn who_may_not_publish_is_told_and_not_tried_again() {
    for code in [
        Code::PermissionDenied,
        Code::NotFound,
        Code::Unauthenticated,
    ] {
        let gateway = Gateway::start([Reply::Refuse(code, "x"); 9]).await;
        let publisher = builder(&gateway).start();
        for error in errors(send(&publisher, ids(3)).await) {
            let PublishError::RequestRefused(error) = error else {
                panic!("{error}");
            };
            assert_eq!(
                error.code(),
                code,
                "the gateway's own words, and not why no token came"
            );
        }
        assert!(publisher.close().await.is_err());
        assert_eq!(gateway.state.lock().unwrap().requests.len(), 1);
    }
}

#[tokio::test]
async fn a_token_that_ran_out_is_renewed_also_where_the_login_host_is_away_for_a_moment() {
    let expired = Reply::Refuse(Code::Unauthenticated, "service.auth.error");
    let away = Reply::Refuse(Code::Unavailable, "service.unavailable");
    let directory = tempfile::tempdir().unwrap();
    let runs = directory.path().join("runs");
    // The second of its runs fails; all others print a token.
    let command = format!(
        "echo run >> {0}; [ $(wc -l < {0}) = 2 ] && exit 1; echo 00D000000000001!t",
        runs.display()
    );
    // In the middle, one that is not tried before it runs out too.
    let stored = Reply::Store;
    let script = [expired, expired, stored, expired, away, expired, stored];
    let gateway = Gateway::start(script).await.signed_in_by(command).await;
    let publisher = builder(&gateway).start();
    for id in ["a", "b"] {
        let results = send(&publisher, [id]).await;
        expect_published(&results, &[id.to_owned()]);
    }
    publisher.close().await.unwrap();
    assert_eq!(gateway.stored(), ["a", "b"]);
    let runs = std::fs::read_to_string(runs).unwrap().lines().count();
    assert_eq!(
        runs, 5,
        "the first, one that failed, and one for each refusal"
    );
}

#[tokio::test]
async fn a_token_that_ran_out_is_renewed_also_for_the_topics_schema() {
    let command = "echo 00D000000000001!t".to_owned();
    let gateway = Gateway::start([]).await.signed_in_by(command).await;
    gateway.state.lock().unwrap().refused_look_ups = 1;
    let publisher = builder(&gateway).start();
    publisher.schema().await.unwrap();
    gateway.state.lock().unwrap().refused_look_ups = 2;
    let publisher = builder(&gateway).start();
    let error = publisher.schema().await.unwrap_err();
    assert!(error.to_string().contains("service.auth.error"), "{error}");
}

#[tokio::test]
async fn a_new_token_that_is_refused_at_once_is_not_renewed_again() {
    let expired = Reply::Refuse(Code::Unauthenticated, "service.auth.error");
    let command = "echo 00D000000000001!t".to_owned();
    let gateway = Gateway::start([expired; 9]).await;
    let gateway = gateway.signed_in_by(command).await;
    let publisher = builder(&gateway).start();
    let error = errors(send(&publisher, ["a"]).await).remove(0);
    assert!(matches!(error, PublishError::RequestRefused(_)), "{error}");
    assert_eq!(gateway.state.lock().unwrap().requests.len(), 2);
}

#[tokio::test]
async fn a_doubt_outlives_a_later_refusal() {
    let denied = Reply::Refuse(Code::PermissionDenied, "topic.meta.permission");
    let gateway = Gateway::start([Reply::StoreAndEnd, denied]).await;
    let publisher = builder(&gateway).start();
    let error = errors(send(&publisher, ["a"]).await).remove(0);
    assert!(error.may_be_stored(), "{error}");
}

#[tokio::test]
async fn what_a_gateway_that_went_away_cannot_have_stored_is_told_so() {
    let elsewhere = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let gateway = Gateway::start_on(elsewhere.handle(), []).await;
    let publisher = builder(&gateway)
        .retry_for(Duration::from_millis(20))
        .start();
    send(&publisher, ["a"]).await.remove(0).unwrap();
    // Its connections end with it.
    elsewhere.shutdown_background();
    let error = errors(send(&publisher, ["b"]).await).remove(0);
    assert!(
        error.client_error().is_some() && error.is_retryable(),
        "{error}"
    );
    publisher.close().await.unwrap_err();
    let other = builder(&gateway).retry_for(Duration::ZERO).start();
    let error = other.publish(event("c")).await.unwrap_err();
    assert!(matches!(error, PublishError::Connection(_)), "{error}");
    let error = errors(send(&other, ["d"]).await).remove(0);
    assert!(matches!(error, PublishError::Connection(_)), "{error}");
    assert!(error.to_string().starts_with("not sent: "), "{error}");
}

#[tokio::test]
async fn flushing_waits_for_every_result() {
    let gateway = Gateway::start([]).await;
    let publisher = builder(&gateway).start();
    publisher.flush().await;
    let mut tickets = Vec::new();
    for id in ids_of_requests(5) {
        tickets.push(publisher.send(event(id)).await.unwrap());
    }
    publisher.flush().await;
    assert!(tickets.iter().all(Ticket::is_settled));
}

#[tokio::test]
async fn nobody_waits_for_results_of_a_publisher_that_was_dropped() {
    let gateway = Gateway::start([Reply::Hold]).await;
    let publisher = builder(&gateway).start();
    let ticket = publisher.send(event("a")).await.unwrap();
    drop(publisher);
    ticket.result().await.unwrap_err();
}

#[tokio::test]
async fn what_waits_for_room_comes_in_the_order_of_its_callers() {
    let gateway = Gateway::start([]).await;
    let publisher = Arc::new(builder(&gateway).start());
    let ids = ids(PUBLISH_BATCH_EVENTS_MAX * (PUBLISH_REQUESTS_IN_FLIGHT_MAX + 4));
    let mut sends = futures_util::stream::FuturesOrdered::new();
    for id in ids.clone() {
        let publisher = Arc::clone(&publisher);
        sends.push_back(async move { publisher.send(event(id)).await.unwrap() });
    }
    use futures_util::StreamExt;
    let tickets: Vec<_> = sends.collect().await;
    for ticket in tickets {
        ticket.result().await.unwrap();
    }
    assert_eq!(gateway.stored(), ids);
}

#[tokio::test]
async fn single_calls_are_made_again_when_that_is_safe() {
    let busy = Reply::Refuse(Code::ResourceExhausted, "service.protection.triggered");
    let gateway = Gateway::start([busy, Reply::StoreAndEnd]).await;
    let publisher = builder(&gateway).start();
    let published = publisher.publish(event("a")).await.unwrap();
    assert_eq!(published.event_id, "a");
    assert_eq!(gateway.stored(), ["a", "a"]);

    let gateway = Gateway::start([Reply::StoreAndEnd]).await;
    let publisher = builder(&gateway).resend(Resend::Never).start();
    let error = publisher.publish(event("a")).await.unwrap_err();
    assert!(error.may_be_stored(), "{error}");
    assert_eq!(gateway.stored(), ["a"]);

    let gateway = Gateway::start([Reply::Refuse(Code::PermissionDenied, "x"), Reply::TooFew]).await;
    let publisher = builder(&gateway).start();
    let error = publisher.publish(event("a")).await.unwrap_err();
    assert!(matches!(error, PublishError::RequestRefused(_)), "{error}");
    let error = publisher.publish(event("a")).await.unwrap_err();
    assert!(matches!(error, PublishError::Unconfirmed(_)), "{error}");
}

#[tokio::test]
async fn single_calls_are_split_by_the_bounds_of_a_request() {
    let gateway = Gateway::start([]).await;
    let publisher = builder(&gateway).start();
    let ids = ids_of_requests(3);
    let results = publisher.publish_all(ids.iter().map(event)).await.unwrap();
    expect_published(&results, &ids);
    assert_eq!(gateway.state.lock().unwrap().requests.len(), 3);
    assert!(publisher.publish_all([]).await.unwrap().is_empty());
}
