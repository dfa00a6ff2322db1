//! What subscriptions counted, as metrics: one set for each topic.

use std::{fmt, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use super::{Counters, Monitor, Status};

impl Monitor {
    /// Adds the metrics of these topics to a registry: `subscriber_…`, with the label `topic`.
    ///
    /// # Bounds
    ///
    /// One label set for each topic, and one besides for its state.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }
}

/// What a counter is called, what it counts, and where that is found.
type Count = (&'static str, &'static str, fn(&Counters) -> u64);
/// The same of a gauge; `None` while there is nothing to show.
type Measure = (&'static str, &'static str, fn(&Status) -> Option<f64>);

const COUNTERS: [Count; 11] = [
    (
        "subscriber_events_received",
        "Events that were delivered",
        |c| c.received,
    ),
    ("subscriber_events_done", "Events that were handled", |c| {
        c.done
    }),
    (
        "subscriber_duplicates",
        "Events that were passed over because they came before",
        |c| c.duplicates,
    ),
    (
        "subscriber_abandoned",
        "Events that were dropped without being handled",
        |c| c.abandoned,
    ),
    (
        "subscriber_retries",
        "Tries that failed and were made again",
        |c| c.retries,
    ),
    (
        "subscriber_dead_letters",
        "Events that became dead letters",
        |c| c.parked,
    ),
    (
        "subscriber_undecodable",
        "Events that could not be decoded",
        |c| c.undecodable,
    ),
    ("subscriber_disconnects", "Streams that broke", |c| {
        c.disconnects
    }),
    ("subscriber_gaps", "Positions that were refused", |c| c.gaps),
    (
        "subscriber_excess_events",
        "Events that came without having been asked for",
        |c| c.excess,
    ),
    (
        "subscriber_failed_saves",
        "Saves of the position that failed",
        |c| c.failed_saves,
    ),
];

const GAUGES: [Measure; 4] = [
    (
        "subscriber_in_flight",
        "Events that are being handled, or wait for it",
        |status| Some(status.in_flight as f64),
    ),
    (
        "subscriber_healthy",
        "1 if events come, as far as can be told",
        |status| Some(f64::from(u8::from(status.is_healthy()))),
    ),
    (
        "subscriber_silence_seconds",
        "Time since the gateway was heard",
        |status| status.silence.map(|silence| silence.as_secs_f64()),
    ),
    (
        "subscriber_checkpoint_age_seconds",
        "Time since the position was saved; it is lost when it is older than events are kept",
        |status| status.checkpoint_age.as_ref().map(Duration::as_secs_f64),
    ),
];

impl Collector for Monitor {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let statuses = self.statuses();
        for (name, help, read) in COUNTERS {
            let mut counters = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for status in &statuses {
                let labels = [("topic", status.topic.as_str())];
                let count = ConstCounter::new(read(&status.counters));
                count.encode(counters.encode_family(&labels)?)?;
            }
        }
        for (name, help, read) in GAUGES {
            let mut gauges = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for status in &statuses {
                let labels = [("topic", status.topic.as_str())];
                if let Some(value) = read(status) {
                    ConstGauge::new(value).encode(gauges.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::subscriber::lane::Lane;

    #[test]
    fn each_topic_has_its_metrics() {
        let lane = |topic: &str| {
            let lane = Lane::new(topic.parse().unwrap(), false, None);
            lane.lock().counters.received = 7;
            Arc::new(lane)
        };
        let monitor = Monitor(vec![lane("/event/A__e"), lane("/event/B__e")]);
        let mut registry = Registry::default();
        monitor.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(
            text.contains("subscriber_events_received_total{topic=\"/event/A__e\"} 7"),
            "{text}"
        );
        assert!(
            text.contains("subscriber_healthy{topic=\"/event/B__e\"} 0.0"),
            "{text}"
        );
        assert!(
            !text.contains("checkpoint_age_seconds{"),
            "none was saved: {text}"
        );
    }
}
