use prost::Message;

use super::{container::tests::container, *};
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
    let (_, ended) = run_publish(gateway, Source::new(lines.as_bytes()), &mut output).await;
    let text = String::from_utf8(output.into_writer()).unwrap();
    let results = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (results.collect(), ended)
}

async fn run_publish<R: AsyncRead + Unpin>(
    gateway: &FakeGateway,
    source: Source<R>,
    output: &mut Output<Vec<u8>>,
) -> (Tally, Result<(), Failure>) {
    let job = Job {
        source,
        progress: &ProgressBar::hidden(),
        resume: None,
        retry_for: Duration::ZERO,
        interrupted: std::future::pending(),
    };
    publish(
        &gateway.connect().await,
        TOPIC.parse().unwrap(),
        job,
        output,
    )
    .await
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
    let (_, ended) = run_publish(&gateway, Source::new(lines.as_bytes()), &mut output).await;
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
    let (_, ended) = run_publish(
        &gateway,
        Source::single(&b"{\n\"Amount__c\": \"much\"}"[..]),
        &mut output,
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
    let (_, ended) = run_publish(&gateway, Source::new(broken), &mut output).await;
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

/// Another version of the topic's schema: one field less, one more.
fn other_version() -> String {
    let other = r#"{"name":"Gift__c","type":["null","string"],"default":null}"#;
    let mut schema: serde_json::Value =
        serde_json::from_str(crate::cli::fake_gateway::ORDER_CREATED).unwrap();
    schema["fields"][4] = serde_json::from_str(other).unwrap();
    schema.to_string()
}

async fn publish_container(
    gateway: &FakeGateway,
    container: &[u8],
) -> (Vec<serde_json::Value>, Result<(), Failure>) {
    let mut output = Output::new(Format::Json, Vec::new());
    let (_, ended) = run_publish(gateway, Source::new(container), &mut output).await;
    let text = String::from_utf8(output.into_writer()).unwrap();
    let results = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (results.collect(), ended)
}

#[tokio::test]
async fn the_records_of_a_container_are_published_as_they_are() {
    use crate::cli::fake_gateway::{ORDER_CREATED, ORDER_CREATED_ID};
    for codec in ["null", "deflate"] {
        let gateway = FakeGateway::start().await;
        let file = container(ORDER_CREATED, codec, 250);
        let (results, ended) = publish_container(&gateway, &file).await;
        ended.unwrap();
        assert_eq!(results.len(), 250);
        let state = gateway.state.lock().unwrap();
        assert_eq!(state.events.len(), 250);
        assert_eq!(state.events[249].schema_id, ORDER_CREATED_ID);
        // They keep what they say of their making, which JSON would have filled in.
        let schema = crate::schema::Schema::parse(ORDER_CREATED).unwrap();
        let payload = schema.to_json(&state.events[249].payload).unwrap();
        assert_eq!(payload["Order_Number__c"], "A-249");
        assert_eq!(payload["CreatedDate"], 0);
    }
}

#[tokio::test]
async fn a_container_of_a_schema_that_the_gateway_knows_keeps_it() {
    let gateway = FakeGateway::start().await;
    let other = other_version();
    let id = crate::schema::Schema::parse(&other)
        .unwrap()
        .id()
        .to_string();
    let known = (id.clone(), other.clone());
    gateway.state.lock().unwrap().schemas.extend([known]);
    let (_, ended) = publish_container(&gateway, &container(&other, "null", 1)).await;
    ended.unwrap();
    assert_eq!(gateway.state.lock().unwrap().events[0].schema_id, id);
}

#[tokio::test]
async fn a_container_of_another_schema_is_published_by_the_topics_own() {
    use crate::cli::fake_gateway::ORDER_CREATED_ID;
    // It has a field that the topic does not know, and each of its records says so.
    let gateway = FakeGateway::start().await;
    let (results, ended) =
        publish_container(&gateway, &container(&other_version(), "null", 2)).await;
    assert_eq!(
        ended.unwrap_err().to_string(),
        "2 of 2 events were not published"
    );
    let error = results[1]["error"].as_str().unwrap();
    assert!(error.starts_with("event 2: "), "{error}");
    assert!(error.contains("Gift__c"), "{error}");

    let narrow = r#"{"type":"record","name":"Narrow","fields":[
        {"name":"Order_Number__c","type":["null","string"],"default":null}]}"#;
    let (_, ended) = publish_container(&gateway, &container(narrow, "deflate", 2)).await;
    ended.unwrap();
    let state = gateway.state.lock().unwrap();
    assert_eq!(state.events.len(), 2);
    assert_eq!(state.events[1].schema_id, ORDER_CREATED_ID);
}

#[tokio::test]
async fn a_damaged_container_publishes_what_was_read_before_the_damage() {
    let gateway = FakeGateway::start().await;
    let mut file = container(crate::cli::fake_gateway::ORDER_CREATED, "null", 25);
    file.truncate(file.len() - 1);
    let (results, ended) = publish_container(&gateway, &file).await;
    let failure = ended.unwrap_err();
    assert_eq!(failure.exit(), Exit::Failed);
    assert!(failure.to_string().contains("after event 20"), "{failure}");
    assert_eq!(results.len(), 20);
}

