//! What the broker counts: publishes, refusals by reason, deliveries and lag.
//!
//! Labels are bounded: topics beyond [`TOPIC_LABELS_MAX`] and client names beyond
//! [`CLIENT_NAME_LABELS_MAX`] share one label each, reasons are enums, and tenants are shown only
//! while they are open. A topic that several tenants have is counted as one.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, counter::Counter, family::Family, gauge::ConstGauge},
    registry::Registry,
};

use super::{Broker, Delivered, Lag, PublishError, lag::newest, selection::Selection};
use crate::{
    clock::{Clock, Timestamp},
    event_log::{AppendError, LogState, TenantLog},
    types::{
        TopicId, TopicName,
        limits::{CLIENT_NAME_LABELS_MAX, MANAGED_LABELS_MAX, TENANT_LABELS_MAX, TOPIC_LABELS_MAX},
    },
};

/// The label of topics, and of client names, beyond their bound.
const OTHERS: &str = "other";

/// Everything the broker counts. Cheap to clone; clones share their counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics {
    published: Family<TopicLabel, Counter>,
    refused: Family<RefusalLabels, Counter>,
    failed: Family<FailureLabels, Counter>,
    delivered: Family<TopicLabel, Counter>,
    filtered: Family<TopicLabel, Counter>,
    unreadable: Family<TopicLabel, Counter>,
    duplicates: Family<TopicLabel, Counter>,
    managed_recoveries: Counter,
    topics: Arc<Labels>,
    subscriptions: Arc<Subscriptions>,
}

/// The values that a label has so far, whose number is bounded.
#[derive(Debug, Default)]
struct Labels(Mutex<HashSet<Arc<str>>>);

impl Labels {
    /// The label for `value`: the value itself while there are fewer than `max`.
    fn of(&self, value: &str, max: usize) -> Arc<str> {
        let mut labels = self.0.lock().expect("no holder of this lock panics");
        if let Some(label) = labels.get(value) {
            return Arc::clone(label);
        }
        if labels.len() >= max {
            return OTHERS.into();
        }
        let label: Arc<str> = value.into();
        labels.insert(Arc::clone(&label));
        label
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TopicLabel {
    topic: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    topic: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    topic: String,
    reason: &'static str,
}

/// Why one event was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusalReason {
    Event,
    Schema,
    Payload,
    NotStored,
}

impl RefusalReason {
    fn label(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Schema => "schema",
            Self::Payload => "payload",
            Self::NotStored => "not_stored",
        }
    }
}

/// Why a whole request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FailureReason {
    Overloaded,
    Refused,
    Unconfirmed,
}

impl FailureReason {
    fn label(self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::Refused => "refused",
            Self::Unconfirmed => "unconfirmed",
        }
    }
}

impl Metrics {
    /// Adds every metric to `registry`; `clock` is what lag is measured by.
    pub(super) fn register(&self, registry: &mut Registry, clock: Arc<dyn Clock>) {
        registry.register_collector(Box::new(LagCollector {
            subscriptions: Arc::clone(&self.subscriptions),
            clock,
        }));
        registry.register(
            "broker_published_events",
            "Events that were accepted and are durable",
            self.published.clone(),
        );
        registry.register(
            "broker_refused_events",
            "Events that were refused, by reason",
            self.refused.clone(),
        );
        registry.register(
            "broker_idempotence_duplicates",
            "Events that were not stored again, and answered like the first ones with their ids",
            self.duplicates.clone(),
        );
        registry.register(
            "broker_failed_publishes",
            "Publish requests of which no event was stored for certain, by reason",
            self.failed.clone(),
        );
        registry.register(
            "broker_delivered_events",
            "Events that were handed to subscribers",
            self.delivered.clone(),
        );
        registry.register(
            "broker_filtered_events",
            "Events that a filter was evaluated on, once for all subscribers that have it",
            self.filtered.clone(),
        );
        registry.register(
            "broker_unreadable_events",
            "Events that a filter could not read, and that do not match for that",
            self.unreadable.clone(),
        );
        registry.register(
            "broker_managed_recoveries",
            "Managed subscriptions whose position was not valid any more, and that went on elsewhere",
            self.managed_recoveries.clone(),
        );
    }

    /// The counters of publishing to one topic.
    pub(super) fn publish(&self, topic: &TopicName) -> PublishMetrics {
        let label = self.topic_label(topic);
        PublishMetrics {
            published: self.published.get_or_create_owned(&label),
            topic: label.topic.into(),
            refused: self.refused.clone(),
            failed: self.failed.clone(),
            duplicates: self.duplicates.clone(),
        }
    }

