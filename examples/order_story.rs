//! A shop and a fulfilment service that never call each other, and never lose an order.
//!
//! Start a gateway with `cargo run --release -- serve`, then this with
//! `cargo run --release --example order_story`. Orders go out while fulfilment is down; it comes
//! back, gets each of them once and in order, and answers with status events that the shop receives.

mod story;

use anyhow::ensure;
use serde_json::json;
use story::{Service, replay_id_text};

const ORDERS: &str = "/event/OrderCreated__e";
const STATUSES: &str = "/event/OrderStatusUpdated__e";
const ORDER_COUNT: usize = 5;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let shop = Service::connect("shop").await?;
    let fulfilment = Service::connect("fulfilment").await?;
    // What each of them has seen so far; from here on it is all they remember.
    let shop_seen = shop.latest(STATUSES).await?;
    let fulfilment_seen = fulfilment.latest(ORDERS).await?;

    println!("Fulfilment is down. The shop takes orders all the same.");
    let numbers: Vec<_> = (1..=ORDER_COUNT).map(|n| format!("A-{n:03}")).collect();
    for number in &numbers {
        let order = json!({ "Order_Number__c": number, "Amount__c": 42.5, "Priority__c": true });
        let replay_id = shop.publish(ORDERS, order).await?;
        println!(
            "  shop        ordered {number}, replay id {}",
            replay_id_text(&replay_id)
        );
    }

    println!("Fulfilment comes back and goes on from where it stopped.");
    let orders = fulfilment
        .receive(ORDERS, &fulfilment_seen, ORDER_COUNT)
        .await?;
    for order in &orders {
        let number = &order["Order_Number__c"];
        println!("  fulfilment  got {number}, ships it");
        let status = json!({ "Order_Number__c": number, "Status__c": "SHIPPED" });
        fulfilment.publish(STATUSES, status).await?;
    }

    println!("The shop hears of it.");
    let statuses = shop.receive(STATUSES, &shop_seen, ORDER_COUNT).await?;
    for status in &statuses {
        println!(
            "  shop        {} is {}",
            status["Order_Number__c"], status["Status__c"]
        );
    }

    let numbers_of = |events: &[serde_json::Value]| {
        let numbers = events.iter().map(|event| event["Order_Number__c"].clone());
        numbers.collect::<Vec<_>>()
    };
    ensure!(
        numbers_of(&orders) == numbers,
        "fulfilment missed, repeated or reordered an order"
    );
    ensure!(
        numbers_of(&statuses) == numbers,
        "the shop missed, repeated or reordered a status"
    );
    println!("Every order arrived once and in order, and so did every answer.");
    Ok(())
}