#[tokio::test]
async fn a_file_that_became_smaller_is_not_taken_for_whole() {
    let gateway = FakeGateway::start().await;
    let mut output = Output::new(Format::Json, Vec::new());
    let mut source = Source::new(&b"{}\n"[..]);
    source.bytes = Some(6);
    let (tally, ended) = run_publish(&gateway, source, &mut output).await;
    let failure = ended.unwrap_err().to_string();
    assert!(
        failure.contains("it had 6 bytes, and 3 were found"),
        "{failure}"
    );
    assert_eq!(tally.published, 1);
    output.into_writer();
}

/// A directory with a file of events.
struct Inputs(tempfile::TempDir);

impl Inputs {
    fn new(lines: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("events"), lines).unwrap();
        Self(dir)
    }

    fn resume(&self) -> Resume {
        let file = self.0.path().join("events");
        let tenant_id = "00D000000000001".parse().unwrap();
        let topic = TOPIC.parse().unwrap();
        let resume = open_resume(None, &file, &topic, &tenant_id);
        resume.unwrap().unwrap()
    }

    fn has_resume_file(&self) -> bool {
        self.0.path().join("events.tidegate-resume").exists()
    }

    /// Publishes the file until `interrupted`.
    async fn publish(
        &self,
        gateway: &FakeGateway,
        interrupted: impl Future<Output = ()>,
    ) -> (Tally, Result<(), Failure>) {
        let lines = std::fs::read(self.0.path().join("events")).unwrap();
        let mut output = Output::new(Format::Json, Vec::new());
        let job = Job {
            source: Source::new(lines.as_slice()),
            progress: &ProgressBar::hidden(),
            resume: Some(self.resume()),
            retry_for: Duration::ZERO,
            interrupted,
        };
        let topic = TOPIC.parse().unwrap();
        let ended = publish(&gateway.connect().await, topic, job, &mut output).await;
        output.into_writer();
        ended
    }
}

#[tokio::test]
async fn a_run_that_broke_off_goes_on_behind_what_is_settled_under_the_same_ids() {
    let gateway = FakeGateway::start().await;
    // A request of its own, and then one that breaks: nothing of the second is settled.
    let first = "{}\n".repeat(PUBLISH_BATCH_EVENTS_MAX);
    let lines = [first.as_str(), "{}\n", &line(BREAKING_ID), "oops\n"].concat();
    let inputs = Inputs::new(&lines);
    let (tally, ended) = inputs.publish(&gateway, std::future::pending()).await;
    assert!(matches!(ended, Err(Failure::Client(_))), "{ended:?}");
    assert_eq!((tally.published, tally.unsettled), (200, 2));
    assert!(inputs.has_resume_file());
    let resume = inputs.resume();
    assert_eq!(resume.began_at(), 200);
    let [first, later] = [1, 201].map(|number| resume.event_id(number));
    drop(resume);

    // Another gateway, which takes everything: what is asked of it is what was not settled.
    let second = FakeGateway::start().await;
    second.state.lock().unwrap().takes_everything = true;
    let (tally, ended) = inputs.publish(&second, std::future::pending()).await;
    assert_eq!(
        ended.unwrap_err().to_string(),
        "1 of 3 events were not published"
    );
    assert_eq!((tally.published, tally.refused), (2, 1));
    let state = second.state.lock().unwrap();
    assert_eq!(state.events[0].id, later);
    assert_eq!(state.events[1].id, BREAKING_ID);
    assert_eq!(gateway.state.lock().unwrap().events[0].id, first);
    assert!(!inputs.has_resume_file(), "everything has its result");
}

#[tokio::test]
async fn an_interrupted_run_says_so_and_can_go_on() {
    let gateway = FakeGateway::start().await;
    let inputs = Inputs::new(&"{}\n".repeat(1_000));
    let state = std::sync::Arc::clone(&gateway.state);
    let interrupted = async move {
        while state.lock().unwrap().events.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let (tally, ended) = inputs.publish(&gateway, interrupted).await;
    assert_eq!(ended.unwrap_err().to_string(), "interrupted");
    assert!(tally.published > 0 && tally.published < 1_000, "{tally:?}");
    assert_eq!(inputs.resume().began_at(), tally.published);
    let (rest, ended) = inputs.publish(&gateway, std::future::pending()).await;
    ended.unwrap();
    assert_eq!(tally.published + rest.published, 1_000);
    let state = gateway.state.lock().unwrap();
    let ids: std::collections::HashSet<_> = state.events.iter().map(|event| &event.id).collect();
    assert_eq!((ids.len(), state.events.len()), (1_000, 1_000));
    assert!(!inputs.has_resume_file());
}

#[tokio::test]
async fn a_run_that_could_not_begin_leaves_nothing_behind() {
    let gateway = FakeGateway::start().await;
    let inputs = Inputs::new("{}\n");
    gateway.state.lock().unwrap().refuses_publishing = true;
    let (_, ended) = inputs.publish(&gateway, std::future::pending()).await;
    assert_eq!(ended.unwrap_err().exit(), Exit::NotPermitted);
    assert!(!inputs.has_resume_file());
}

#[test]
fn a_run_is_summed_up_in_one_line() {
    let mut tally = Tally {
        published: 10_000,
        ..Tally::default()
    };
    let took = Duration::from_millis(1_240);
    assert_eq!(tally.summary(took), "published 10,000 events in 1.2 s");
    tally.refused = 3;
    assert_eq!(
        tally.summary(took),
        "published 10,000 events in 1.2 s, 3 refused"
    );
    tally.unsettled = 1_234_567;
    let summary = tally.summary(took);
    assert!(
        summary.ends_with("3 refused, 1,234,567 not confirmed or not sent"),
        "{summary}"
    );
}