    /// How far the named subscribers of a topic are behind, by name: of those that share one, the one
    /// that is behind most.
    pub(super) fn named(
        &self,
        log: &Arc<dyn TenantLog>,
        topic: TopicId,
        now: Timestamp,
    ) -> impl Iterator<Item = (Arc<str>, Lag)> {
        let mut named: BTreeMap<Arc<str>, Lag> = BTreeMap::new();
        for progress in self.subscriptions.live() {
            let is_of_topic = *progress.topics == [topic] && Arc::ptr_eq(&progress.log, log);
            let Some(client) = progress.client.as_ref().filter(|_| is_of_topic) else {
                continue;
            };
            let lag = progress.lag(now);
            let most = named.entry(Arc::clone(client)).or_insert(lag);
            if lag.events > most.events {
                *most = lag;
            }
        }
        named.into_iter()
    }

    /// The counters of one topic's filters.
    pub(super) fn filter(&self, topic: &TopicName) -> FilterMetrics {
        let label = self.topic_label(topic);
        FilterMetrics {
            filtered: self.filtered.get_or_create_owned(&label),
            unreadable: self.unreadable.get_or_create_owned(&label),
        }
    }

    /// Counts a managed subscription whose position was not valid any more.
    pub(super) fn managed_recovered(&self) {
        self.managed_recoveries.inc();
    }

    fn topic_label(&self, topic: &TopicName) -> TopicLabel {
        let label = self.topics.of(topic.as_str(), TOPIC_LABELS_MAX);
        TopicLabel {
            topic: label.to_string(),
        }
    }

    /// Counts a live subscription until the guard is dropped.
    pub(super) fn subscribed(
        &self,
        topic: &TopicName,
        client_name: Option<&str>,
        log: Arc<dyn TenantLog>,
        selection: &Selection,
    ) -> LagGuard {
        let label = self.topic_label(topic);
        let progress = Arc::new(Progress {
            topic: label.topic.as_str().into(),
            topics: selection.topics().into(),
            log,
            client: self.subscriptions.client_label(client_name),
            passed: AtomicU64::new(selection.passed()),
            passed_at: AtomicI64::new(i64::MAX),
        });
        LagGuard {
            id: self.subscriptions.add(Arc::clone(&progress)),
            progress,
            subscriptions: Arc::clone(&self.subscriptions),
            delivered: self.delivered.get_or_create_owned(&label),
        }
    }
}

/// The counters of publishing to one topic.
#[derive(Clone, Debug)]
pub(super) struct PublishMetrics {
    published: Counter,
    topic: Arc<str>,
    refused: Family<RefusalLabels, Counter>,
    failed: Family<FailureLabels, Counter>,
    duplicates: Family<TopicLabel, Counter>,
}

impl PublishMetrics {
    pub(super) fn published(&self, events: usize) {
        self.published.inc_by(events as u64);
    }

    pub(super) fn duplicate(&self) {
        let topic = self.topic.to_string();
        let counter = self.duplicates.get_or_create(&TopicLabel { topic });
        counter.inc();
    }

    pub(super) fn refused(&self, reason: RefusalReason) {
        let labels = RefusalLabels {
            topic: self.topic.to_string(),
            reason: reason.label(),
        };
        self.refused.get_or_create(&labels).inc();
    }

    pub(super) fn overloaded(&self) {
        self.count_failure(FailureReason::Overloaded);
    }

    /// Counts a request that failed, and turns the log's error into the publisher's.
    pub(super) fn failed(&self, error: AppendError) -> PublishError {
        match error {
            AppendError::Refused(refusal) => {
                self.count_failure(FailureReason::Refused);
                PublishError::Refused(refusal)
            }
            AppendError::Unconfirmed(source) => {
                self.count_failure(FailureReason::Unconfirmed);
                PublishError::Unconfirmed(source)
            }
        }
    }

    fn count_failure(&self, reason: FailureReason) {
        let labels = FailureLabels {
            topic: self.topic.to_string(),
            reason: reason.label(),
        };
        self.failed.get_or_create(&labels).inc();
    }
}

/// The counters of the filters of one topic.
#[derive(Clone, Debug)]
pub(super) struct FilterMetrics {
    filtered: Counter,
    unreadable: Counter,
}

impl FilterMetrics {
    pub(super) fn evaluated(&self, events: usize, unreadable: u64) {
        self.filtered.inc_by(events as u64);
        self.unreadable.inc_by(unreadable);
    }
}

/// The live subscriptions, whose lag is worked out when somebody asks.
#[derive(Debug, Default)]
struct Subscriptions {
    live: Mutex<Live>,
    client_labels: Labels,
}

#[derive(Debug, Default)]
struct Live {
    next_id: u64,
    by_id: HashMap<u64, Arc<Progress>>,
}

