//! Clients of other languages, made of stock libraries and `proto/` alone, do what theirs do; public
//! clients of the hosted service sign in and do what they do there.

mod credit;
mod event_source;
mod evolution;
mod exchange;
mod managed;
mod mutated;
mod refusals;
mod restart;
mod sign_in;

use serde_json::{Value, json};

use crate::support::script::{Event, PublishResult};

/// Orders with these numbers, as a client writes them.
fn orders(numbers: impl IntoIterator<Item = usize>) -> Vec<Value> {
    numbers
        .into_iter()
        .map(|number| json!({ "id": order_id(number), "record": order(number) }))
        .collect()
}

fn order(number: usize) -> Value {
    let is_priority = [Value::Null, Value::Bool(true), Value::Bool(false)];
    json!({
        "CreatedDate": 1_700_000_000_000u64 + number as u64,
        "CreatedById": "005000000000001AAA",
        "Order_Number__c": format!("A-{number}"),
        "Amount__c": number as f64 + 0.5,
        "Priority__c": is_priority[number % 3],
    })
}

fn order_id(number: usize) -> String {
    format!("order-{number}")
}

/// Holds `events` to be the orders with these numbers, each as it was published and acknowledged.
#[track_caller]
fn expect_orders(
    events: &[Event],
    numbers: impl IntoIterator<Item = usize>,
    acknowledged: &[PublishResult],
) {
    let numbers: Vec<_> = numbers.into_iter().collect();
    assert_eq!(events.len(), numbers.len());
    assert_eq!(events.len(), acknowledged.len());
    for ((event, number), result) in events.iter().zip(numbers).zip(acknowledged) {
        assert_eq!(event.id, order_id(number));
        assert_eq!(event.record, order(number));
        assert_eq!(
            (&event.replay_id, &event.id),
            (&result.replay_id, &result.correlation_key)
        );
        assert_eq!(result.error, None);
    }
    // In this form replay ids compare like the positions they are.
    assert!(
        events.is_sorted_by(|a, b| a.replay_id < b.replay_id),
        "ids rise"
    );
    assert!(
        events.iter().all(|event| event.replay_id.len() == 20),
        "ids have ten bytes"
    );
}
