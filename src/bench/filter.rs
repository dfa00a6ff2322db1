//! Filters: what one evaluation takes, a reader far behind that wants little, and many subscribers with
//! few filters.

use std::{hint::black_box, time::Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use super::{
    child::Child,
    error::BenchError,
    in_time,
    load::{EventTemplate, LoadError, PublishLoad, schema, topic},
    publish::{Publishers, publish, publish_due, publish_one},
    reader::{ClientKind, Reader},
    target::Target,
};
use crate::{
    client::{Subscription, Wishes},
    filter::{Filter, FilterProgram},
    proto::{FetchRequest, ReplayPreset},
    schema::Schema,
    types::limits::CREDIT_MAX,
};

/// Nanoseconds that this process takes to evaluate a filter of two fields on one payload of the load, on
/// average over `events` of them.
///
/// # Errors
///
/// [`LoadError`]: there is no such payload.
pub fn evaluate(payload_bytes: usize, events: u64) -> Result<f64, LoadError> {
    let payload = EventTemplate::new(0, payload_bytes)?.payload();
    let schema = Schema::parse(&schema(0)).expect("the schema of the load is one");
    let filter: Filter = TWO_FIELDS.parse().expect("it is a filter");
    let program = FilterProgram::compile(&filter, &schema);
    let start = Instant::now();
    for _ in 0..events {
        let matches = program.matches(black_box(&payload));
        assert_eq!(
            black_box(matches),
            Ok(true),
            "each event of the load matches"
        );
    }
    Ok(start.elapsed().as_nanos() as f64 / events as f64)
}

/// Publishes a load of which each [`ONE_IN`]th event is wanted, reads those through a filter, and returns
/// the events per second that were looked at.
///
/// # Errors
///
/// If there are more wanted ones or fewer.
pub async fn filtered_catchup(target: &Target, load: &PublishLoad) -> Result<f64, BenchError> {
    let connection = target.connect(ClientKind::Own).await?;
    let before = publish_one(&connection, 0, load.payload_bytes).await?;
    let period = (ONE_IN / load.batch).max(1);
    let publishers = Publishers::connect_marking(target, load, period, WANTED).await?;
    publishers.run().await?;
    let wanted = load.events_sent() / (period * load.batch) as u64;
    let filter = format!("Due__c = {WANTED}");
    let start = Instant::now();
    let mut reader = Reader::begin_filtered(target, 0, before, ClientKind::Own, &filter).await?;
    reader.read(wanted).await?;
    Ok(load.events_sent() as f64 / start.elapsed().as_secs_f64())
}

/// Many subscribers of one topic, each with one of a few filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilteredLoad {
    /// What is published.
    pub publish: PublishLoad,
    /// How many there are.
    pub subscribers: usize,
    /// Filters that they share evenly.
    pub filters: usize,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Filtered {
    /// Evaluations of a filter for each event that was published.
    pub evaluations: f64,
    /// Events per second from the first request until each subscriber has the one that it waits for.
    pub published: f64,
}

/// Publishes events that nobody wants, and then one for each filter, and returns once every subscriber
/// has that.
///
/// # Errors
///
/// If an event is refused or does not arrive.
pub async fn filtered(
    child: &Child,
    target: &Target,
    load: &FilteredLoad,
) -> Result<Filtered, BenchError> {
    let publisher = target.connect(ClientKind::Own).await?;
    let before = publish_one(&publisher, 0, load.publish.payload_bytes).await?;
    let mut subscribers = Vec::with_capacity(load.subscribers);
    let mut connection = target.connect(ClientKind::Stock).await?;
    for number in 0..load.subscribers {
        if number % STREAMS_OF_CONNECTION == STREAMS_OF_CONNECTION - 1 {
            connection = target.connect(ClientKind::Stock).await?;
        }
        let first = FetchRequest {
            topic_name: topic(0),
            replay_preset: ReplayPreset::Custom.into(),
            replay_id: before.clone(),
            ..FetchRequest::default()
        };
        let wishes = Wishes {
            filter: Some(format!("Due__c = {}", 1 + number % load.filters)),
            ..Wishes::default()
        };
        let opening = Subscription::open_with(&connection, first, CREDIT_MAX, &wishes);
        subscribers.push(in_time(opening).await?);
    }
    let evaluated_before = evaluations(child).await?;
    let start = Instant::now();
    publish(target, &load.publish).await?;
    for filter in 1..=load.filters {
        publish_due(&publisher, 0, load.publish.payload_bytes, filter as f64).await?;
    }
    let mut running = JoinSet::<Result<(), BenchError>>::new();
    for mut subscription in subscribers {
        running.spawn(async move {
            loop {
                let response = in_time(subscription.next()).await?;
                let response = response.ok_or(BenchError::StreamEnded)?;
                if !response.events.values().is_empty() {
                    return Ok(());
                }
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("a subscriber of the bench does not panic")?;
    }
    let events = (load.publish.events_sent() + load.filters as u64) as f64;
    let took = start.elapsed().as_secs_f64();
    let evaluated = evaluations(child).await? - evaluated_before;
    Ok(Filtered {
        evaluations: evaluated / events,
        published: events / took,
    })
}

/// How often the gateway has evaluated a filter, as a scrape shows it.
async fn evaluations(child: &Child) -> Result<f64, BenchError> {
    let failed = || BenchError::io("cannot read the metrics of the gateway");
    let addr = child.http_addr()?;
    let request = format!("GET /metrics HTTP/1.0\r\nhost: {addr}\r\n\r\n");
    let mut stream = TcpStream::connect(&addr).await.map_err(failed())?;
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(failed())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(failed())?;
    let lines = answer.lines().filter(|line| line.starts_with(EVALUATIONS));
    let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    Ok(values.sum())
}

/// Of how many events one is wanted by a reader far behind.
pub const ONE_IN: usize = 1_000;
/// A filter that every event of the load matches, for which both of its fields are looked at.
const TWO_FIELDS: &str = "Amount__c > 10.5 AND Customer__c LIKE 'x%'";
/// When an event of the load is due that is wanted; the others are due at 0.
const WANTED: f64 = 1.0;
/// The service allows 1,000.
const STREAMS_OF_CONNECTION: usize = 100;
const EVALUATIONS: &str = "tidegate_broker_filtered_events_total";
