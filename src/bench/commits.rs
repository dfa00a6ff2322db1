use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use super::{
    error::BenchError,
    in_time,
    latency::{HEAD_START, LatencyLoad, empty, micros, publish_steadily},
    load::{EventTemplate, topic},
    publish::publish_one,
    reader::ClientKind,
    target::Target,
};
use crate::{
    client::{Connection, ManagedSubscription},
    proto::{
        ManagedFetchRequest,
        admin::{CreateManagedSubscriptionRequest, ManagedSubscriptionKey},
    },
    types::limits::{CREDIT_MAX, MANAGED_SUBSCRIPTIONS_MAX},
};

/// Managed subscriptions that commit each event that they get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitsLoad {
    /// How many there are.
    pub subscriptions: usize,
    /// Events, and so commits of each, of a second.
    pub rate: u32,
    /// How long they come.
    pub duration: Duration,
}

/// Publishes at a steady pace to subscriptions that commit each event, and returns how long each
/// commit took to be answered, in microseconds. The subscriptions are made for this, and deleted.
///
/// A commit whose answer comes with that of a later one took until then.
///
/// # Errors
///
/// If one of them cannot be made, a commit is refused, or an event does not arrive.
pub async fn commits(target: &Target, load: &CommitsLoad) -> Result<Histogram<u64>, BenchError> {
    let connection = target.connect(ClientKind::Own).await?;
    // Behind an event that is there: each begins behind it and gets all of the load.
    publish_one(&connection, 0, PAYLOAD_BYTES).await?;
    let names: Vec<_> = (0..load.subscriptions)
        .map(|number| format!("TidegateBench{number}"))
        .collect();
    for name in &names {
        let request = CreateManagedSubscriptionRequest {
            developer_name: name.clone(),
            topic_name: topic(0),
            ..CreateManagedSubscriptionRequest::default()
        };
        let mut admin = connection.admin();
        in_time(admin.create_managed_subscription(request)).await?;
    }
    let measured = measure(target, load, &names).await;
    for name in names {
        let key = ManagedSubscriptionKey {
            developer_name: name,
            ..ManagedSubscriptionKey::default()
        };
        in_time(connection.admin().delete_managed_subscription(key)).await?;
    }
    measured
}

async fn measure(
    target: &Target,
    load: &CommitsLoad,
    names: &[String],
) -> Result<Histogram<u64>, BenchError> {
    let steady = LatencyLoad {
        rate: load.rate,
        batch: 1,
        duration: load.duration,
        payload_bytes: PAYLOAD_BYTES,
    };
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(target.connect(ClientKind::Own).await?);
    }
    let mut running = JoinSet::new();
    for (name, connection) in names.iter().zip(connections.iter().cycle()) {
        let stream = open(connection, name).await?;
        running.spawn(committer(stream, steady.requests().into()));
    }
    let publisher = target.connect(ClientKind::Own).await?;
    let template = EventTemplate::new(0, PAYLOAD_BYTES)?;
    let epoch = Instant::now() + HEAD_START;
    let publishing = publish_steadily(&publisher, &template, &steady, epoch, false);
    let committing = async {
        let mut all = empty();
        while let Some(ended) = running.join_next().await {
            all += &ended.expect("a subscriber of the bench does not panic")?;
        }
        Ok(all)
    };
    let (_, all) = tokio::try_join!(publishing, committing)?;
    Ok(all)
}

/// Opens a stream, and waits until it stands: a keepalive may be long in coming, so it asks to commit
/// nothing, which is refused at once.
async fn open(connection: &Connection, name: &str) -> Result<ManagedSubscription, BenchError> {
    let first = ManagedFetchRequest {
        developer_name: name.to_owned(),
        ..ManagedFetchRequest::default()
    };
    let mut stream = in_time(ManagedSubscription::open(connection, first, CREDIT_MAX)).await?;
    stream.commit(bytes::Bytes::new(), CREDIT_MAX).await;
    let answer = in_time(stream.next())
        .await?
        .ok_or(BenchError::StreamEnded)?;
    match answer.commit_response {
        Some(_) => Ok(stream),
        None => Err(BenchError::Foreign),
    }
}

/// Commits each of `wanted` events when it comes, and returns how long the answers took.
async fn committer(
    mut stream: ManagedSubscription,
    wanted: u64,
) -> Result<Histogram<u64>, BenchError> {
    let mut times = empty();
    let mut sent = VecDeque::new();
    // The first commit only opened the stream.
    let mut timed = stream.answered();
    let mut found = 0;
    while found < wanted || !stream.is_committed() {
        let response = in_time(stream.next()).await?;
        let response = response.ok_or(BenchError::StreamEnded)?;
        if let Some(answer) = response.commit_response {
            if let Some(error) = answer.error {
                return Err(BenchError::Refused(error.msg));
            }
            while timed < stream.answered() {
                let sent_at: Instant = sent.pop_front().expect("what is answered was sent");
                times.saturating_record(micros(sent_at.elapsed().as_secs_f64()));
                timed += 1;
            }
        }
        let events = response.fetch.events.values().len() as u64;
        if events > 0 {
            found += events;
            sent.push_back(Instant::now());
            stream
                .commit(response.fetch.latest_replay_id, CREDIT_MAX)
                .await;
        }
    }
    match found == wanted {
        true => Ok(times),
        false => Err(BenchError::Miscounted {
            what: "delivered",
            found,
            wanted,
        }),
    }
}

/// Connections that the streams share evenly.
const CONNECTIONS: usize = 10;
/// What is in an event does not matter here.
const PAYLOAD_BYTES: usize = 200;
/// The bench asks for no more than a tenant may have.
pub const COMMITTERS_MAX: u32 = MANAGED_SUBSCRIPTIONS_MAX as u32;
