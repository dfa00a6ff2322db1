//! What the embedded log counts. Per group and per file, never per event.

use prometheus_client::{
    metrics::{
        counter::Counter,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// The figures of all logs of the process. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// From the queueing of an append to its answer, in seconds.
    pub append_seconds: Histogram,
    /// One sync of a segment, in seconds.
    pub sync_seconds: Histogram,
    /// Groups written.
    pub groups: Counter,
    /// Blocks written.
    pub blocks: Counter,
    /// Events written.
    pub events: Counter,
    /// Bytes written, headers included.
    pub bytes: Counter,
    /// Segments sealed.
    pub seals: Counter,
    /// Segments that retention removed.
    pub purged_segments: Counter,
    /// Segments made anew without what had to go.
    pub rewrites: Counter,
    /// Events erased one by one.
    pub erased_events: Counter,
    /// Segments that were found unsealed when their log was opened.
    pub recoveries: Counter,
    /// Places where acknowledged events were found lost.
    pub holes: Counter,
    /// Groups refused because the disk is full.
    pub disk_full: Counter,
    /// Logs that stopped taking events after a failed write or sync.
    pub poisoned: Counter,
    /// Reads that the disk had to answer.
    pub disk_reads: Counter,
    /// Footers of sealed segments that were read from the disk, or made anew from their blocks.
    pub footer_reads: Counter,
    /// Logs opened.
    pub openings: Counter,
    /// Logs closed because nobody used them.
    pub closings: Counter,
    /// Those of them that left something for their next opening to recover.
    pub unclean_closings: Counter,
    /// Closed logs that retention could not look at.
    pub closed_log_failures: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let latency = || Histogram::new(exponential_buckets(0.000_1, 2.0, 16));
        Self {
            append_seconds: latency(),
            sync_seconds: latency(),
            groups: Counter::default(),
            blocks: Counter::default(),
            events: Counter::default(),
            bytes: Counter::default(),
            seals: Counter::default(),
            purged_segments: Counter::default(),
            rewrites: Counter::default(),
            erased_events: Counter::default(),
            recoveries: Counter::default(),
            holes: Counter::default(),
            disk_full: Counter::default(),
            poisoned: Counter::default(),
            disk_reads: Counter::default(),
            footer_reads: Counter::default(),
            openings: Counter::default(),
            closings: Counter::default(),
            unclean_closings: Counter::default(),
            closed_log_failures: Counter::default(),
        }
    }
}

impl Metrics {
    /// Names the figures in `registry`, with the prefix `event_log`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("event_log");
        let latencies = [
            (
                "append",
                "From queueing an append to its answer",
                &self.append_seconds,
            ),
            ("sync", "One sync of a segment", &self.sync_seconds),
        ];
        for (name, help, metric) in latencies {
            registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
        }
        let counters = [
            ("groups", "Groups written", &self.groups),
            ("blocks", "Blocks written", &self.blocks),
            ("events", "Events written", &self.events),
            ("written_bytes", "Bytes written", &self.bytes),
            ("seals", "Segments sealed", &self.seals),
            (
                "purged_segments",
                "Segments removed by retention",
                &self.purged_segments,
            ),
            (
                "rewrites",
                "Segments made anew without what had to go",
                &self.rewrites,
            ),
            (
                "erased_events",
                "Events erased one by one",
                &self.erased_events,
            ),
            (
                "recoveries",
                "Segments found unsealed at opening",
                &self.recoveries,
            ),
            (
                "holes",
                "Places where acknowledged events are lost",
                &self.holes,
            ),
            (
                "disk_full",
                "Groups refused because the disk is full",
                &self.disk_full,
            ),
            (
                "poisoned",
                "Logs stopped by a failed write or sync",
                &self.poisoned,
            ),
            ("disk_reads", "Reads answered by the disk", &self.disk_reads),
            (
                "footer_reads",
                "Indexes of sealed segments read from the disk",
                &self.footer_reads,
            ),
            ("openings", "Logs opened", &self.openings),
            (
                "closings",
                "Logs closed because nobody used them",
                &self.closings,
            ),
            (
                "unclean_closings",
                "Closings that left something to recover",
                &self.unclean_closings,
            ),
            (
                "closed_log_failures",
                "Closed logs that retention could not look at",
                &self.closed_log_failures,
            ),
        ];
        for (name, help, metric) in counters {
            registry.register(name, help, metric.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stable() {
        let metrics = Metrics::default();
        metrics.groups.inc();
        metrics.sync_seconds.observe(0.002);
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("event_log_groups_total 1"), "{text}");
        assert!(text.contains("event_log_sync_seconds_count 1"), "{text}");
    }
}