/// How far one subscription has come.
struct Progress {
    /// The label of its topic.
    topic: Arc<str>,
    topics: Box<[TopicId]>,
    log: Arc<dyn TenantLog>,
    client: Option<Arc<str>>,
    /// Events of the topics at or before the cursor.
    passed: AtomicU64,
    /// When the last of them was appended, in milliseconds; the largest number while there is none.
    passed_at: AtomicI64,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

/// Events and milliseconds between a subscription and the newest event of its topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Distance {
    events: u64,
    millis: u64,
}

impl Progress {
    fn distance(&self) -> Distance {
        let (ordinal, last_at) = newest(&*self.log, &self.topics);
        let events = ordinal.saturating_sub(self.passed.load(Ordering::Relaxed));
        if events == 0 {
            return Distance::default();
        }
        let passed_at = self.passed_at.load(Ordering::Relaxed);
        let millis = last_at.as_millis().saturating_sub(passed_at).max(0);
        Distance {
            events,
            millis: millis.unsigned_abs(),
        }
    }

    /// How far it is behind. The next event was appended after the last one that it got.
    fn lag(&self, now: Timestamp) -> Lag {
        let passed = self.passed.load(Ordering::Relaxed);
        let passed_at = self.passed_at.load(Ordering::Relaxed);
        let unread_at = || match passed_at {
            i64::MAX => newest(&*self.log, &self.topics).1,
            millis => Timestamp::from_millis(millis),
        };
        Lag::of(&*self.log, &self.topics, passed, unread_at, now)
    }
}

impl Subscriptions {
    fn add(&self, progress: Arc<Progress>) -> u64 {
        let mut live = self.live.lock().expect("no holder of this lock panics");
        let id = live.next_id;
        live.next_id += 1;
        live.by_id.insert(id, progress);
        id
    }

    fn remove(&self, id: u64) {
        self.live
            .lock()
            .expect("no holder of this lock panics")
            .by_id
            .remove(&id);
    }

    fn live(&self) -> Vec<Arc<Progress>> {
        let live = self.live.lock().expect("no holder of this lock panics");
        live.by_id.values().cloned().collect()
    }

    fn client_label(&self, name: Option<&str>) -> Option<Arc<str>> {
        name.map(|name| self.client_labels.of(name, CLIENT_NAME_LABELS_MAX))
    }
}

/// Counts one subscription's deliveries, and takes it off the live ones when dropped.
#[derive(Debug)]
pub(super) struct LagGuard {
    id: u64,
    progress: Arc<Progress>,
    subscriptions: Arc<Subscriptions>,
    delivered: Counter,
}

impl LagGuard {
    pub(super) fn delivered(&self, events: u32, last: Delivered) {
        self.delivered.inc_by(events.into());
        self.passed(last.passed);
        self.progress
            .passed_at
            .store(last.appended_at.as_millis(), Ordering::Relaxed);
    }

    /// The same for another selection.
    pub(super) fn of_selection(&self, selection: &Selection) -> Self {
        let passed_at = self.progress.passed_at.load(Ordering::Relaxed);
        let progress = Arc::new(Progress {
            topic: Arc::clone(&self.progress.topic),
            topics: selection.topics().into(),
            log: Arc::clone(&self.progress.log),
            client: self.progress.client.clone(),
            passed: AtomicU64::new(selection.passed()),
            passed_at: AtomicI64::new(passed_at),
        });
        Self {
            id: self.subscriptions.add(Arc::clone(&progress)),
            progress,
            subscriptions: Arc::clone(&self.subscriptions),
            delivered: self.delivered.clone(),
        }
    }

    pub(super) fn passed(&self, passed: u64) {
        self.progress.passed.store(passed, Ordering::Relaxed);
    }
}

impl Drop for LagGuard {
    fn drop(&mut self) {
        self.subscriptions.remove(self.id);
    }
}

/// Works lag out at each scrape: the maximum over the subscriptions that share labels.
#[derive(Debug)]
struct LagCollector {
    subscriptions: Arc<Subscriptions>,
    clock: Arc<dyn Clock>,
}

