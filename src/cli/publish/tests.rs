use prost::Message;

use super::*;
use crate::{
    cli::{
        fake_gateway::{BREAKING_ID, FakeGateway, REFUSED_ID},
        output::Format,
    },
    types::limits::{PUBLISH_BATCH_EVENTS_MAX, PUBLISH_REQUESTS_IN_FLIGHT_MAX},
};

const TOPIC: &str = "/event/OrderCreated__e";

/// Publishes the lines and returns the result lines, and how the command ended.
async fn publish_lines(
    gateway: &FakeGateway,
    lines: &str,
) -> (Vec<serde_json::Value>, Result<(), Failure>) {
    let mut output = Output::new(Format::Json, Vec::new());
    let ended = publish(
        &gateway.connect().await,
        TOPIC.parse().unwrap(),
        Lines::new(lines.as_bytes()),
        &mut output,
        &ProgressBar::hidden(),
    )
    .await;
    let text = String::from_utf8(output.into_writer()).unwrap();
    let results = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (results.collect(), ended)
}

fn line(id: &str) -> String {
    format!("{{\"event_id\": \"{id}\", \"payload\": {{\"Order_Number__c\": \"{id}\"}}}}\n")
}

#[tokio::test]
async fn every_event_gets_its_result_in_order() {
    let gateway = FakeGateway::start().await;
    let lines: String = (0..1_000)
        .map(|number| line(&format!("e-{number}")))
        .collect();
    let (results, ended) = publish_lines(&gateway, &lines).await;
    ended.unwrap();
    assert_eq!(results.len(), 1_000);
    for (number, result) in results.iter().enumerate() {
        assert_eq!(result["event_id"], format!("e-{number}"));
        let replay_id = crate::cli::fake_gateway::replay_id(number + 1).to_string();
        assert_eq!(result["replay_id"], replay_id);
        assert_eq!(result["error"], serde_json::Value::Null);
    }
    let state = gateway.state.lock().unwrap();
    assert_eq!(state.events[999].id, "e-999");
    assert!(
        state
            .publishes
            .iter()
            .all(|&events| events <= PUBLISH_BATCH_EVENTS_MAX)
    );
    // All lines are at hand at once, so no request goes out half full.
    assert_eq!(state.publishes.len(), 1_000 / PUBLISH_BATCH_EVENTS_MAX);
}

#[tokio::test]
async fn requests_stay_below_their_size() {
    let gateway = FakeGateway::start().await;
    let text = "x".repeat(1_000_000);
    let lines = format!("{{\"Order_Number__c\": \"{text}\"}}\n").repeat(10);
    let (results, ended) = publish_lines(&gateway, &lines).await;
    ended.unwrap();
    assert_eq!(results.len(), 10);
    assert_eq!(gateway.state.lock().unwrap().publishes, [3, 3, 3, 1]);
}

#[tokio::test]
async fn more_requests_than_may_be_in_flight_all_get_through() {
    let gateway = FakeGateway::start().await;
    let events = PUBLISH_BATCH_EVENTS_MAX * (PUBLISH_REQUESTS_IN_FLIGHT_MAX * 2 + 1) + 1;
    let (results, ended) = publish_lines(&gateway, &"{}\n".repeat(events)).await;
    ended.unwrap();
    assert_eq!(results.len(), events);
}

#[tokio::test]
async fn a_line_that_is_refused_keeps_its_place_and_stops_nothing() {
    let gateway = FakeGateway::start().await;
    let lines = [
        line("e-1"),
        "not json\n".into(),
        line(REFUSED_ID),
        "{\"Order_Numbr__c\": \"A-17\"}\n".into(),
        line("e-2"),
    ];
    let (results, ended) = publish_lines(&gateway, &lines.concat()).await;
    let failure = ended.unwrap_err();
    assert_eq!(failure.exit(), Exit::Failed);
    assert_eq!(failure.to_string(), "3 of 5 events were not published");
    let error = |at: usize| results[at]["error"].as_str().unwrap_or_default();
    assert_eq!(results[0]["event_id"], "e-1");
    assert!(error(1).starts_with("line 2: not JSON"), "{}", error(1));
    assert_eq!(results[1]["event_id"], serde_json::Value::Null);
    assert_eq!(error(2), "line 3: this event is not wanted");
    assert_eq!(results[2]["event_id"], REFUSED_ID);
    assert_eq!(results[2]["replay_id"], serde_json::Value::Null);
    assert!(
        error(3).contains("did you mean Order_Number__c?"),
        "{}",
        error(3)
    );
    assert_eq!(results[4]["event_id"], "e-2");
    assert_eq!(gateway.state.lock().unwrap().events.len(), 2);
}

