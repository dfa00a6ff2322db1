//! Request and reply: a shop asks what became of an order, and waits for the answer, but not for ever.
//!
//! With a gateway running here: `cargo run --release --example request_reply`.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tidegate::{
    client::{Connection, Endpoint},
    publisher::{Event, Publisher},
    subscriber::{Events, Item, Subscriber},
};
use tokio::time::{sleep, timeout};

const QUESTIONS: &str = "/event/OrderCreated__e";
const ANSWERS: &str = "/event/OrderStatusUpdated__e";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let data_dir = std::env::var("TIDEGATE_SERVER__DATA_DIR");
    let data_dir = data_dir.unwrap_or_else(|_| "./tidegate-data".into());
    let endpoint = Endpoint::of_profile(&PathBuf::from(data_dir))?;
    let connection = endpoint.connect().await?;
    let mut answers = subscribe(&connection, ANSWERS)?;
    tokio::spawn(answer_all_but_one(connection.clone()));
    let questions = Publisher::builder(connection, QUESTIONS.parse()?).start();
    // Both sides have to be there before anything is said.
    sleep(Duration::from_secs(1)).await;
    for (number, is_answered) in [(1, true), (2, false), (3, true)] {
        let id = format!("{}-{number}", std::process::id());
        questions
            .publish(Event::json(json!({ "Order_Number__c": id })))
            .await?;
        let answer = timeout(Duration::from_secs(2), answer_to(&mut answers, &id)).await;
        println!("{id}: {answer:?}");
        ensure!(answer.is_ok() == is_answered, "question {id}");
    }
    Ok(())
}

fn subscribe(connection: &Connection, topic: &str) -> anyhow::Result<Events> {
    let subscriber = Subscriber::builder(connection.clone()).topic(topic.parse()?);
    Ok(subscriber.build()?.start())
}

/// The status in the answer to this question; others are for somebody else.
async fn answer_to(answers: &mut Events, id: &str) -> anyhow::Result<String> {
    loop {
        let payload = next(answers).await?;
        if payload["Order_Number__c"] == id {
            return Ok(payload["Status__c"].to_string());
        }
    }
}

async fn next(events: &mut Events) -> anyhow::Result<Value> {
    loop {
        if let Item::Event(event) = events.next().await?.context("it ended")? {
            let payload = event.json()?;
            event.done();
            return Ok(payload);
        }
    }
}

/// The other side, which never answers the second question.
async fn answer_all_but_one(connection: Connection) -> anyhow::Result<()> {
    let mut questions = subscribe(&connection, QUESTIONS)?;
    let answers = Publisher::builder(connection, ANSWERS.parse()?).start();
    loop {
        let question = next(&mut questions).await?;
        let id = &question["Order_Number__c"];
        if !id.as_str().is_some_and(|id| id.ends_with("-2")) {
            let answer = json!({ "Order_Number__c": id, "Status__c": "SHIPPED" });
            answers.publish(Event::json(answer)).await?;
        }
    }
}