impl Collector for LagCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let live = self.subscriptions.live();
        let now = self.clock.now();
        let mut counts: BTreeMap<Vec<(&'static str, String)>, i64> = BTreeMap::new();
        let mut lags: BTreeMap<Vec<(&'static str, String)>, Distance> = BTreeMap::new();
        let mut left: BTreeMap<Vec<(&'static str, String)>, Duration> = BTreeMap::new();
        for progress in &live {
            let mut labels = vec![("topic", progress.topic.to_string())];
            *counts.entry(labels.clone()).or_default() += 1;
            let lag = progress.distance();
            let time_to_loss = progress.lag(now).time_to_loss;
            let mut raise = |labels: Vec<_>| {
                if let Some(time) = time_to_loss {
                    let min = left.entry(labels.clone()).or_insert(time);
                    *min = time.min(*min);
                }
                let max = lags.entry(labels).or_default();
                max.events = max.events.max(lag.events);
                max.millis = max.millis.max(lag.millis);
            };
            raise(labels.clone());
            if let Some(client) = &progress.client {
                labels.push(("client", client.to_string()));
                raise(labels);
            }
        }
        let mut gauges = encoder.encode_descriptor(
            "broker_subscriptions",
            "Live subscriptions",
            None,
            MetricType::Gauge,
        )?;
        for (labels, &count) in &counts {
            ConstGauge::new(count).encode(gauges.encode_family(labels)?)?;
        }
        let mut gauges = encoder.encode_descriptor(
            "broker_lag_events",
            "Events between the slowest live subscription and its topic's newest",
            None,
            MetricType::Gauge,
        )?;
        for (labels, lag) in &lags {
            let events = i64::try_from(lag.events).unwrap_or(i64::MAX);
            ConstGauge::new(events).encode(gauges.encode_family(labels)?)?;
        }
        let mut gauges = encoder.encode_descriptor(
            "broker_lag_seconds",
            "Time between the last event that the slowest live subscription got and its topic's newest",
            None,
            MetricType::Gauge,
        )?;
        for (labels, lag) in &lags {
            let seconds = lag.millis as f64 / 1_000.0;
            ConstGauge::new(seconds).encode(gauges.encode_family(labels)?)?;
        }
        let mut gauges = encoder.encode_descriptor(
            "broker_time_to_loss_seconds",
            "Time until retention removes an event that a live subscription has not got yet",
            None,
            MetricType::Gauge,
        )?;
        for (labels, time) in &left {
            ConstGauge::new(time.as_secs_f64()).encode(gauges.encode_family(labels)?)?;
        }
        Ok(())
    }
}

/// Asks the logs at each scrape how large they are and how far they reach.
#[derive(Debug)]
pub(super) struct LogCollector(pub(super) Broker);

impl Collector for LogCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut logs = self.0.logs();
        let open = i64::try_from(logs.len()).unwrap_or(i64::MAX);
        let gauge = encoder.encode_descriptor(
            "broker_open_tenants",
            "Tenants whose log and schemas are open",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(open).encode(gauge)?;
        logs.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        logs.truncate(TENANT_LABELS_MAX);
        let states: Vec<_> = logs
            .iter()
            .map(|(tenant, log)| (tenant, log.state()))
            .collect();
        type Read = fn(&LogState) -> u64;
        let gauges: [(&str, &str, Read); 4] = [
            ("event_log_size_bytes", "Bytes of storage in use", |state| {
                state.bytes
            }),
            (
                "event_log_segments",
                "Segments, the open one included",
                |state| state.segments,
            ),
            (
                "event_log_head_position",
                "The last durable position",
                |state| state.head.get(),
            ),
            (
                "event_log_trim_position",
                "The newest purged position",
                |state| state.trim.get(),
            ),
        ];
        for (name, help, read) in gauges {
            let mut gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (tenant, state) in &states {
                let labels = [("tenant", tenant.as_str())];
                let value = i64::try_from(read(state)).unwrap_or(i64::MAX);
                ConstGauge::new(value).encode(gauge.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// Shows how far the managed subscriptions of the tenants that are open are behind.
#[derive(Debug)]
pub(super) struct ManagedCollector(pub(super) Broker);

impl Collector for ManagedCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut tenants = self.0.0.tenants.open();
        tenants.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        let known = tenants.iter().flat_map(|(id, tenant)| {
            let known = tenant.managed.known_lags(tenant).into_iter();
            known.map(|(config, streams, lag)| {
                let labels = [
                    ("tenant", id.to_string()),
                    ("subscription", config.developer_name),
                    ("topic", config.topic.to_string()),
                ];
                (labels, streams, lag)
            })
        });
        let known: Vec<_> = known.take(MANAGED_LABELS_MAX).collect();
        type Read = fn(usize, &Lag) -> Option<f64>;
        let gauges: [(&str, &str, Read); 4] = [
            (
                "broker_managed_active",
                "How many streams have the managed subscription",
                |streams, _| Some(streams as f64),
            ),
            (
                "broker_managed_lag_events",
                "Events that the managed subscription has not committed",
                |_, lag| Some(lag.events as f64),
            ),
            (
                "broker_managed_lag_seconds",
                "Age of the oldest event that the managed subscription has not committed",
                |_, lag| Some(lag.behind.as_secs_f64()),
            ),
            (
                "broker_managed_time_to_loss_seconds",
                "Time until retention removes an event that the managed subscription has not committed",
                |_, lag| lag.time_to_loss.map(|left| left.as_secs_f64()),
            ),
        ];
        for (name, help, read) in gauges {
            let mut gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, streams, lag) in &known {
                if let Some(value) = read(*streams, lag) {
                    ConstGauge::new(value).encode(gauge.encode_family(labels)?)?;
                }
            }
        }
        Ok(())
    }
}
