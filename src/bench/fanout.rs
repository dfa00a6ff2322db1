use std::time::Instant;

use tokio::task::JoinSet;

use super::{
    error::BenchError,
    load::PublishLoad,
    publish::{Publishers, publish_one},
    reader::{ClientKind, Reader},
    slow_link::SlowLink,
    target::Target,
};

/// A load with subscribers that read along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FanoutLoad {
    /// What is published.
    pub publish: PublishLoad,
    /// Subscribers, each on a connection of its own, evenly over the topics.
    pub subscribers: usize,
    /// Their settings.
    pub client: ClientKind,
    /// Subscribers besides, behind a link that carries 1 KB/s; nobody waits for them.
    pub slow_subscribers: usize,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Fanout {
    /// Events per second from the first request to the last answer.
    pub published: f64,
    /// Events per second from the first request to the last delivery, all subscribers together.
    pub delivered: f64,
    /// Events that were delivered, all subscribers together.
    pub deliveries: u64,
}

/// Publishes a load while subscribers read along, each of which gets every event of its topic.
///
/// # Errors
///
/// If an event is refused, or does not arrive, or one arrives too many.
pub async fn fanout(target: &Target, load: &FanoutLoad) -> Result<Fanout, BenchError> {
    // Behind an event that is there, so that none is missed by who begins a moment later.
    let publisher = target.connect(ClientKind::Own).await?;
    let topics = load.publish.topics.min(load.subscribers.max(1));
    let mut befores = Vec::new();
    for topic in 0..topics {
        befores.push(publish_one(&publisher, topic, load.publish.payload_bytes).await?);
    }
    let mut readers = Vec::new();
    for number in 0..load.subscribers {
        let topic = number % topics;
        let after = befores[topic].clone();
        readers.push((
            load.publish.events_of_topic(topic),
            Reader::begin(target, topic, after, load.client).await?,
        ));
    }
    // Read as fast as the link lets them, until this returns.
    let mut slow = JoinSet::new();
    for number in 0..load.slow_subscribers {
        let topic = number % topics;
        let link = SlowLink::open(target).await?;
        let after = befores[topic].clone();
        let reader = Reader::begin(&target.through(link.port), topic, after, load.client).await?;
        slow.spawn(async move {
            let (_link, mut reader) = (link, reader);
            while reader.next().await.is_ok() {}
        });
    }
    let publishers = Publishers::connect(target, &load.publish).await?;
    let start = Instant::now();
    let mut running = JoinSet::new();
    let mut wanted = 0;
    for (events, mut reader) in readers {
        wanted += events;
        running.spawn(async move { reader.read(events).await });
    }
    let published = publishers.run();
    let arrived = async {
        while let Some(ended) = running.join_next().await {
            ended.expect("a subscriber of the bench does not panic")?;
        }
        Ok(wanted as f64 / start.elapsed().as_secs_f64())
    };
    let (published, delivered) = tokio::try_join!(published, arrived)?;
    drop(slow);
    Ok(Fanout {
        published,
        delivered,
        deliveries: wanted,
    })
}
