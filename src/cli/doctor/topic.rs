//! A topic: whether it is there, what the token may do with it, its schema, and an event there and
//! back.

use std::time::{Duration, Instant};

use prost::Message;
use serde_json::Value;
use tokio::{io::AsyncWrite, time::timeout};
use tonic::Code;

use super::{Check, Problem, Report, answered, caller::Caller};
use crate::{
    cli::exit::{Exit, Failure},
    client::{ClientError, Connection, Subscription},
    proto::{ConsumerEvent, FetchRequest, ReplayPreset, SchemaRequest},
    publisher::{Event, Publisher},
    schema::Schema,
    types::TopicName,
};

/// How long an event may take to come back. Hosted buses deliver within a few seconds.
const BACK_WITHIN: Duration = Duration::from_secs(10);

pub(super) async fn look<W: AsyncWrite + Unpin>(
    report: &mut Report<'_, W>,
    caller: Caller,
    topic: TopicName,
    event: Option<Value>,
) -> Result<(), Failure> {
    let Caller { connection, answer } = caller;
    let info = answer.map_err(|error| {
        let (exit, fix) = match error.code() {
            Code::NotFound | Code::InvalidArgument => (
                Exit::Failed,
                "`tidegate topic list` shows the topics there are; a schema that is registered makes one",
            ),
            Code::PermissionDenied => (
                Exit::NotPermitted,
                "have the token, or the user it is of, allowed to use it",
            ),
            _ => (Exit::Failed, "try again, and look at the gateway's log"),
        };
        Problem::new(exit, error, fix)
    });
    let info = report.passed(Check::Topic, info).await?;
    let found = format!("{} of tenant {}", info.topic_name, info.tenant_guid);
    report.ok(Check::Topic, found).await?;

    let may = match (info.can_publish, info.can_subscribe) {
        (true, true) => Ok((true, "publish and subscribe")),
        (true, false) => Ok((false, "publish, and not subscribe")),
        (false, true) => Ok((false, "subscribe, and not publish")),
        (false, false) => Err(Problem::new(
            Exit::NotPermitted,
            "the token may neither publish nor subscribe",
            "make one that may: `tidegate token create --publish … --subscribe …`",
        )),
    };
    let (is_whole, may) = report.passed(Check::Rights, may).await?;
    let fix = "make a token that may do both, if this one should: `tidegate token create`";
    match is_whole {
        true => report.ok(Check::Rights, may).await?,
        false => report.warning(Check::Rights, may.into(), fix).await?,
    }

    if info.schema_id.is_empty() {
        report
            .skipped(Check::Schema, "a channel has none of its own")
            .await?;
    } else {
        let found = schema(&connection, info.schema_id).await;
        let found = report.passed(Check::Schema, found).await?;
        report.ok(Check::Schema, found).await?;
    }

    let Some(event) = event else {
        let found = "not made: --publish JSON publishes an event, which every subscriber gets";
        return report.skipped(Check::RoundTrip, found).await;
    };
    let may = is_whole.then_some(()).ok_or_else(|| {
        let found = "the token may not do both";
        Problem::new(Exit::NotPermitted, found, fix)
    });
    report.passed(Check::RoundTrip, may).await?;
    let taken = there_and_back(&connection, &topic, event).await;
    let taken = report.passed(Check::RoundTrip, taken).await?;
    let found = format!("an event was stored and came back within {taken:.1?}");
    report.ok(Check::RoundTrip, found).await
}

async fn schema(connection: &Connection, schema_id: String) -> Result<String, Problem> {
    let request = SchemaRequest { schema_id };
    let mut client = connection.pub_sub();
    let found = answered(client.get_schema(request)).await;
    let fix = "look at the gateway's log; `tidegate schema get` has the schema's text";
    let found = found.map_err(|status| {
        let error = ClientError::from(status);
        Problem::new(Exit::Failed, error, fix)
    })?;
    let info = found.into_inner();
    let schema = Schema::parse(&info.schema_json)
        .map_err(|error| Problem::new(Exit::Failed, format!("{}: {error}", info.schema_id), fix))?;
    Ok(format!("{}, {}", info.schema_id, schema.full_name()))
}

/// Publishes an event and waits for it. Returns how long that took.
async fn there_and_back(
    connection: &Connection,
    topic: &TopicName,
    event: Value,
) -> Result<Duration, Problem> {
    let first = FetchRequest {
        topic_name: topic.to_string(),
        replay_preset: ReplayPreset::Latest.into(),
        ..FetchRequest::default()
    };
    let fix = "look at the gateway's log, and at `tidegate subscribe` of the topic";
    let failed = |error: ClientError| Problem::new(Failure::from(error.clone()).exit(), error, fix);
    let opening = answered(Subscription::open(connection, first, u32::MAX));
    let mut stream = opening.await.map_err(|status| failed(status.into()))?;
    let publisher = Publisher::builder(connection.clone(), topic.clone()).start();
    let began_at = Instant::now();
    let publishing = timeout(BACK_WITHIN, publisher.publish(Event::json(event)));
    let published = publishing.await.map_err(|_| {
        let seconds = BACK_WITHIN.as_secs();
        let found = format!("an event was sent, and not acknowledged within {seconds} s");
        Problem::new(Exit::Failed, found, fix)
    })?;
    let published = published.map_err(|error| {
        let fix = match error.is_retryable() {
            true => fix,
            false => "the event has to fit the schema: `tidegate schema get` prints it",
        };
        Problem::new(Exit::Failed, error, fix)
    })?;
    let coming = async {
        loop {
            let response = stream
                .next()
                .await
                .map_err(|status| failed(status.into()))?;
            let ended = || Problem::new(Exit::Failed, "the stream ended", fix);
            let response = response.ok_or_else(ended)?;
            for bytes in response.events.values().iter() {
                let event = ConsumerEvent::decode(bytes)
                    .ok()
                    .and_then(|event| event.event);
                if event.is_some_and(|event| event.id == published.event_id) {
                    return Ok(began_at.elapsed());
                }
            }
            stream.refill(u32::MAX).await;
        }
    };
    timeout(BACK_WITHIN, coming).await.unwrap_or_else(|_| {
        let seconds = BACK_WITHIN.as_secs();
        let found = format!("an event was stored, and did not come back within {seconds} s");
        Err(Problem::new(Exit::Failed, found, fix))
    })
}