#[tokio::test]
async fn an_input_without_any_good_event_asks_nothing_of_the_gateway() {
    let gateway = FakeGateway::start().await;
    let (results, ended) = publish_lines(&gateway, "1\n2\n").await;
    assert_eq!(results.len(), 2);
    assert!(ended.is_err());
    assert!(gateway.state.lock().unwrap().publishes.is_empty());
    let (results, ended) = publish_lines(&gateway, "").await;
    assert!(results.is_empty());
    ended.unwrap();
}

#[tokio::test]
async fn when_the_stream_breaks_every_line_read_has_a_result() {
    let gateway = FakeGateway::start().await;
    let lines = [line("e-1"), line(BREAKING_ID), "oops\n".into()];
    let (results, ended) = publish_lines(&gateway, &lines.concat()).await;
    assert!(matches!(ended, Err(Failure::Client(_))), "{ended:?}");
    assert_eq!(results.len(), 3);
    assert_eq!(results[0]["event_id"], "e-1");
    assert!(
        results[0]["error"]
            .as_str()
            .unwrap()
            .contains("service.unavailable")
    );
    assert!(results[2]["error"].as_str().unwrap().contains("not JSON"));
}

#[tokio::test]
async fn what_may_not_be_published_to_is_told_before_anything_is_sent() {
    let gateway = FakeGateway::start().await;
    let connection = gateway.connect().await;
    let refusal = |topic: &str| {
        let topic: TopicName = topic.parse().unwrap();
        let connection = connection.clone();
        async move { look_up(&connection, &topic).await.unwrap_err() }
    };
    let channel = refusal("/event/Orders__chn").await;
    assert!(channel.to_string().contains("is a channel"), "{channel}");
    let unknown = refusal("/event/Nothing__e").await;
    assert!(unknown.to_string().contains("topic list"), "{unknown}");
    gateway.state.lock().unwrap().refuses_publishing = true;
    let refused = refusal(TOPIC).await;
    assert_eq!(refused.exit(), Exit::NotPermitted);
    let state = gateway.state.lock().unwrap();
    assert_eq!(
        state.metadata.get("accesstoken").unwrap(),
        "00D000000000001!secret"
    );
    assert_eq!(
        state.metadata.get("instanceurl").unwrap(),
        "https://localhost"
    );
    assert_eq!(state.metadata.get("tenantid").unwrap().len(), 18);
    assert!(state.metadata.contains_key("x-client-trace-id"));
}

#[tokio::test]
async fn text_results_are_lines_for_people() {
    let gateway = FakeGateway::start().await;
    let mut output = Output::new(Format::Text, Vec::new());
    let lines = [line("e-1"), line(REFUSED_ID)].concat();
    let ended = publish(
        &gateway.connect().await,
        TOPIC.parse().unwrap(),
        Lines::new(lines.as_bytes()),
        &mut output,
        &ProgressBar::hidden(),
    )
    .await;
    assert!(ended.is_err());
    let text = String::from_utf8(output.into_writer()).unwrap();
    assert_eq!(
        text,
        "00000000000000010000  e-1\n\
         -                     refuse-me  error: line 2: this event is not wanted\n"
    );
}

#[tokio::test]
async fn one_event_has_no_line_number() {
    let gateway = FakeGateway::start().await;
    let mut output = Output::new(Format::Json, Vec::new());
    let ended = publish(
        &gateway.connect().await,
        TOPIC.parse().unwrap(),
        Lines::single(&b"{\n\"Amount__c\": \"much\"}"[..]),
        &mut output,
        &ProgressBar::hidden(),
    )
    .await;
    assert_eq!(
        ended.unwrap_err().to_string(),
        "1 of 1 events were not published"
    );
    let text = String::from_utf8(output.into_writer()).unwrap();
    assert!(text.contains("\"error\":\"field Amount__c"), "{text}");
}

#[tokio::test]
async fn input_that_breaks_off_publishes_what_was_read() {
    let gateway = FakeGateway::start().await;
    let broken = tokio::io::AsyncReadExt::chain(&b"{}\n{}\n"[..], Broken);
    let mut output = Output::new(Format::Json, Vec::new());
    let ended = publish(
        &gateway.connect().await,
        TOPIC.parse().unwrap(),
        Lines::new(broken),
        &mut output,
        &ProgressBar::hidden(),
    )
    .await;
    assert!(ended.unwrap_err().to_string().contains("cannot be read on"));
    assert_eq!(
        output
            .into_writer()
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count(),
        2
    );
    let state = gateway.state.lock().unwrap();
    assert_eq!(state.events.len(), 2);
    assert!(state.events[0].encoded_len() > 0);
}

/// A reader whose disk fails.
struct Broken;

impl AsyncRead for Broken {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Err(std::io::Error::other("the disk failed")))
    }
}
